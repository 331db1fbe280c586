"""The report's sections about what the model does: reconstruction, representation, downstream scores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from eegm2.report import figures
from eegm2.report.contents import Probe, ReportData
from eegm2.report.document import Section
from eegm2.report.figures.style import mean_and_spread, number
from eegm2.report.sections import count

_SPLIT_NOTE = {
    "val": "validation subjects, unseen in training",
    "test": "test subjects, unseen in training",
    "train": "training subjects (nobody was held out), so this shows fit, not generalisation",
}


def reconstruction_section(data: ReportData) -> Section:
    """Show originals against reconstructions in time: typical and worst window, error per channel."""
    section = Section("reconstruction", "Reconstruction")
    made = data.reconstruction
    if made is None:
        section.note(data.missing.get("reconstruction") or "No reconstruction was made for this report.")
        return section
    mse = ((made.original - made.reconstruction) ** 2).mean(axis=-1)
    r = figures.channel_correlation(made.original, made.reconstruction)
    section.text(
        f"{count(len(mse), 'window')} of {_SPLIT_NOTE.get(made.split, made.split)}"
        + (f", drawn evenly from {made.n_available:,}" if made.n_available > len(mse) else "")
        + f". The model sees a window scaled channel by channel ({made.unit}) and returns it."
    )
    section.facts(
        [
            (
                "ACMSE",
                f"{number(float(mse.mean()))} (mean squared error per channel, averaged over channels, §6)",
            ),
            ("Pearson's r, median over windows and channels", number(float(np.nanmedian(r)))),
            ("Pearson's r, lowest 5 %", f"below {number(float(np.nanquantile(r, 0.05)))}"),
        ]
    )
    order = np.argsort(mse.mean(axis=1), kind="stable")
    for place, row in (("Typical", order[len(order) // 2]), ("Worst", order[-1])):
        title = f"{place} window: subject {made.subjects[row]}, {made.start_s[row]:g} s"
        section.figure(
            partial(
                figures.reconstruction_traces,
                made.original[row],
                made.reconstruction[row],
                data.ch_names,
                data.sfreq_hz or 1.0,
                unit=made.unit,
                title=title,
            ),
            caption=f"{place} window by mean squared error, from recording {made.recordings[row]} at "
            f"{made.start_s[row]:g} s. Original thick, reconstruction thin; r: correlation in the window.",
            alt=f"{place.lower()} reconstruction",
        )
        if len(order) == 1:
            break
    section.figure(
        lambda: figures.channel_error(data.ch_names, mse, r),
        caption="Error and correlation per channel: median (dot) and central 80 % (bar) over windows.",
        alt="error per channel",
    )
    section.note(
        "A low error alone proves little: the network's full-resolution skip can carry the input to "
        "the output. "
        "Judge the representation by the downstream results."
    )
    return section


def spectra_section(data: ReportData) -> Section:
    """Show the power spectra of originals and reconstructions."""
    section = Section("spectra", "Power spectra")
    made = data.reconstruction
    if made is None:
        section.note(data.missing.get("reconstruction") or "No reconstruction was made for this report.")
        return section
    frequency_hz, original_db = figures.welch_db(made.original, data.sfreq_hz or 1.0)
    _, reconstruction_db = figures.welch_db(made.reconstruction, data.sfreq_hz or 1.0)
    section.figure(
        lambda: figures.power_spectra(frequency_hz, original_db, reconstruction_db, unit=made.unit),
        caption="Welch spectra of the same windows (Hann, half overlapping, segments of at most 2 "
        "s): median line, "
        "central 80 % of windows and channels shaded. Right: where the reconstruction gains or loses power.",
        alt="power spectra",
    )
    thinned = len(data.ch_names) > 20
    section.figure(
        lambda: figures.channel_spectra(frequency_hz, original_db, reconstruction_db, data.ch_names),
        caption="The same per channel: median and central 80 % over windows"
        + (f"; 20 of {len(data.ch_names)} channels, evenly picked." if thinned else "."),
        alt="power spectra per channel",
    )
    return section


def representation_section(data: ReportData, method: str = "pca") -> Section:
    """Show two-dimensional maps of the representation of each probe's test windows."""
    section = Section("representation", "Representation")
    probes = [probe for probe in data.probes if probe.features is not None]
    if not probes:
        section.note(
            data.missing.get("representation")
            or "No probe has stored its test windows' features (embedding.npz), so there is no map. "
            "Run: eegm2 probe RUN STORE --out DIR"
        )
        return section
    section.text(
        "Each dot is one test window: the nine statistics over time of every encoder channel (§3 of "
        "the paper), "
        "standardised, " + ("first two principal components." if method == "pca" else "by t-SNE.")
    )
    for probe in probes:
        assert probe.features is not None
        if len(probes) > 1:
            section.heading(probe.name)
        try:
            points, names = figures.project(probe.features, "tsne" if method == "tsne" else "pca")
        except ValueError as error:
            section.note(f"No map for {probe.name}: {error}.")
            continue
        labels = _label_names(probe.features_y, probe.classes)
        subjects = probe.features_subject
        section.figure(
            partial(figures.embedding_map, points, labels, subjects, names),
            caption=f"The same map of {count(len(points), 'window')}, coloured by label and by "
            "subject. Colours that "
            "part on the right and mix on the left mean that people differ more than conditions do.",
            alt="map of the representation by label and by subject",
        )
        n_subjects = len(np.unique(subjects))
        if n_subjects > 1:
            section.figure(
                partial(figures.subject_maps, points, labels, subjects, names),
                caption="Every subject alone, before all windows in grey"
                + (f"; the 12 subjects with most windows of {n_subjects}." if n_subjects > 12 else "."),
                alt="map of the representation, one panel per subject",
            )
    return section


def _label_names(y: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    return np.array([classes[i] if 0 <= i < len(classes) else "unlabelled" for i in np.asarray(y, dtype=int)])


def downstream_section(data: ReportData) -> Section:
    """Show every probe's scores as table and figure."""
    section = Section("downstream", "Downstream results")
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
        caption="Mean ± standard deviation over seeds; small ticks are single seeds. Dashed: the "
        "score of answering "
        "the most frequent class always (for AUROC and AUPRC, of a constant score).",
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
    section = Section("confusion", "Confusion, ROC and persons")
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
        correct = {
            p: np.mean([predicted == probe.y_true for predicted in probe.predicted(p)], axis=0)
            for p in probe.scores
        }
        if len(np.unique(probe.subject)) > 1:
            section.figure(
                partial(figures.subject_scores, probe.subject, correct),
                caption="Share of windows classified correctly for every test subject (mean over "
                "seeds). The spread "
                "between people is what an average hides.",
                alt="scores per test subject",
            )
    return section


def _confusions(probe: Probe, n_classes: int) -> dict[str, np.ndarray]:
    matrices = {}
    for protocol in probe.scores:
        counts = np.zeros((n_classes, n_classes))
        for predicted in probe.predicted(protocol):
            np.add.at(counts, (probe.y_true, predicted), 1)
        matrices[protocol] = counts / len(probe.scores[protocol])
    return matrices
