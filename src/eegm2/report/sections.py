"""The report's sections about the run: summary, data, quality, training, provenance."""

from __future__ import annotations

import json

import numpy as np

from eegm2.report import figures
from eegm2.report.contents import Recording, ReportData
from eegm2.report.document import Section
from eegm2.report.figures.style import number
from eegm2.report.quality import quality_columns, quality_heading

FEW_SUBJECTS = 20


def count(n: int, noun: str) -> str:
    """Return "1 subject", "68 subjects"."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def duration(seconds: float) -> str:
    """Return a length of time in words: "98 s", "12.5 min", "5.7 h"."""
    if seconds < 180:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def summary(data: ReportData) -> Section:
    """Say what was trained on what, with the caveats that its size asks for."""
    section = Section("summary", "Summary")
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
    text.append(" was pretrained, without labels, to reconstruct EEG")
    if chans:
        text.append(
            f" of {count(chans, 'channel')} at {data.sfreq_hz:g} Hz"
            if data.sfreq_hz
            else f" of {chans} channels"
        )
    if n_recordings:
        text.append(f": {count(n_recordings, 'recording')} of {count(n_subjects, 'subject')}")
    text.append(".")
    if data.splits.get("train"):
        parts = [f"{len(data.splits[s])} for {w}" for s, w in _SPLIT_WORDS.items() if data.splits.get(s)]
        text.append(
            f" {'Recordings' if data.split_by == 'recording' else 'Subjects'} were split: {', '.join(parts)}."
        )
    if data.log is not None:
        text.append(f" It saw {count(len(data.log.epoch), 'epoch')} of training.")
    if len(data.probes):
        task = data.probes[0]
        text.append(
            f" On the frozen encoder, {count(len(data.probes), 'probe')} "
            f"{'was' if len(data.probes) == 1 else 'were'} trained "
            f"({' / '.join(task.classes) or 'classes unknown'})."
        )
    section.text("".join(text))
    for caveat in _caveats(data, n_subjects):
        section.note(caveat)
    return section


_SPLIT_WORDS = {"train": "training", "val": "validation", "test": "testing"}


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
            f"Only {n_subjects} subjects. Differences between people are large beside the effects "
            "measured here; "
            "take the scores as a check of the pipeline, not as a finding."
        )
    for probe in data.probes:
        tested = len(np.unique(probe.subject)) if len(probe.subject) else 0
        if n_subjects > 1 and 0 < tested < FEW_SUBJECTS:
            notes.append(
                f"The scores of {probe.name} rest on {count(tested, 'test subject')}. The ± is the "
                "spread over "
                "random seeds of the probe, not over people: another draw of people would move the "
                "scores more."
            )
    if data.log is not None and "val_loss" not in data.log.curves:
        notes.append("No validation loss was logged: nothing here shows how the model does on unseen people.")
    if data.log is not None and len(data.log.epoch) < 10:
        notes.append(f"Training was short ({count(len(data.log.epoch), 'epoch')}; the paper trains for 500).")
    return notes


def data_section(data: ReportData) -> Section:
    """Show the recording and preprocessing facts, the montage and the labels over time."""
    section = Section("data", "Data and preprocessing")
    prepared, windows = data.header.get("preprocessing", {}), data.header.get("windows", {})
    lengths = [r.duration_s for r in data.recordings]
    facts: list[tuple[str, object]] = [
        ("Recordings", f"{len(lengths)}, {duration(sum(lengths))} in all" if lengths else ""),
        ("Length of a recording", f"{duration(min(lengths))} to {duration(max(lengths))}" if lengths else ""),
        (
            "Recordings split" if data.split_by == "recording" else "Subjects",
            ", ".join(_split_counts(data)) or "",
        ),
        ("Split seed", data.split_seed),
        ("Sampling rate", f"{data.sfreq_hz:g} Hz" if data.sfreq_hz else ""),
        ("Channels", f"{len(data.ch_names)}: {', '.join(data.ch_names)}" if data.ch_names else ""),
    ]
    section.facts(facts)
    if data.missing.get("store"):
        section.note(data.missing["store"])
    for title, values in (("Preprocessing", prepared), ("Windows", windows)):
        if values:
            section.heading(title)
            section.facts([(_words(key), _value(value)) for key, value in values.items()])
    known = [(n, data.positions[n]) for n in data.ch_names if n in data.positions]
    if known:
        absent = len(data.ch_names) - len(known)
        section.figure(
            lambda: figures.channel_positions([n for n, _ in known], np.array([p for _, p in known])),
            caption="Channels on the head, seen from above, nose up (standard positions; a bipolar "
            "pair is drawn "
            "half-way)."
            + (f" {count(absent, 'channel')} without a known position left out." if absent else ""),
            alt="channel positions",
        )
    elif data.ch_names:
        section.note("No positions are known for these channel names, so no map of the channels is drawn.")
    labelled = [r for r in data.recordings if r.labels]
    if labelled:
        shown = min(len(labelled), 40)
        section.figure(
            lambda: figures.label_timeline(
                [r.id for r in labelled],
                np.array([r.duration_s for r in labelled]),
                [r.labels for r in labelled],
            ),
            caption="Labels over "
            f"time{f', first {shown} of {len(labelled)} recordings' if shown < len(labelled) else ''}. "
            "Thin lines are unlabelled time.",
            alt="label timeline",
        )
    elif data.recordings:
        section.note("No recording carries labels; pretraining needs none, probing does.")
    return section


def _split_counts(data: ReportData) -> list[str]:
    return [f"{len(data.splits[s])} {w}" for s, w in _SPLIT_WORDS.items() if data.splits.get(s)]


_OPTION_WORDS = {
    "l_freq_hz": "high-pass edge (Hz)",
    "h_freq_hz": "low-pass edge (Hz)",
    "gpass_db": "pass-band loss (dB)",
    "gstop_db": "stop-band attenuation (dB)",
    "sfreq_hz": "sampling rate (Hz)",
    "lr": "learning rate",
    "train_l1": "training, temporal part",
    "train_spectral": "training, spectral part",
    "train_loss": "training, total",
    "val_l1": "validation, temporal part",
    "val_spectral": "validation, spectral part",
    "val_loss": "validation, total",
}


def _words(key: str) -> str:
    """Return an option's name as words, its unit suffix in brackets."""
    if key in _OPTION_WORDS:
        return _OPTION_WORDS[key]
    for suffix, unit in (("_hz", "Hz"), ("_s", "s"), ("_uv", "µV"), ("_db", "dB")):
        if key.endswith(suffix):
            return f"{key.removesuffix(suffix).replace('_', ' ')} ({unit})"
    return key.replace("_", " ")


