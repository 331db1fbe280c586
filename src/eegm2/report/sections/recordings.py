"""The recordings: where they came from, how they were prepared, how good they are."""

from __future__ import annotations

import numpy as np

from eegm2.report import figures
from eegm2.report.contents import Recording, ReportData
from eegm2.report.document import Section
from eegm2.report.figures.topography import FEWEST
from eegm2.report.quality import quality_columns, quality_heading
from eegm2.report.sections.words import duration, option, setting, split_counts
from eegm2.words import count


def data_section(data: ReportData) -> Section:
    """Show the recording and preprocessing facts, the montage and the labels over time."""
    section = Section(
        "data",
        "Data and preprocessing",
        look="Whether subjects, labels and channels are those that you expect: what is wrong here is wrong "
        "everywhere.",
        then="Mend names and labels with eegm2 prepare --table and a new store; the rest of the report "
        "follows from it.",
    )
    prepared, windows = data.header.get("preprocessing", {}), data.header.get("windows", {})
    lengths = [r.duration_s for r in data.recordings]
    facts: list[tuple[str, object]] = [
        ("Recordings", f"{len(lengths)}, {duration(sum(lengths))} in all" if lengths else ""),
        ("Length of a recording", f"{duration(min(lengths))} to {duration(max(lengths))}" if lengths else ""),
        (
            "Recordings split" if data.split_by == "recording" else "Subjects",
            ", ".join(split_counts(data)) or "",
        ),
        ("Split seed", data.split_seed),
        ("Sampling rate", f"{data.sfreq_hz:g} Hz" if data.sfreq_hz else ""),
        ("Channels", f"{len(data.ch_names)}: {', '.join(data.ch_names)}" if data.ch_names else ""),
    ]
    section.facts(facts)
    if data.missing.get("store"):
        section.note(data.missing["store"])
    stores = data.header.get("data", {}).get("stores")
    if isinstance(stores, list):
        section.heading("What came from where")
        section.table(
            [
                "store",
                "recordings",
                "people: train, validation",
                "windows: train, validation",
                "share",
                "channels",
                "licence",
            ],
            [_store_row(entry) for entry in stores if isinstance(entry, dict)],
        )
    for title, values in (("Preprocessing", prepared), ("Windows", windows)):
        if values:
            section.heading(title)
            section.facts([(option(key), setting(value)) for key, value in values.items()])
    known = [(n, data.positions[n]) for n in data.ch_names if n in data.positions]
    if known:
        absent = len(data.ch_names) - len(known)
        section.figure(
            lambda: figures.channel_positions([n for n, _ in known], np.array([p for _, p in known])),
            caption="Channels on the head, seen from above, nose up (standard positions; a bipolar pair is "
            "drawn half-way)."
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


def power_section(data: ReportData) -> Section | None:
    """Show the power of rhythms over the head for every class, where recordings carry labels."""
    power = data.class_power
    if power is None or len(data.positions) < FEWEST:
        return None
    section = Section(
        "power",
        "Band power per class",
        look="What differs between the rows of a column: gamma at the rim of the head is muscle, delta at "
        "the front is eyes.",
        then="Keep it in mind as what needs no network: eegm2 compare RUN band_power STORE --out DIR.",
    )
    section.figure(
        lambda: figures.band_power_maps(power.ch_names, power.power_db, power.bands, power.classes),
        caption=f"Over {count(power.n_windows, 'window')} of {count(power.n_subjects, 'subject')}, averaged "
        "within each subject first; each column of the upper rows has its own scale.",
        alt="maps of band power per class",
    )
    return section


def weights_section(data: ReportData) -> Section | None:
    """Show how strongly the network's first layers read each electrode, on maps of the head."""
    if not data.electrode_weights or len(data.positions) < FEWEST:
        return None
    section = Section(
        "weights",
        "What the network reads from each electrode",
        look="Single electrodes far from the rest, and whether those are the noisy ones of the quality "
        "control.",
        then="For what an answer depends on, look at the occlusion maps of eegm2 predict: later layers may "
        "undo these weights.",
    )
    section.figure(
        lambda: figures.topographic_maps(
            data.ch_names, data.electrode_weights, value_name="relative to the mean"
        ),
        caption="Root of the summed squares of the weights that read an electrode, 1 being the mean over "
        "electrodes. Windows are scaled before, so amplitudes do not count.",
        alt="maps of the weights of electrodes",
    )
    return section


def _store_row(entry: dict[str, object]) -> list[str]:
    """Return what a run recorded of one of its stores."""
    names = entry.get("ch_names")
    channels = list(map(str, names)) if isinstance(names, list) else []
    share = entry.get("share")
    return [
        str(entry.get("store", "")),
        str(entry.get("n_recordings", "")),
        f"{entry.get('n_train_subjects', '–')}, {entry.get('n_val_subjects', '–')}",
        f"{entry.get('n_train_windows', '–')}, {entry.get('n_val_windows', '–')}",
        f"{share:.0%}" if isinstance(share, float) else "–",
        f"{len(channels)}: {', '.join(channels)}",
        str(entry.get("licence") or "not stated"),
    ]


def quality_section(data: ReportData) -> Section:
    """Show what preparation measured on every recording, and what it rejected."""
    section = Section(
        "quality",
        "Quality control",
        look="Recordings far wider than the others, flat or noisy channels, and what preparation left out.",
        then="Leave windows beyond an amplitude out with --reject-uv, or whole recordings out of the folder.",
    )
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
