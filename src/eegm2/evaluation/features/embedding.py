"""Representations of a store or of one recording file, with their times, as npz or parquet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegm2.atomic import whole_file
from eegm2.data.config import WindowConfig
from eegm2.data.files.readers import annotation_labels, read_raw
from eegm2.data.files.written import csv_text, frame
from eegm2.data.joins import canonical_marks, without_marks
from eegm2.data.names import shown
from eegm2.data.preparing.one_file import recording_of
from eegm2.data.preparing.worker import clip_labels
from eegm2.data.signal.preprocessing import preprocess_alike
from eegm2.data.signal.quality import typical_amplitude
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore
from eegm2.data.windows.dataset import window_dataset
from eegm2.data.windows.labelling import label_spans, labels_at
from eegm2.data.windows.scaling import scale_window
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import EmbedConfig
from eegm2.evaluation.features.centring import centred_windows
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.windows.from_store import refuse_mismatch, refuse_other_channels
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.model.config import EEGM2Config
from eegm2.model.features import feature_names, usual_kind
from eegm2.plugins import is_plugin
from eegm2.progress import Counted
from eegm2.training.checkpoint import INPUT, Checkpoint, load_checkpoint
from eegm2.training.runfolder import refuse_unwritable

TEXT = ("recording", "subject", "session", "label")


@dataclass(frozen=True)
class Embedding:
    """Features or representations of windows.

    Attributes
    ----------
    values : array, float32
        (n, n_features), or (n, representation_channels, steps) for the representation itself.
    start_s : array, shape (n,)
        Start of each window in its recording.
    window_s : float
        Length of a window.
    recording, subject, session, label : array of str, shape (n,)
        Origin, and the label that covers the window ("" where there is none).
    kind : str
        What `values` are: a kind of :func:`eegm2.model.features.window_features`, or sequence.
    config : EEGM2Config, optional
        Of the network, by which features are named.
    """

    values: NDArray[np.float32]
    start_s: NDArray[np.float64]
    window_s: float
    recording: NDArray[np.str_]
    subject: NDArray[np.str_]
    session: NDArray[np.str_]
    label: NDArray[np.str_]
    kind: str = "statistics"
    config: EEGM2Config | None = None

    def time_s(self) -> NDArray[np.float64]:
        """Return the centre of every step of a representation in its recording, (n, steps)."""
        steps = self.values.shape[-1]
        return self.start_s[:, None] + (np.arange(steps) + 0.5) * (self.window_s / steps)

    def frame(self) -> Any:
        """Return a pandas DataFrame with a row per window, or per step of a representation."""
        return frame(_columns(self))


def embed(
    run: str | Path,
    source: str | Path,
    out: str | Path,
    config: EmbedConfig | None = None,
    progress: Counted | None = None,
) -> Embedding:
    """Embed every window of a store or of a recording file and write the result, whole or not at all.

    Parameters
    ----------
    run : str or Path
        Run folder or checkpoint.
    source : str or Path
        Store (folder or URL), or an EEG file, which is prepared with the checkpoint's preprocessing.
    out : str or Path
        ``.npz``, ``.csv``, or ``.parquet`` (needs pyarrow).
    config : EmbedConfig, optional
        Kind and windows.
    progress : callable, optional
        Called with (windows done, windows in all).

    Raises
    ------
    ConfigError, DataError
        If the output's suffix is unknown, the source does not fit the checkpoint or is shorter than a window.
    """
    config, out = config or EmbedConfig(), Path(out)
    kind_of_file(out, config.format)
    if config.centre != "none" and config.kind == "sequence":
        raise ConfigError("centre: the sequence has no features to centre; choose another --kind")
    refuse_unwritable(out)
    checkpoint = load_checkpoint(run, config.which, needs=INPUT)
    if config.kind == "auto":
        config = replace(config, kind=usual_kind(checkpoint.config))
    windows = replace(
        checkpoint.windows,
        window_s=config.window_s or checkpoint.windows.window_s,
        stride_s=config.stride_s,
        scaling=config.scaling or checkpoint.windows.scaling,
        exclude_s=(),
    )
    if is_store(source):
        checkpoint, data, session, label = _from_store(checkpoint, source, windows, config)
    else:
        checkpoint, data, session, label = _from_file(checkpoint, Path(source), windows, config.positions)
    values = extract_features(
        checkpoint.model,
        data,
        batch_size=config.batch_size,
        device=config.device,
        kind=config.kind,
        progress=progress,
    )
    if config.centre != "none" and config.kind != "sequence":
        values = centred_windows(values, data, config.centre).astype(np.float32)
    made = Embedding(
        values,
        np.asarray(data.start_s),
        windows.window_s,
        data.recording,
        data.subject,
        session,
        label,
        config.kind,
        checkpoint.config,
    )
    write_embedding(out, made, config.format)
    return made


def is_store(source: str | Path) -> bool:
    """Return whether a source is a store: an URL, or a folder."""
    return "://" in str(source) or Path(source).is_dir()


def kind_of_file(out: Path, asked: str = "") -> str:
    """Return npz, csv or parquet: what is asked for, else by the file's ending.

    Raises
    ------
    ConfigError
        If the ending says nothing of that kind, or parquet has no pyarrow.
    """
    kind = asked or out.suffix.lower().removeprefix(".")
    if kind not in ("npz", "csv", "parquet"):
        raise ConfigError(
            f"--out {out}: unknown kind of file '{out.suffix}', expected .npz, .csv or .parquet, or --format"
        )
    if kind == "parquet":
        _pyarrow()
    return kind


def write_embedding(out: Path, made: Embedding, asked: str = "") -> None:
    """Write npz (arrays named as in :class:`Embedding`), csv or parquet (a row per window or step)."""
    kind = kind_of_file(out, asked)
    with whole_file(out, ending=f".{kind}") as temporary:
        if kind == "parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(_pyarrow().table(_columns(made)), temporary)
        elif kind == "csv":
            columns = _columns(made)
            rows = zip(*(values.tolist() for values in columns.values()))
            temporary.write_bytes(csv_text(list(columns), rows))
        else:
            np.savez(temporary, **_arrays(made))  # compressed it would be 7 % smaller and take a second


def _arrays(made: Embedding) -> dict[str, Any]:
    text = {name: getattr(made, name).astype(str) for name in TEXT}
    common = {"start_s": made.start_s, "window_s": np.float64(made.window_s), **text}
    if made.values.ndim == 3:
        return {"representation": made.values, "time_s": made.time_s(), **common}
    return {
        "features": made.values,
        "feature_names": np.array(feature_names(made.values.shape[1], made.kind, made.config)),
        **common,
    }


def _columns(made: Embedding) -> dict[str, Any]:
    text = {name: getattr(made, name).astype(str) for name in TEXT}
    if made.values.ndim == 2:
        columns = dict(zip(feature_names(made.values.shape[1], made.kind, made.config), made.values.T))
        return {**text, "start_s": made.start_s, **columns}
    n, channels, steps = made.values.shape
    rows = made.values.transpose(1, 0, 2).reshape(channels, n * steps)
    repeated = {name: np.repeat(values, steps) for name, values in {**text, "start_s": made.start_s}.items()}
    return {
        **repeated,
        "time_s": made.time_s().ravel(),
        **{f"channel_{i:03d}": row for i, row in enumerate(rows)},
    }


def _from_store(
    checkpoint: Checkpoint, source: str | Path, windows: WindowConfig, config: EmbedConfig
) -> tuple[Checkpoint, LabelledWindows, NDArray[np.str_], NDArray[np.str_]]:
    store = RecordingStore(source)
    checkpoint = checkpoint.on_montage(store.ch_names, config.positions)
    refuse_mismatch(checkpoint.header, store, str(checkpoint.path), allow=config.allow_mismatch)
    dataset = window_dataset(store, windows)
    names = np.array([*dataset.classes, ""])
    data = LabelledWindows.from_dataset(dataset)
    sessions = np.array([info.session for info in dataset.recordings])
    return checkpoint, data, sessions[dataset.index["recording"]], names[data.y]


def _from_file(
    checkpoint: Checkpoint, path: Path, windows: WindowConfig, positions: str
) -> tuple[Checkpoint, LabelledWindows, NDArray[np.str_], NDArray[np.str_]]:
    if is_plugin(windows.dataset):
        checkpoint.plain_windows("a single file")
    source = recording_of(path) if path.is_file() else None
    raw = source.load() if source is not None else read_raw(path)
    spans = annotation_labels(raw)
    if source is not None and source.labels is not None:
        spans = canonical_marks(source.labels)
    made = preprocess_alike(raw, checkpoint.preprocessing_of(raw.ch_names), where=str(path), marks=spans)
    checkpoint = checkpoint.on_montage(made.ch_names, positions)
    refuse_other_channels(checkpoint.header, made.ch_names, str(path))
    sfreq_hz = float(checkpoint.header["sfreq_hz"])
    length, stride = (round(s * sfreq_hz) for s in (windows.window_s, windows.stride_s or windows.window_s))
    total = made.array.shape[1]
    if total < length:
        raise DataError(
            f"{path}: {total / sfreq_hz:.2f} s long, a window has {windows.window_s:g} s; use --window-s"
        )
    parts = [np.arange(part.start, part.stop - length + 1, max(stride, 1)) for part in made.parts]
    starts = np.concatenate(parts).astype(np.int64)
    if not len(starts):
        raise DataError(
            f"{path}: none of its {len(parts)} continuous parts is as long as a window of "
            f"{windows.window_s:g} s; use --window-s"
        )
    view = np.lib.stride_tricks.sliding_window_view(made.array, length, axis=1)
    amplitude_uv = typical_amplitude(made.array) if windows.scaling == "recording" else None
    cut = np.ascontiguousarray(view[:, starts].transpose(1, 0, 2))
    x = scale_window(cut, windows.scaling, amplitude_uv)
    whose = (
        (shown(path.stem), shown(path.stem), "")
        if source is None
        else (source.recording_id, source.subject, source.session)
    )
    labels = clip_labels(without_marks(spans), total / sfreq_hz)[0] + tuple(made.marks)
    attributes = source.attributes if source is not None else {}
    info = RecordingInfo(*whose, total, sfreq_hz, made.ch_names, labels, attributes)
    recording, subject, session = (np.full(len(starts), text) for text in whose)
    none = np.zeros(len(starts), dtype=np.int64)
    data = LabelledWindows(x, none, subject, recording, starts / sfreq_hz, window_s=length / sfreq_hz)
    return checkpoint, data, session, _labels(info, windows, starts, length)


def _labels(
    info: RecordingInfo, windows: WindowConfig, starts: NDArray[np.int64], length: int
) -> NDArray[np.str_]:
    """Return the label of each window, "" where there is none."""
    spans = label_spans(info, windows)
    classes = sorted({span.label for span in spans})
    found: NDArray[np.str_] = np.array([*classes, ""])[
        labels_at(info, spans, windows, classes, starts, length)
    ]
    return found


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ConfigError(
            "--out: parquet needs pyarrow; pip install 'eegm2[parquet]', or write .npz"
        ) from error
    return pyarrow
