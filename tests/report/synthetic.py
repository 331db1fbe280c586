"""Plausible made-up contents of a report, for tests that need no run, store or model."""

from __future__ import annotations

import numpy as np

from eegm2.report.contents import (
    ClassPower,
    Evaluation,
    Probe,
    Reconstruction,
    Recording,
    Rejected,
    ReportData,
    TrainingLog,
)

CH_NAMES = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
XY = {
    "AF3": (-0.33, 0.72), "F7": (-0.81, 0.59), "F3": (-0.46, 0.5), "FC5": (-0.68, 0.3), "T7": (-1.0, 0.0),
    "P7": (-0.81, -0.59), "O1": (-0.31, -0.95),
}  # fmt: skip
XY.update({"O2": (0.31, -0.95), "P8": (0.81, -0.59), "T8": (1.0, 0.0), "FC6": (0.68, 0.3), "F4": (0.46, 0.5)})
XY.update({"F8": (0.81, 0.59), "AF4": (0.33, 0.72)})


def eeg(rng: np.random.Generator, n: int, n_chans: int, n_times: int, sfreq_hz: float = 128.0) -> np.ndarray:
    """Pink noise plus an alpha rhythm, shape (n, n_chans, n_times), about unit size."""
    frequency = np.fft.rfftfreq(n_times, 1 / sfreq_hz)
    shape = 1 / np.sqrt(np.maximum(frequency, 0.5))
    phases = rng.standard_normal((n, n_chans, len(frequency))) + 1j * rng.standard_normal(
        (n, n_chans, len(frequency))
    )
    alpha = np.exp(-0.5 * ((frequency - 10) / 0.8) ** 2) * np.linspace(0.3, 1.6, n_chans)[:, None]
    x = np.fft.irfft(phases * (shape + alpha), n_times)
    return x / np.quantile(np.abs(x), 0.95, axis=-1, keepdims=True)


def training_log(n_epochs: int = 60) -> TrainingLog:
    rng = np.random.default_rng(1)
    epoch = np.arange(n_epochs)
    decay = np.exp(-epoch / (n_epochs / 5))
    curves = {}
    for split, floor in (("train", 0.03), ("val", 0.05)):
        for name, size in (("l1", 0.55), ("spectral", 5.0)):
            noise = 1 + 0.04 * rng.standard_normal(n_epochs)
            curves[f"{split}_{name}"] = size * (decay + floor) * noise
        curves[f"{split}_loss"] = curves[f"{split}_l1"] + curves[f"{split}_spectral"]
    curves["lr"] = 5e-4 * np.minimum(
        (epoch + 3) / (0.1 * n_epochs + 3), np.cos(np.pi / 2 * epoch / n_epochs) ** 2 + 0.01
    )
    return TrainingLog(epoch + 1, curves)


def recordings(n: int = 12) -> list[Recording]:
    rng = np.random.default_rng(2)
    found = []
    for i in range(n):
        length = float(rng.uniform(280, 330))
        switch = 180.0
        order = ("eyes closed", "eyes open") if i % 2 else ("eyes open", "eyes closed")
        low, high = -rng.lognormal(4.2, 0.3), rng.lognormal(4.2, 0.3)
        quality = {
            "low_uv": low, "high_uv": high, "typical_uv": high / 5,
            "line_noise_ratio": float(10 ** rng.normal(0.6, 0.4)),
            "flat_channels": ["T7"] * (i == 5), "noisy_channels": ["O1", "O2"][: rng.poisson(0.6)],
            "clipped_share": 0.001 * i,
        }  # fmt: skip
        labels = ((5.0, 165.0, order[0]), (195.0, length - 196.0, order[1]))
        split = "train" if i < n * 0.6 else "val" if i < n * 0.8 else "test"
        found.append(
            Recording(f"sub-{i:03d}_task-eyes", f"{i:03d}", "", length, 128.0, labels, quality, split)
        )
    assert switch < 195
    return found


def reconstruction(n: int = 24, n_times: int = 512, n_chans: int = 14) -> Reconstruction:
    rng = np.random.default_rng(3)
    original = eeg(rng, n, n_chans, n_times)
    smooth = np.apply_along_axis(lambda x: np.convolve(x, [0.2, 0.6, 0.2], mode="same"), -1, original)
    size = rng.uniform(0.02, 0.25, (n, 1, 1))
    made = smooth + size * rng.standard_normal(original.shape)
    subjects = tuple(f"{8 + i % 3:03d}" for i in range(n))
    return Reconstruction(
        original,
        made,
        subjects,
        tuple(f"sub-{s}_task-eyes" for s in subjects),
        4.0 * np.arange(n),
        n_available=480,
    )


