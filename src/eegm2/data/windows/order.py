"""The order of windows: a function of seed, epoch and rank alone, resumable in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from eegm2.errors import ConfigError


def epoch_order(
    n_windows: int,
    *,
    seed: int,
    epoch: int,
    labels: np.ndarray | None = None,
    shuffle: bool = True,
) -> np.ndarray:
    """Return the order in which one epoch visits the windows.

    Parameters
    ----------
    n_windows : int
        Number of windows.
    seed, epoch : int
        Both decide the order; the process and the machine do not.
    labels : ndarray of int, shape (n_windows,), optional
        Given: every class is drawn equally often (the epoch keeps about its length; windows of small classes
        repeat, those of large ones take turns between epochs) and windows labelled -1 are left out.
    shuffle : bool
        False: ascending order.

    Returns
    -------
    ndarray of int64
    """
    generator = np.random.default_rng([seed, epoch])
    if labels is None:
        return generator.permutation(n_windows) if shuffle else np.arange(n_windows)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])]
    if not groups:
        raise ConfigError("balanced sampling: no window has a label; turn it off or choose another target")
    per_class = -(-sum(map(len, groups)) // len(groups))
    drawn = []
    for group in groups:
        rounds = -(-per_class // len(group))
        drawn.append(np.concatenate([generator.permutation(group) for _ in range(rounds)])[:per_class])
    order = np.concatenate(drawn)
    return generator.permutation(order) if shuffle else np.sort(order)


def grouped_order(groups: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Return windows in an order in which `size` of one group follow one another.

    What is left of a group beyond whole sets comes last, as do groups that are smaller.

    Parameters
    ----------
    groups : ndarray of int, shape (n_windows,)
        A number for each window's group, its recording usually.
    size : int
        Windows of a set.
    generator : Generator
        Decides which windows meet, and the order of the sets.
    """
    sets: list[np.ndarray] = []
    left: list[np.ndarray] = []
    for group in np.unique(groups):
        members = generator.permutation(np.flatnonzero(groups == group))
        whole = len(members) // size * size
        sets += list(members[:whole].reshape(-1, size))
        left.append(members[whole:])
    sets = [sets[place] for place in generator.permutation(len(sets))]
    return np.concatenate([*sets, *(left[place] for place in generator.permutation(len(left)))])


class WindowSampler(Sampler[int]):
    """Deterministic, distributed, resumable order of windows for a DataLoader.

    Parameters
    ----------
    n_windows : int
        Length of the dataset.
    seed : int
        Seed of all epochs.
    labels : ndarray of int, optional
        Balanced sampling over these classes (see `epoch_order`).
    shuffle : bool
        False: ascending order in every epoch.
    rank, world_size : int
        This process and their number; every rank visits as many windows (the first are repeated to fill up).

    Notes
    -----
    Call `set_epoch` before each epoch. To resume, hand `load_state_dict` a state saved by
    `state_dict(position)`, where `position` is the number of windows this rank has trained on in the epoch:
    workers fetch ahead, so the sampler alone cannot know it.
    """

    def __init__(
        self,
        n_windows: int,
        *,
        seed: int = 0,
        labels: np.ndarray | None = None,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank: got {rank}, expected 0 to {world_size - 1}")
        if n_windows < 1:
            raise ConfigError(f"n_windows: got {n_windows}, expected at least 1")
        self.n_windows, self.seed, self.shuffle = n_windows, seed, shuffle
        self.labels = None if labels is None else np.asarray(labels)
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self._position = 0
        self._length = -(-len(self._epoch_order()) // world_size)

    def _epoch_order(self) -> np.ndarray:
        return epoch_order(
            self.n_windows, seed=self.seed, epoch=self.epoch, labels=self.labels, shuffle=self.shuffle
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; a new one starts at its first window."""
        if epoch != self.epoch:
            self.epoch, self._position = epoch, 0

    def __len__(self) -> int:
        return self._length - self._position

    def __iter__(self) -> Iterator[int]:
        order = np.resize(self._epoch_order(), self._length * self.world_size)[self.rank :: self.world_size]
        start, self._position = self._position, 0
        return iter(order[start:].tolist())

    def state_dict(self, position: int = 0) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on after `position` windows of this epoch."""
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "position": int(position),
            "n_windows": self.n_windows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state: the next iteration yields the rest of that epoch, later ones are whole.

        Raises
        ------
        ConfigError
            If the state belongs to another seed or number of windows.
        """
        for key in ("seed", "n_windows"):
            if state[key] != getattr(self, key):
                raise ConfigError(
                    f"sampler state: {key} was {state[key]}, now {getattr(self, key)}; "
                    "resume with the same data"
                )
        if not 0 <= state["position"] <= self._length:
            raise ConfigError(f"sampler state: position {state['position']}, expected 0 to {self._length}")
        self.epoch, self._position = int(state["epoch"]), int(state["position"])
