"""What was trained on what, and what its size leaves open."""

from __future__ import annotations

import numpy as np

from eegm2.report import figures
from eegm2.report.contents import ReportData
from eegm2.report.document import Section
from eegm2.report.figures.style import number
from eegm2.report.sections.words import SPLIT_WORDS, duration
from eegm2.words import count

FEW_SUBJECTS = 20
TASK_WORDS = {
    "reconstruction": "to reconstruct EEG",
    "masked": "to reconstruct hidden EEG",
    "denoising": "to remove noise from EEG",
    "oscillatory": "to predict the oscillations of hidden EEG",
}


def summary(data: ReportData) -> Section:
    """Say what was trained on what, with the caveats that its size asks for."""
    section = Section(
        "summary",
        "Summary",
        look="The number of people, and the notes on what a result of this size cannot say.",
        then="Read the sections from the top: what is wrong with the data explains most of what comes after.",
    )
    pretrain, header = data.header.get("pretrain", {}), data.header.get("data", {})
    n_subjects = len({r.subject for r in data.recordings}) or int(header.get("n_subjects") or 0)
    n_recordings = len(data.recordings) or int(header.get("n_recordings") or 0)
    tiles = []
    if n_subjects:
        tiles.append((f"{n_subjects:,}", "subject" if n_subjects == 1 else "subjects"))
    if data.recordings:
        tiles.append((duration(sum(r.duration_s for r in data.recordings)), "of EEG"))
    if data.n_parameters:
        tiles.append((f"{data.n_parameters:,}", "parameters"))
    if _best_loss(data) is not None:
        tiles.append((number(_best_loss(data) or 0.0), "best validation loss"))
    best = _best_probe(data)
    if best:
        tiles.append((f"{best[1]:.3f}", f"{best[2]}, {best[0]} probe"))
    section.tiles(tiles)
    preset = pretrain.get("preset") or "eegm2"
    chans = len(data.ch_names)
    text = [f"An EEGM2 model (preset “{preset}”"]
    text.append(f", width {pretrain.get('width') or data.header.get('model', {}).get('width', 'unknown')})")
    aim = TASK_WORDS.get(str(pretrain.get("objective", "reconstruction")), "on EEG")
    text.append(f" was pretrained, without labels, {aim}")
    several = header.get("stores")
    if isinstance(several, list) and several:
        sets = {tuple(entry.get("ch_names") or ()) for entry in several if isinstance(entry, dict)}
        kinds = f", {count(len(sets), 'set')} of electrodes" if len(sets) > 1 else ""
        text.append(f" of {count(len(several), 'store')}{kinds}")
    elif chans:
        text.append(
            f" of {count(chans, 'channel')} at {data.sfreq_hz:g} Hz"
            if data.sfreq_hz
            else f" of {chans} channels"
        )
    if data.tuned:
        text.append(". It was then tuned on labels")
    if n_recordings:
        text.append(f": {count(n_recordings, 'recording')} of {count(n_subjects, 'subject')}")
    text.append(".")
    if data.splits.get("train"):
        parts = [f"{len(data.splits[s])} for {w}" for s, w in SPLIT_WORDS.items() if data.splits.get(s)]
        text.append(
            f" {'Recordings' if data.split_by == 'recording' else 'Subjects'} were split: {', '.join(parts)}."
        )
    if data.log is not None:
        of = "tuning" if data.tuned else "training"
        text.append(f" It saw {count(len(data.log.epoch), 'epoch')} of {of}.")
    probes = [probe for probe in data.probes if probe.frozen]
    if probes:
        tasks = dict.fromkeys(" / ".join(probe.classes) or "classes unknown" for probe in probes)
        text.append(
            f" On the frozen encoder, {count(len(probes), 'probe')} "
            f"{'was' if len(probes) == 1 else 'were'} trained ({'; '.join(tasks)})."
        )
    section.text("".join(text))
    for caveat in _caveats(data, n_subjects):
        section.note(caveat)
    return section


def _best_loss(data: ReportData) -> float | None:
    values = data.log.curves.get("val_loss") if data.log is not None else None
    if values is not None and np.isfinite(values).any():
        return float(np.nanmin(values))
    value = data.header.get("val_loss")
    return float(value) if isinstance(value, int | float) else None


def _best_probe(data: ReportData) -> tuple[str, float, str] | None:
    """Return the first probe's protocol, balanced accuracy (or accuracy) and the metric's name."""
    for probe in data.probes:
        for metric in ("balanced_accuracy", "accuracy"):
            means: dict[str, list[float]] = {}
            for row in probe.protocols:
                value = row.get("metrics", {}).get(metric)
                if isinstance(value, int | float):
                    means.setdefault(str(row.get("protocol")), []).append(float(value))
            if means:
                name = "linear" if "linear" in means else next(iter(means))
                return name, float(np.mean(means[name])), figures.METRIC_NAMES[metric]
    return None


def _caveats(data: ReportData, n_subjects: int) -> list[str]:
    notes = []
    if n_subjects == 1:
        notes.append(
            "One person only. Training and testing share this person, so every score here shows that the "
            "pipeline works; it is no finding about EEG and says nothing of other people."
        )
    elif data.split_by == "recording":
        notes.append(
            "The split divides recordings, not people: scores here say little about people not recorded."
        )
    if 1 < n_subjects < FEW_SUBJECTS:
        notes.append(
            f"Only {n_subjects} subjects. Differences between people are large beside the effects measured "
            "here; take the scores as a check of the pipeline, not as a finding."
        )
    for probe in data.probes:
        tested = len(np.unique(probe.subject)) if len(probe.subject) else 0
        if n_subjects > 1 and 0 < tested < FEW_SUBJECTS:
            notes.append(
                f"The scores of {probe.name} rest on {count(tested, 'test subject')}. The ± is the spread "
                "over random seeds of the probe, not over people: another draw of people would move the "
                "scores more."
            )
    if data.log is not None and "val_loss" not in data.log.curves:
        same = n_subjects == 1 or data.split_by == "recording"  # people trained on and tested on
        what = "recordings that it did not see" if same else "unseen people"
        notes.append(f"No validation loss was logged: nothing here shows how the model does on {what}.")
    if data.log is not None and not data.tuned and len(data.log.epoch) < 10:
        notes.append(f"Training was short ({count(len(data.log.epoch), 'epoch')}; the paper trains for 500).")
    return notes
