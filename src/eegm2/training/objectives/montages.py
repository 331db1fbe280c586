"""Electrodes of several stores as a network in training sees them, some of them left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from eegm2.data.electrodes import Positions, montage
from eegm2.model.covariance.electrodes import spread

_KEPT_SPREADS = 4096


class Montages(nn.Module):
    """Spreads of every store's electrodes, and of any subset of them.

    Parameters
    ----------
    ch_names : sequence of sequence of str
        Channels of each store.
    order : int
        Highest degree of the network's harmonics.
    positions : mapping, optional
        Places that no table knows.

    Raises
    ------
    ConfigError
        If an electrode has no position; see `eegm2.data.electrodes.electrode_spread`.
    """

    def __init__(
        self, ch_names: Sequence[Sequence[str]], order: int, positions: Positions | None = None
    ) -> None:
        super().__init__()
        self.order = order
        self._parts = [montage(names, positions) for names in ch_names]
        self._spreads: dict[tuple[int, bytes], Tensor] = {}
        for store_number, (places, channels) in enumerate(self._parts):
            share = np.abs(channels) / np.abs(channels).sum(1, keepdims=True)
            middle = share @ places
            middle = middle / np.linalg.norm(middle, axis=1, keepdims=True).clip(1e-9)
            self.register_buffer(f"places{store_number}", torch.from_numpy(middle).float(), persistent=False)

    def places(self, store_number: int) -> Tensor:
        """Return the directions of a store's channels, (n_chans, 3); a pair lies midway."""
        return self.get_buffer(f"places{store_number}")

    def spread(self, store_number: int, kept: Tensor | None = None) -> Tensor:
        """Return the map from a store's channels to harmonics, (n_harmonics, n_chans), or one per window.

        Parameters
        ----------
        store_number : int
        kept : Tensor of bool, shape (batch, n_chans), optional
            Channels that are there; the map is made from these, and is zero for the others.
        """
        device = self.places(store_number).device
        if kept is None:
            return self._of(store_number, np.ones(len(self.places(store_number)), bool)).to(device)
        return torch.stack([self._of(store_number, row) for row in kept.cpu().numpy()]).to(device)

    def _of(self, store_number: int, kept: np.ndarray) -> Tensor:
        key = store_number, kept.tobytes()
        if key not in self._spreads:
            if len(self._spreads) >= _KEPT_SPREADS:
                self._spreads.clear()
            places, channels = self._parts[store_number]
            used = np.abs(channels[kept]).sum(0) > 0
            found = np.zeros(((self.order + 1) ** 2 - 1, len(kept)))
            found[:, kept] = spread(places[used], self.order, channels[kept][:, used])
            self._spreads[key] = torch.from_numpy(found).float()
        return self._spreads[key]
