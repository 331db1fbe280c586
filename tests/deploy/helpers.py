"""Small trained-looking models and recordings for the streaming tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import eegm2
from eegm2 import EEGM2, EEGM2Config

BUNDLED = Path(eegm2.__file__).parent / "data" / "bundled"


def network(preset: str = "eegm2", n_chans: int = 3, width: int = 8, seed: int = 0) -> EEGM2:
    """Return a small network with weights far from their initial symmetry."""
    torch.manual_seed(seed)
    model = EEGM2(EEGM2Config.preset(preset, n_chans=n_chans, width=width)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def signal(n_times: int, batch: int = 2, n_chans: int = 3, seed: int = 1) -> torch.Tensor:
    """Return noise with a slow drift."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, n_chans, n_times, generator=generator)
    return x + 0.05 * torch.randn(batch, n_chans, n_times, generator=generator).cumsum(dim=2)


def recording(number: int = 1) -> torch.Tensor:
    """Return a bundled real recording, (1, n_chans, n_times), each channel scaled to its 0.95 quantile."""
    import edfio

    edf = edfio.read_edf(sorted(BUNDLED.glob("*.edf"))[number])
    n = min(len(s.data) for s in edf.signals)
    x = np.stack([s.data[:n] for s in edf.signals]).astype(np.float32)
    x -= np.median(x, axis=1, keepdims=True)
    return torch.from_numpy(x / (np.quantile(np.abs(x), 0.95, axis=1, keepdims=True) + 1e-8))[None]


def cuts(n_times: int, size: int | None, seed: int = 0) -> list[int]:
    """Return lengths that add up to `n_times`: all `size`, or random ones from 0 to 90."""
    if size is not None:
        return [min(size, n_times - begin) for begin in range(0, n_times, size)]
    rng, lengths = np.random.default_rng(seed), []
    while sum(lengths) < n_times:
        lengths.append(min(int(rng.integers(0, 91)), n_times - sum(lengths)))
    return lengths


EPOC = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")


def checkpoint(
    path: Path, preset: str = "eegm2", ch_names: tuple[str, ...] = EPOC, **preprocessing: object
) -> Path:
    """Write a small model as ``eegm2 pretrain`` does, and return its path."""
    from eegm2.config import to_dict
    from eegm2.data.config import PreprocessingConfig, WindowConfig
    from eegm2.training.checkpoint import save_checkpoint

    header = {
        "preprocessing": to_dict(PreprocessingConfig(channels=ch_names, **preprocessing)),
        "windows": to_dict(WindowConfig(window_s=2.0)),
        "ch_names": list(ch_names),
        "sfreq_hz": 128.0,
    }
    save_checkpoint(path, network(preset, n_chans=len(ch_names)), header)
    return path
