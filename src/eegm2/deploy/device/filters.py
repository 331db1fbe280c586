"""Causal filter and resampler of a stream, in blocks and with NumPy alone."""

from __future__ import annotations

import numpy as np

#: Samples that are filtered by one matrix product.
_BLOCK = 32


class BlockFilter:
    """Second-order sections run forwards once, with their state: `scipy.signal.sosfilt`, a block at a time.

    A cascade is linear in its input and its state. What a block puts out and the state that it leaves are
    therefore fixed matrices times both, which are found by running the recursion on unit vectors.

    Parameters
    ----------
    sos : array, shape (n_sections, 6)
        ``b0 b1 b2 1 a1 a2`` of every section.
    settled : array, shape (n_sections, 2)
        State in which a constant input of 1 has been there for ever (`scipy.signal.sosfilt_zi`).
    """

    def __init__(self, sos: np.ndarray, settled: np.ndarray) -> None:
        self.settled = np.asarray(settled, float).reshape(-1)
        size = len(self.settled)
        columns = np.concatenate([np.zeros((size, 1)), np.eye(size)], axis=1)
        outputs, self._left = [], [columns]
        for at in range(_BLOCK):
            inputs = np.zeros(size + 1)
            inputs[0] = at == 0
            y, columns = _one_sample(np.asarray(sos, float), inputs, columns)
            outputs.append(y)
            self._left.append(columns)
        self._seen = np.stack(outputs)[:, 1:]
        lag = np.subtract.outer(np.arange(_BLOCK), np.arange(_BLOCK))
        self._response = np.where(lag >= 0, np.stack(outputs)[:, 0][np.maximum(lag, 0)], 0.0)
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._state: np.ndarray | None = None

    def push(self, x: np.ndarray) -> np.ndarray:
        """Filter (n_chans, k) samples; the first sample's value is taken to have been there for ever."""
        if x.shape[1] == 0:
            return x
        if self._state is None:
            self._state = self.settled[:, None] * x[None, :, 0]
        y = np.empty(x.shape)
        for first in range(0, x.shape[1], _BLOCK):
            block = x[:, first : first + _BLOCK].T
            n = len(block)
            y[:, first : first + n] = (self._seen[:n] @ self._state + self._response[:n, :n] @ block).T
            kicks = np.stack([self._left[n - at][:, 0] for at in range(n)], axis=1)
            self._state = self._left[n][:, 1:] @ self._state + kicks @ block
        return y


def _one_sample(sos: np.ndarray, x: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run one sample of several series, (n,), through a cascade with states (2 n_sections, n)."""
    left = np.empty_like(state)
    for i, (b0, b1, b2, _, a1, a2) in enumerate(sos):
        y = b0 * x + state[2 * i]
        left[2 * i] = b1 * x - a1 * y + state[2 * i + 1]
        left[2 * i + 1] = b2 * x - a2 * y
        x = y
    return x, left


class BlockResampler:
    """Polyphase resampling in blocks; equals ``scipy.signal.resample_poly`` of the whole signal.

    Parameters
    ----------
    up, down : int
        Ratio of the rates.
    taps : array, shape (2 * half + 1,)
        Low-pass at the rate ``up`` times the input's, with gain `up`; of length 1 where nothing is resampled.

    Attributes
    ----------
    half : int
        Taps that look ahead; an output waits for ``half / up`` input samples.
    """

    def __init__(self, up: int, down: int, taps: np.ndarray) -> None:
        self.up, self.down, self.taps = up, down, np.asarray(taps, float)
        self.half = (len(self.taps) - 1) // 2
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._held: np.ndarray | None = None
        self._taken = 0
        self._given = 0

    def push(self, x: np.ndarray) -> np.ndarray:
        """Take (n_chans, k) samples and return (n_chans, m) at the new rate."""
        if self.up == self.down:
            self._held = x[:, :0]
            return x
        before = 2 * self.half // self.up + 1
        held = np.zeros((len(x), before)) if self._held is None else self._held
        rows = np.concatenate([held, x], axis=1)
        self._taken += x.shape[1]
        # output m needs inputs up to (m down + half) / up
        ready = max(self._given, ((self._taken - 1) * self.up - self.half) // self.down + 1)
        y = self._outputs(rows, self._taken - rows.shape[1], np.arange(self._given, ready))
        self._given = ready
        needed = max(0, -(-(ready * self.down - self.half) // self.up))
        keep = max(self._taken - needed, before)
        self._held = rows[:, -keep:] if keep <= rows.shape[1] else rows
        return y

    def flush(self) -> np.ndarray:
        """Return the outputs that are left, zeros taken to follow."""
        if self._held is None or self.up == self.down:
            return np.zeros((0, 0)) if self._held is None else self._held
        total, taken = -(-self._taken * self.up // self.down), self._taken
        tail = self.push(np.zeros((len(self._held), self.half // self.up + 2)))
        y = tail[:, : max(0, total - (self._given - tail.shape[1]))]
        self._taken = taken
        return y

    def _outputs(self, rows: np.ndarray, first: int, index: np.ndarray) -> np.ndarray:
        """Return outputs `index` from rows whose first column is input `first`."""
        lowest = -(-(index * self.down - self.half) // self.up)
        inputs = lowest[:, None] + np.arange(2 * self.half // self.up + 1)
        place = index[:, None] * self.down + self.half - inputs * self.up
        weights = np.where(place >= 0, self.taps[np.clip(place, 0, len(self.taps) - 1)], 0.0)
        columns = np.clip(inputs - first, 0, rows.shape[1] - 1)
        result: np.ndarray = np.einsum("cml,ml->cm", rows[:, columns], weights)
        return result
