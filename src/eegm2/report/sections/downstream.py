"""What probes score, which classes they confuse, and how people differ."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from eegm2.report import figures
from eegm2.report.contents import Probe, ReportData
from eegm2.report.document import Section
from eegm2.report.figures.style import mean_and_spread


def downstream_section(data: ReportData) -> Section:
    """Show every probe's scores as table and figure."""
    section = Section(
        "downstream",
        "Downstream results",
        look="The distance of every score from its dashed line, and the number of test subjects it rests on.",
        then="Put a simple method beside it, eegm2 compare RUN band_power STORE --out DIR, before you "
        "believe a score.",
    )
    if data.missing.get("probes"):
        section.note(data.missing["probes"])
    if not data.probes and not data.missing.get("probes"):
        section.note("No probe has been run on this model yet. Run: eegm2 probe RUN STORE --out DIR")
    for probe in data.probes:
        if len(data.probes) > 1:
            section.heading(probe.name)
        task = probe.task
        tested = len(np.unique(probe.subject)) if len(probe.subject) else None
        section.facts(
            [
                ("Probe", probe.name),
                ("Classes", ", ".join(probe.classes)),
                ("Target", task.get("target")),
                ("Windows", f"{task['n_windows']:,}" if isinstance(task.get("n_windows"), int) else ""),
                ("Subjects", task.get("n_subjects")),
                ("Test windows", _class_counts(probe)),
                ("Test subjects", tested),
                ("Pretraining", task.get("pretraining_saw")),
            ]
        )
        for problem in probe.problems:
            section.note(problem)
        _scores(section, probe)
    return section


def _class_counts(probe: Probe) -> str:
    if not len(probe.y_true):
        return ""
    counts = np.bincount(probe.y_true[probe.y_true >= 0], minlength=len(probe.classes))
    names = [*probe.classes, *(str(i) for i in range(len(probe.classes), len(counts)))]
    return f"{len(probe.y_true):,} ({', '.join(f'{name} {n:,}' for name, n in zip(names, counts))})"


def _scores(section: Section, probe: Probe) -> None:
    """Add the table and the figure of a probe's scores."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in probe.protocols:
        for metric, value in (row.get("metrics") or {}).items():
            if isinstance(value, int | float):
                values.setdefault(str(metric), {}).setdefault(str(row.get("protocol")), []).append(
                    float(value)
                )
    if not values:
        section.note(f"{probe.name}: results.json holds no score.")
        return
    chance = {m: figures.no_skill(m, probe.y_true[probe.y_true >= 0], len(probe.classes)) for m in values}
    section.figure(
        lambda: figures.probe_scores(values, chance),
        caption="Mean ± standard deviation over seeds; small ticks are single seeds. Dashed: the score of "
        "answering the most frequent class always (for AUROC and AUPRC, of a constant score).",
        alt="probe scores",
    )
    protocols = list(dict.fromkeys(p for by_protocol in values.values() for p in by_protocol))
    rows = []
    for protocol in protocols:
        cells = [protocol, str(max(len(v.get(protocol, ())) for v in values.values()))]
        for metric in values:
            scores = np.array(values[metric].get(protocol, ()), dtype=float)
            cells.append(mean_and_spread(scores[np.isfinite(scores)]) if np.isfinite(scores).any() else "–")
        rows.append(cells)
    lines = [chance[m] for m in values]
    if any(line is not None for line in lines):
        rows.append(["no skill", "", *(f"{line:.3f}" if line is not None else "–" for line in lines)])
    section.table(["protocol", "seeds", *(figures.METRIC_NAMES.get(m, m) for m in values)], rows)


def confusion_section(data: ReportData) -> Section:
    """Show confusion matrices, ROC curves and the spread over test subjects."""
    section = Section(
        "confusion",
        "Confusion, calibration and persons",
        look="Which class is taken for which, whether probabilities lie on the diagonal, and who is far "
        "from the mean.",
        then="Look at the recordings of the worst subjects, eegm2 predict PROBE FILES --out DIR, before you"
        " tune anything.",
    )
    probes = [p for p in data.probes if p.scores and len(p.classes) >= 2 and len(p.y_true)]
    if not probes:
        section.note(
            "No probe has stored its predictions (predictions.npz), so there is no confusion matrix "
            "and no ROC curve."
        )
    for probe in probes:
        if len(probes) > 1:
            section.heading(probe.name)
        n = len(probe.classes)
        seeds = max(len(arrays) for arrays in probe.scores.values())
        section.figure(
            partial(figures.confusion_matrices, _confusions(probe, n), probe.classes),
            caption="Rows are true classes and add to 100 %; counts are test windows"
            + (f", averaged over {seeds} seeds" if seeds > 1 else "")
            + ". Predictions as in the table above: highest score, or threshold chosen on validation.",
            alt="confusion matrices",
        )
        positive = (
            f"“{probe.classes[1]}” against “{probe.classes[0]}”" if n == 2 else "each class against the rest"
        )
        section.figure(
            partial(figures.roc_curves, probe.y_true, probe.scores, probe.classes),
            caption=f"ROC of {positive}: thin lines are seeds, the thick line their mean. Dashed: no skill.",
            alt="ROC curves",
        )
        section.figure(
            partial(_calibration, probe),
            caption="Calibration: the share of windows that are of a class against the probability given to "
            "it, in groups of equally many windows (mean over seeds). Flatter than the diagonal: too sure.",
            alt="calibration",
        )
        correct = {
            p: np.mean([predicted == probe.y_true for predicted in probe.predicted(p)], axis=0)
            for p in probe.scores
        }
        if len(np.unique(probe.subject)) > 1:
            section.figure(
                partial(figures.subject_scores, probe.subject, correct),
                caption="Share of windows classified correctly for every test subject (mean over seeds). The "
                "spread between people is what an average hides.",
                alt="scores per test subject",
            )
    return section


def _calibration(probe: Probe) -> Figure:
    """Draw the calibration of two classes' second, or of all classes against the rest together."""
    mean = {protocol: np.mean(scores, axis=0) for protocol, scores in probe.scores.items()}
    if len(probe.classes) == 2:
        of_second = {protocol: score[:, 1] for protocol, score in mean.items()}
        return figures.calibration_curves(probe.y_true == 1, of_second, probe.classes[1])
    is_class = probe.y_true[:, None] == np.arange(len(probe.classes))
    flat = {protocol: score.ravel() for protocol, score in mean.items()}
    return figures.calibration_curves(is_class.ravel(), flat, "each class")


def _confusions(probe: Probe, n_classes: int) -> dict[str, np.ndarray]:
    matrices = {}
    for protocol in probe.scores:
        counts = np.zeros((n_classes, n_classes))
        for predicted in probe.predicted(protocol):
            np.add.at(counts, (probe.y_true, predicted), 1)
        matrices[protocol] = counts / len(probe.scores[protocol])
    return matrices
