"""Fit the linear head that a stream takes, on the labelled windows of a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from eegm2.data.store import RecordingStore
from eegm2.data.windows import WindowDataset
from eegm2.deploy.head import DenseHead
from eegm2.errors import ConfigError, DataError
from eegm2.model.network import EEGM2
from eegm2.training.checkpoint import load_checkpoint


def fit_head(
    run: str | Path,
    store: str | Path,
    *,
    subjects: list[str] | None = None,
    target: str = "annotations",
    classes: tuple[str, ...] | None = None,
    batch_size: int = 64,
) -> DenseHead:
    """Fit StandardScaler and one-vs-rest logistic regression on frozen features, the paper's Linear protocol.

    Parameters
    ----------
    run : str or Path
        Run folder or checkpoint.
    store : str or Path
        Recording store with labels; its channels and rate must be the checkpoint's.
    subjects : list of str, optional
        Fit on these only.
    target : str
        See :class:`eegm2.data.config.WindowConfig`.
    classes : tuple of str, optional
        Classes in the order of their numbers.
    batch_size : int
        Windows encoded at a time.

    Raises
    ------
    DataError
        If the store's channels or rate differ, or there are not two classes with windows.
    ConfigError
        If the checkpoint is no EEGM2 (it has no representation to stream).

    References
    ----------
    EEGM2, arXiv 2502.17873, section 4.3.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    checkpoint = load_checkpoint(run)
    model, header = checkpoint.model, checkpoint.header
    if not isinstance(model, EEGM2):
        raise ConfigError(f"{run}: a U-Net cannot be streamed; use eegm2, light, s1, s3 or s4")
    data = RecordingStore(store)
    if list(data.ch_names) != list(header["ch_names"]) or data.sfreq_hz != header["sfreq_hz"]:
        raise DataError(
            f"{store}: has channels {' '.join(data.ch_names)} at {data.sfreq_hz:g} Hz, the model expects "
            f"{' '.join(header['ch_names'])} at {header['sfreq_hz']:g} Hz; prepare it like the model's store"
        )
    config = replace(checkpoint.windows, target=target, stride_s=None)
    windows = WindowDataset(data, config, subjects=subjects, classes=classes, labelled=True)
    features, labels = [], []
    with torch.no_grad():
        for begin in range(0, len(windows), batch_size):
            items = [windows[i] for i in range(begin, min(begin + batch_size, len(windows)))]
            features.append(model.features(torch.stack([item["x"] for item in items])).numpy())
            labels += [item["y"] for item in items]
    y = np.array(labels)
    present = sorted(set(y.tolist()))
    if len(present) < 2:
        names = ", ".join(windows.classes[i] for i in present) or "none"
        raise DataError(f"{store}: labelled windows of {names} only; a head needs at least two classes")
    pipeline = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(max_iter=2000)))
    pipeline.fit(np.concatenate(features), y)
    return DenseHead.from_pipeline(
        pipeline,
        tuple(windows.classes[i] for i in present),
        window_s=config.window_s,
        scaling=config.scaling,
        target=target,
        n_windows=len(y),
        n_subjects=len(set(windows.subjects.tolist())),
        store_sha256=data.manifest_sha256,
    )
