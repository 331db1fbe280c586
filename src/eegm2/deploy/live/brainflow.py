"""BrainFlow boards as source; the synthetic and the playback board need no hardware."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from eegm2.data.channels import numbered
from eegm2.deploy.live.source import NOTHING, Chunk, SourceLost, named_channels, unit_factor
from eegm2.errors import ConfigError, DataError


class BrainflowSource:
    """A board of BrainFlow; missing packages are found by the board's own counter.

    Parameters
    ----------
    board : str
        BrainFlow's name, with or without ``_BOARD``, e.g. ``synthetic`` or ``cyton``; ``playback`` plays
        `file` as recorded by the synthetic board.
    serial_port, file : str
        As the board needs them.
    ch_names : sequence of str
        Where the electrodes are, in the board's order; none given: the board's own names.
    unit : str
        Of the board's numbers, where it is not microvolts.
    """

    can_wait = False
    clock = "unix"

    def __init__(
        self,
        board: str = "synthetic",
        *,
        serial_port: str = "",
        file: str = "",
        ch_names: Sequence[str] = (),
        unit: str = "",
    ) -> None:
        self.board, self.serial_port, self.file = board, serial_port, file
        self.name = f"BrainFlow board '{board}'"
        self.named, self.unit = list(ch_names), unit
        self.device = " ".join(filter(None, ["brainflow", board.lower().removesuffix("_board"), serial_port]))
        self.ch_names: list[str] = []
        self.sfreq_hz = 0.0
        self._shim: Any = None

    def open(self) -> None:
        """Connect and start the stream.

        Raises
        ------
        ConfigError
            If BrainFlow is missing or the board is unknown.
        SourceLost
            If the board cannot be reached.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from brainflow import BoardIds, BoardShim, BrainFlowError, BrainFlowInputParams
        except ImportError as error:
            raise ConfigError("brainflow: cannot be imported; pip install 'eegm2[stream]'") from error
        names = {b.name.removesuffix("_BOARD").lower(): b for b in BoardIds if b.value >= -3}
        names["playback"] = BoardIds.PLAYBACK_FILE_BOARD
        wanted = self.board.lower().removesuffix("_board")
        if wanted not in names:
            raise ConfigError(f"board: got '{self.board}', expected one of {', '.join(sorted(names))}")
        board = names[wanted]
        layout = BoardIds.SYNTHETIC_BOARD if wanted == "playback" else board
        parameters = BrainFlowInputParams()
        parameters.serial_port, parameters.file = self.serial_port, self.file
        if wanted == "playback":
            parameters.master_board = layout.value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it imports pkg_resources when it is first called
            BoardShim.disable_board_logger()
            description = BoardShim.get_board_descr(layout.value)
        if not description.get("eeg_channels"):
            raise DataError(f"{self.name}: has no EEG channels")
        self.sfreq_hz = float(description["sampling_rate"])
        self._rows = list(description["eeg_channels"])
        labels = str(description.get("eeg_names", "")).split(",")
        stated = labels if len(labels) == len(self._rows) else [f"EEG{i}" for i in range(len(self._rows))]
        self.ch_names, _ = numbered(named_channels(stated, self.named, len(stated), self.name))
        self._factor = unit_factor(self.unit, self.name)
        self._counter = description.get("package_num_channel")
        self._stamps = description["timestamp_channel"]
        shim = BoardShim(board.value, parameters)
        try:
            shim.prepare_session()
            shim.start_stream(int(60 * self.sfreq_hz))
        except BrainFlowError as error:
            raise SourceLost(f"{self.name}: cannot be started ({error})") from error
        self._shim, self._fresh, self._error = shim, True, BrainFlowError
        self._last: float | None = None

    def read(self, n: int, timeout_s: float) -> Chunk | None:
        """Return what has arrived."""
        try:
            return self._take(n, time.monotonic() + timeout_s)
        except self._error as error:
            raise SourceLost(f"{self.name}: lost ({error})") from error

    def _take(self, n: int, deadline: float) -> Chunk:
        while True:
            count = self._shim.get_board_data_count()
            if count >= n or (count and time.monotonic() > deadline):
                break
            if time.monotonic() > deadline:
                return NOTHING
            time.sleep(min(0.02, 0.5 * n / self.sfreq_hz))
        data = self._shim.get_board_data(max(count, n))
        fresh, self._fresh = self._fresh, False
        return Chunk(data[self._rows] * self._factor, data[self._stamps], self._gaps(data), fresh)

    def _gaps(self, data: np.ndarray) -> tuple[tuple[int, int], ...]:
        """Find missing packages by the counter, which wraps at 256."""
        if self._counter is None or (self._last is None and not data.shape[1]):
            return ()
        numbers = data[self._counter]
        before = np.concatenate([[numbers[0] - 1 if self._last is None else self._last], numbers[:-1]])
        self._last = float(numbers[-1])
        if numbers.max() > 255 or numbers.min() < 0:
            return ()
        missing = (numbers - before - 1) % 256
        return tuple((int(i), int(missing[i])) for i in np.flatnonzero(missing))

    def close(self) -> None:
        """Stop the stream."""
        if self._shim is not None:
            with contextlib.suppress(self._error):
                self._shim.release_session()
            self._shim = None

    def facts(self) -> dict[str, float]:
        """Return nothing: stamps are taken by the computer."""
        return {}
