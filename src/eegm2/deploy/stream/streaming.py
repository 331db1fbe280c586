"""Exact streaming: push samples in any cuts, get what is ready, with a fixed latency."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from eegm2.errors import ConfigError, DataError
from eegm2.model.inputs import dense_tensor
from eegm2.model.streaming.stream import StreamNetwork, StreamState
from eegm2.model.streaming.stream_state import flatten_state, unflatten_state

Output = Literal["reconstruction", "representation"]


class StreamingEEGM2:
    """A trained network that takes EEG as it comes and returns what the offline network would.

    Memory is constant in time and outputs come as early as they can be known: a representation step 9
    samples after the last sample that it covers, a reconstructed sample after at most 30 further ones (7 and
    28 with the kernel-3 embedding of S1 and S4; with the covariance embedding and a decoder a token more).

    Parameters
    ----------
    model : EEGM2
        Preset eegm2, light, s1, s3, s4 or covariance, or any configuration with a Mamba mixer. Weights must
        not change while it streams.
    output : {"reconstruction", "representation"}, optional
        What :meth:`push` returns; the default is the reconstruction, or the representation for models
        without decoder (light).
    n_times : int, optional
        Total samples to come, if known, at least 8. The interpolation of the offline network depends on the
        total where that is not a multiple of 8, so equality with it at such totals needs this; an open-ended
        stream flushed there stretches nothing and repeats the last interpolated step at the end, and its
        reconstruction differs from the offline one. The representation is exact either way.

    Raises
    ------
    ConfigError
        If the model cannot be streamed (s5, unet), has no decoder for a reconstruction, or an option is
        unknown; the message says why.

    Examples
    --------
    >>> import torch
    >>> from eegm2 import EEGM2, EEGM2Config, StreamingEEGM2
    >>> model = EEGM2(EEGM2Config.preset("eegm2", n_chans=4, width=8)).eval()
    >>> x = torch.randn(1, 4, 200)
    >>> stream = StreamingEEGM2(model)
    >>> y = torch.cat([stream.push(x[..., :77]), stream.push(x[..., 77:]), stream.flush()], dim=2)
    >>> bool(torch.allclose(y, model(x), atol=1e-4))
    True
    """

    def __init__(self, model: nn.Module, *, output: Output | None = None, n_times: int | None = None) -> None:
        config = getattr(model, "config", None)
        if output is None:
            output = "reconstruction" if getattr(config, "decoder", True) else "representation"
        if output not in ("reconstruction", "representation"):
            raise ConfigError(f"output: got {output!r}, expected 'reconstruction' or 'representation'")
        least = getattr(config, "step_samples", 1)
        if n_times is not None and n_times < least:
            raise ConfigError(f"n_times: got {n_times}, expected at least {least} samples")
        self.output = output
        self.network = StreamNetwork(model, n_times, reconstruct=output == "reconstruction")
        self._forget()

    def _forget(self) -> None:
        self._state: StreamState | None = None
        self._emitted = [0, 0]
        self._finished = False

    @property
    def latency_samples(self) -> int:
        """Samples that must follow a sample before its output is sure to be there."""
        return self.network.latency_samples

    def latency_s(self, sfreq_hz: float) -> float:
        """Return the latency in seconds at a sampling rate in hertz."""
        if not sfreq_hz > 0:
            raise ConfigError(f"sfreq_hz: got {sfreq_hz}, expected a positive sampling rate")
        return self.latency_samples / sfreq_hz

    @property
    def position(self) -> int:
        """Samples taken since the start or the last reset of everything."""
        return self._state.position if self._state is not None else 0

    @property
    def emitted(self) -> int:
        """Reconstructed samples, or representation steps, returned since then."""
        return self._emitted[self.output == "reconstruction"]

    def push(self, x: Tensor | np.ndarray) -> Tensor:
        """Take the next samples and return the outputs that are ready.

        Parameters
        ----------
        x : Tensor or array, shape (batch, n_chans, k)
            EEG scaled as in training, any k >= 0; the first push fixes the batch.

        Returns
        -------
        Tensor, shape (batch, n_chans, m) or (batch, representation_channels, m)
            The next m reconstructed samples or representation steps, m >= 0. NaN where an item was reset
            before its output was complete.

        Raises
        ------
        DataError
            If the shape does not fit, a value is not finite, more than `n_times` samples come, or the stream
            has been flushed; nothing is taken in then.
        """
        return self.advance(x)[self.output == "reconstruction"]

    def flush(self) -> Tensor:
        """End the stream and return all outputs that are left; :meth:`reset` begins a new one.

        Raises
        ------
        DataError
            If the stream holds some samples but fewer than a step of the representation, or fewer than the
            stated `n_times`.
        """
        return self.finish()[self.output == "reconstruction"]

    def advance(self, x: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """Like :meth:`push`, returning both the representation and the reconstruction that are ready.

        With ``output="representation"`` the reconstruction is always empty.
        """
        return self._step(self._checked(x), last=False)

    def finish(self) -> tuple[Tensor, Tensor]:
        """Like :meth:`flush`, returning both the representation and the reconstruction that are left."""
        n_times = self.network.n_times
        if self._finished:
            raise DataError("flush: the stream has been flushed already; call reset() to begin a new one")
        if n_times is not None and self.position != n_times:
            raise DataError(
                f"flush: got {self.position} of the stated n_times={n_times} samples; push the rest"
            )
        if 0 < self.position < (least := self.network.config.step_samples):
            raise DataError(
                f"flush: the stream holds {self.position} samples, expected none or at least {least}"
            )
        batch = len(self._state.starts) if self._state is not None else 1
        result = self._step(self.network.like.new_zeros(batch, self.network.config.n_chans, 0), last=True)
        self._finished = True
        return result

    def reset(self, items: list[int] | None = None) -> None:
        """Forget the past of everything, or let the streams of some batch items begin anew.

        Parameters
        ----------
        items : list of int, optional
            Batch items whose next sample is the first of a new recording. Their outputs for earlier samples
            that are not returned yet become NaN, the new ones keep the schedule of the batch.

        Raises
        ------
        ConfigError
            If items are given and the position is not a whole step of the representation (8 samples, or a
            token), or `n_times` is fixed.
        """
        if items is None:
            self._forget()
            return
        if self._finished:
            raise ConfigError("reset: the stream has been flushed; reset all items to begin a new one")
        if self._state is None:
            return
        batch = len(self._state.starts)
        wrong = [i for i in items if not 0 <= i < batch]
        if wrong:
            raise ConfigError(f"reset: got item {wrong[0]}, expected 0 to {batch - 1}")
        self._state = self.network.restart(self._state, list(items))

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that is remembered as named plain tensors, fit for safetensors."""
        flat = {
            "emitted": torch.tensor(self._emitted),
            "finished": torch.tensor(self._finished),
            "n_times": torch.tensor(self.network.n_times or 0),
        }
        return flat if self._state is None else flat | flatten_state(self._state)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where another stream with the same model, output and `n_times` stood.

        Raises
        ------
        ConfigError
            If the state belongs to another model or mode; the present state is kept then.
        """
        state = dict(state)
        missing = {"emitted", "finished", "n_times"} - set(state)
        if missing:
            raise ConfigError(f"stream state: '{min(missing)}' is missing; it was not saved by state_dict()")
        n_times = int(state.pop("n_times"))
        emitted, finished = state.pop("emitted").tolist(), bool(state.pop("finished"))
        if n_times != (self.network.n_times or 0):
            raise ConfigError(
                f"stream state: n_times is {n_times or None}, expected {self.network.n_times} as here"
            )
        self._state = unflatten_state(self.network, state) if state else None
        self._emitted, self._finished = emitted, finished

    def _checked(self, x: Tensor | np.ndarray) -> Tensor:
        """Return the input in the model's dtype and device, or refuse it before anything changes."""
        if self._finished:
            raise DataError("push: the stream has been flushed; call reset() to begin a new one")
        tensor = dense_tensor(x, "push")
        n_chans, n_times = self.network.config.n_chans, self.network.n_times
        batch = len(self._state.starts) if self._state is not None else None
        if tensor.dim() != 3 or tensor.shape[1] != n_chans or tensor.shape[0] == 0:
            raise DataError(f"push: got shape {tuple(tensor.shape)}, expected (batch, n_chans={n_chans}, k)")
        if batch is not None and tensor.shape[0] != batch:
            raise DataError(f"push: got a batch of {tensor.shape[0]}, but the stream began with {batch}")
        if n_times is not None and self.position + tensor.shape[2] > n_times:
            raise DataError(
                f"push: got {self.position + tensor.shape[2]} samples, more than the stated n_times={n_times}"
            )
        # one number tells nearly always: only a sum that overflows needs a second look
        if not math.isfinite(tensor.sum().item()) and not torch.isfinite(tensor).all():
            item, channel, sample = torch.nonzero(~torch.isfinite(tensor))[0].tolist()
            raise DataError(
                f"push: channel {channel} of item {item} is not finite at sample {self.position + sample}; "
                "fill the gap, or leave it out and reset the stream"
            )
        return tensor.to(self.network.like)

    def _step(self, x: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        if self._state is None:
            self._state = self.network.start(x.shape[0])
        representation, reconstruction, self._state = self.network.step(self._state, x, last=last)
        if reconstruction is None:
            reconstruction = x[..., :0]
        results = representation, reconstruction
        for i, (y, per_step) in enumerate(zip(results, (self.network.config.step_samples, 1))):
            for item, start in enumerate(self._state.starts):
                lost = start // per_step - self._emitted[i]
                if lost > 0 and y.shape[2]:
                    y[item, :, :lost] = torch.nan
            self._emitted[i] += y.shape[2]
        return results