def probe(
    classes: tuple[str, ...] = ("eyes closed", "eyes open"), n_subjects: int = 14, seeds: int = 3
) -> Probe:
    rng = np.random.default_rng(4)
    n_classes, per = len(classes), 60
    subject = np.repeat([f"{i:03d}" for i in range(n_subjects)], per)
    y = np.tile(np.arange(per) % n_classes, n_subjects)
    ease = np.repeat(rng.uniform(0.1, 1.6, n_subjects), per)
    scores, protocols = {}, []
    for protocol, gain in (("linear", 1.0), ("light", 1.3)):
        scores[protocol] = []
        for seed in range(seeds):
            logits = 0.9 * rng.standard_normal((len(y), n_classes))
            logits[np.arange(len(y)), y] += gain * ease
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            scores[protocol].append(p)
            accuracy = float((p.argmax(axis=1) == y).mean())
            metrics = {"accuracy": accuracy, "balanced_accuracy": accuracy, "auroc": accuracy + 0.06}
            metrics |= {"auprc": accuracy + 0.05, "weighted_f1": accuracy - 0.01, "kappa": 2 * accuracy - 1}
            protocols.append({"protocol": protocol, "seed": seed, "metrics": metrics})
    centres = rng.standard_normal((n_subjects, 40))
    features = (
        np.repeat(centres, per, axis=0)
        + 0.6 * rng.standard_normal((len(y), 40))
        + y[:, None] * ease[:, None] * 0.8
    )
    task = {"classes": list(classes), "target": "annotations", "n_windows": 5 * len(y), "n_subjects": 68}
    return Probe("probe-eyes", task, protocols, {}, scores, {}, y, subject, features, y, subject)


def evaluation() -> Evaluation:
    rows = []
    names = ("linear", "light", "fine", "scratch", "band_power", "EEGNet", "ShallowFBCSPNet", "riemann")
    for i, name in enumerate(names):
        for metric, base in (("balanced_accuracy", 0.76), ("auroc", 0.84)):
            mean = base - 0.012 * ((i * 3) % 8)
            kind = name if i < 4 else "baseline"
            rows.append({"model": name, "kind": kind, "metric": metric, "mean": mean, "std": 0.01})
            rows[-1] |= {"ci_low": mean - 0.025}
            rows[-1] |= {"ci_high": mean + 0.022, "n_subjects": 68, "seeds": [0, 1, 2]}
    return Evaluation("experiments/eyes", rows)


def report_data() -> ReportData:
    """Everything filled in, as after a small but whole study."""
    found = recordings(12)
    header = {
        "format": 1,
        "model": {"n_chans": 14, "width": 16, "mixer": "mamba2"},
        "preprocessing": {"montage": "epoc14", "l_freq_hz": 0.5, "h_freq_hz": 40.0, "sfreq_hz": 128.0},
        "windows": {"window_s": 4.0, "stride_s": None, "scaling": "quantile95", "target": "annotations"},
        "ch_names": list(CH_NAMES),
        "sfreq_hz": 128.0,
        "data": {"store": "store", "manifest_sha256": "9f2c" * 16, "n_recordings": 12, "n_subjects": 12},
        "pretrain": {"preset": "eegm2", "width": 16, "epochs": 60, "batch_size": 8, "seed": 3},
        "epoch": 60, "step": 5400, "val_loss": 0.31, "commit": "02fc5df",
        "versions": {"eegm2": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
    }  # fmt: skip
    rng = np.random.default_rng(5)
    bands, classes = ("theta", "alpha"), ("eyes closed", "eyes open")
    power = ClassPower(rng.normal(10, 2, (2, 2, 14)), bands, classes, CH_NAMES, 480, 12)
    weights = {"first layer": rng.uniform(0.5, 1.5, 14)}
    splits = {s: tuple(r.subject for r in found if r.split == s) for s in ("train", "val", "test")}
    return ReportData(
        run="runs/eyes-small", header=header, splits=splits, split_seed=0, n_parameters=300_214,
        log=training_log(), recordings=found, ch_names=CH_NAMES, positions=XY, sfreq_hz=128.0,
        rejected=[Rejected("sub-013_eeg.edf", "truncated: 12 of 300 records; copy it again")],
        reconstruction=reconstruction(), class_power=power, electrode_weights=weights,
        probes=[probe()], evaluations=[evaluation()],
        command="eegm2 report runs/eyes-small --out report.html", created="2026-01-02 03:04 UTC",
        versions={"eegm2": "0.1.0", "matplotlib": "3.11", "numpy": "2.4"},
    )  # fmt: skip