def _value(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value) or "none"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def quality_section(data: ReportData) -> Section:
    """Show what preparation measured on every recording, and what it rejected."""
    section = Section("quality", "Quality control")
    recordings = data.recordings
    if not recordings:
        section.note(data.missing.get("store") or "No store was read, so there are no quality facts to show.")
    else:
        columns = quality_columns(recordings)
        low, high = columns.get("low_uv"), columns.get("high_uv")
        section.figure(
            lambda: figures.quality_overview(
                [r.id for r in recordings],
                np.array([r.duration_s for r in recordings]),
                np.stack([low, high], axis=1) if low is not None and high is not None else None,
                columns.get("line_db"),
                {name: columns[name] for name in ("flat", "noisy") if name in columns},
            ),
            caption="One row per recording. Amplitudes as stored, after preprocessing: a recording far wider "
            "than the others holds artefacts or another unit. Mains: power at 50 or 60 Hz over its "
            "surroundings, before filtering.",
            alt="quality control overview",
        )
        if not columns:
            section.note(
                "The store holds no quality facts for its recordings; only their durations are shown."
            )
        section.table(
            ["recording", "subject", "split", "length (s)", *_quality_head(columns)],
            [_quality_row(r, i, columns) for i, r in enumerate(recordings)],
            title=f"All {count(len(recordings), 'recording')}",
            folded=len(recordings) > 12,
        )
    if data.rejected:
        section.heading("Left out by preparation")
        section.table(["recording", "reason"], [(r.source, r.reason) for r in data.rejected])
    elif recordings:
        section.text("Preparation left no file out.")
    return section


_BAD_CHANNELS = {"flat": "flat_channels", "noisy": "noisy_channels"}


