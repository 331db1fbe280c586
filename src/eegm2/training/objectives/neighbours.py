"""What the minute around a window says of its state: a target that neither noise nor the person can fill.

A window's own tangent vector holds three things: who is recorded, in which state, and the noise of a few
seconds. Less the recording's mean the person goes; of the *neighbouring* windows instead of its own the noise
goes, since nothing that is only in this window can be in them. What is left to predict is the slow state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from eegm2.training.objectives.targets import Tangents

if TYPE_CHECKING:
    from eegm2.data.windows.dataset import WindowDataset
    from eegm2.data.windows.pooled import PoolWindows

_BATCH = 64
_LIMIT = 5.0


class Neighbourhoods(nn.Module):
    """Mean tangent vector of the windows around each window, less that of its recording.

    In standard deviations of each number over the windows of a store, within ±5. All are computed at the
    first use of a body of windows, by the first filter bank, and kept in half precision: 2 bytes per number
    and window.

    Parameters
    ----------
    tangents : Tangents
        Gives the vector of a whole window.
    inner : callable
        Maps windows (batch, n_chans, time) of a store to the channels that vectors are of.
    reach_s : float
        How far from a window's start its neighbours may start; windows that overlap it are none.

    References
    ----------
    Banville et al. (2021), J. Neural Eng. 18:046020, for neighbours in time as what is to be predicted;
    Wiskott and Sejnowski (2002), Neural Computation 14:715-770, for slowness.
    """

    def __init__(self, tangents: Tangents, inner: Callable[[Tensor, int], Tensor], reach_s: float) -> None:
        super().__init__()
        self.tangents, self.reach_s = tangents, reach_s
        self._inner = inner
        self._found: dict[int, tuple[PoolWindows, Tensor]] = {}

    def forward(self, windows: PoolWindows, index: list[int]) -> Tensor:
        """Return the targets of some windows, (batch, size); NaN where a window has no neighbour."""
        if id(windows) not in self._found:
            self._found[id(windows)] = windows, self._all(windows)
        return self._found[id(windows)][1][torch.as_tensor(index)].float()

    @torch.no_grad()
    def _all(self, windows: PoolWindows) -> Tensor:
        """Return the targets of all windows, (n_windows, size) in half precision."""
        parts = []
        for store_number, data in zip(windows.numbers, windows.datasets):
            vectors = self._vectors(data, store_number)
            spread = vectors.std(0, correction=0).clamp_min(1e-6)
            found = neighbour_means(vectors / spread, data.index, data.n_times, self._reach(data))
            parts.append(found.clamp(-_LIMIT, _LIMIT).half())
        return torch.cat(parts)

    def _reach(self, data: WindowDataset) -> int:
        return round(self.reach_s * data.store.sfreq_hz)

    def _vectors(self, data: WindowDataset, store_number: int) -> Tensor:
        """Return the tangent vector of every window of a store, (n_windows, size)."""
        device = next(self.tangents.parameters()).device
        found = []
        for first in range(0, len(data), _BATCH):
            items = range(first, min(first + _BATCH, len(data)))
            x = data.__getitems__(items).batch["x"].to(device)
            found.append(self.tangents.whole(self._inner(x, store_number).float()).cpu())
        return torch.cat(found)


def neighbour_means(vectors: Tensor, index: np.ndarray, n_times: int, reach: int) -> Tensor:
    """Return the mean of each window's neighbours less the mean of its recording.

    Parameters
    ----------
    vectors : Tensor, shape (n_windows, size)
    index : structured array (recording, start, …)
        Recording and first sample of each window.
    n_times, reach : int
        Neighbours start from `n_times` to `reach` samples before or after.

    Returns
    -------
    Tensor, shape (n_windows, size)
        NaN where a window has no neighbour.
    """
    found = torch.full_like(vectors, torch.nan)
    for recording in np.unique(index["recording"]):
        rows = np.flatnonzero(index["recording"] == recording)
        apart = np.abs(index["start"][rows][:, None] - index["start"][rows][None])
        near = torch.from_numpy((apart >= n_times) & (apart <= reach)).to(vectors)
        of_recording = vectors[rows] - vectors[rows].mean(0)
        found[rows] = (near @ of_recording) / near.sum(1, keepdim=True)  # 0 / 0 is NaN
    return found
