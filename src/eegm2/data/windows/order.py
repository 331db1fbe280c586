"""The order of windows: a function of seed and epoch alone, the same on every process and machine."""

from __future__ import annotations

import numpy as np


def epoch_order(n_windows: int, *, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """Return the order in which one epoch visits the windows.

    Parameters
    ----------
    n_windows : int
        Number of windows.
    seed, epoch : int
        Both decide the order; the process and the machine do not.
    shuffle : bool
        False: ascending order.

    Returns
    -------
    ndarray of int64, shape (n_windows,)
        Every window once.
    """
    return np.random.default_rng([seed, epoch]).permutation(n_windows) if shuffle else np.arange(n_windows)