def _quality_head(columns: dict[str, np.ndarray]) -> list[str]:
    names = [c for c in columns if c not in ("high_uv", *_BAD_CHANNELS)]
    head = [quality_heading(c).replace("low (", "range (") for c in names]
    return head + (["bad channels"] if set(_BAD_CHANNELS) & set(columns) else [])


def _quality_row(recording: Recording, index: int, columns: dict[str, np.ndarray]) -> list[str]:
    cells = [recording.id, recording.subject, recording.split or "–", f"{recording.duration_s:.0f}"]
    bad = []
    for name, values in columns.items():
        value = values[index] * (100 if name == "clipped" else 1)
        if name in _BAD_CHANNELS:
            found = recording.quality.get(_BAD_CHANNELS[name])
            listed = " ".join(map(str, found)) if isinstance(found, list | tuple) else f"{value:.0f}"
            bad += [f"{name} {listed}"] if value > 0 else []
        elif name == "low_uv" and np.isfinite(value) and "high_uv" in columns:
            cells.append(f"{value:.0f} to {columns['high_uv'][index]:.0f}".replace("-", "−"))
        elif name != "high_uv":
            cells.append(f"{value:.1f}".replace("-", "−") if np.isfinite(value) else "–")
    return cells + ([", ".join(bad) or "none"] if set(_BAD_CHANNELS) & set(columns) else [])


def training_section(data: ReportData) -> Section:
    """Show the loss curves and how the run was configured."""
    section = Section("training", "Training")
    log = data.log
    if log is None:
        section.note(data.missing.get("log") or "The run holds no training log.")
    else:
        section.figure(
            lambda: figures.loss_curves(log.epoch, log.curves),
            caption=_loss_caption(data.header.get("pretrain", {})),
            alt="loss curves",
        )
        last = len(log.epoch) - 1
        rows = []
        for name, values in log.curves.items():
            if np.isfinite(values).any():
                final = values[np.isfinite(values)][-1]
                best = np.nanmin(values) if "loss" in name or name.endswith(("l1", "spectral")) else np.nan
                rows.append(
                    (_words(name), number(float(values[np.isfinite(values)][0])), number(best), number(final))
                )
        section.table(["metric", "first epoch", "lowest", f"last (epoch {int(log.epoch[last])})"], rows)
    if data.header.get("pretrain"):
        section.table(
            ["option", "value"],
            [(_words(k), _value(v)) for k, v in data.header["pretrain"].items()],
            title="Options of the run",
            folded=True,
        )
    return section


def _loss_caption(pretrain: dict[str, object]) -> str:
    text = (
        "Training (solid) and validation (dashed) loss per epoch. The total is the weighted sum of "
        "the temporal and "
        "spectral parts (Eq. 1 of the paper)."
    )
    if pretrain.get("norm", "backward") == "backward":
        text += (
            " The spectral part grows with a window's length, so compare it between runs of one length only."
        )
    if pretrain.get("objective", "reconstruction") != "reconstruction":
        text += f" The objective is {pretrain['objective']}: the loss is not that of plain reconstruction."
    return text


def provenance_section(data: ReportData) -> Section:
    """Show what is needed to repeat the run."""
    section = Section("provenance", "Provenance")
    header = data.header
    stored = header.get("data", {})
    section.facts(
        [
            ("Report made", data.created),
            ("Report command", data.command),
            ("Run", data.run),
            ("Run command", header.get("command")),
            ("Commit", header.get("commit") or "unknown"),
            ("Store", stored.get("store")),
            ("Manifest SHA-256", stored.get("manifest_sha256")),
            ("Checkpoint", _checkpoint_words(header)),
            ("Versions of the run", ", ".join(f"{k} {v}" for k, v in (header.get("versions") or {}).items())),
            ("Versions of the report", ", ".join(f"{k} {v}" for k, v in data.versions.items())),
        ]
    )
    if data.missing.get("header"):
        section.note(data.missing["header"])
    if header:
        section.code("Whole configuration", json.dumps(header, indent=2, ensure_ascii=False, default=str))
    return section


def _checkpoint_words(header: dict[str, object]) -> str:
    epoch, step = header.get("epoch"), header.get("step")
    if not isinstance(epoch, int):
        return ""
    return f"epoch {epoch}" + (f", step {step:,}" if isinstance(step, int) else "")
