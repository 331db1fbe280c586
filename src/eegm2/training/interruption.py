"""Signals that end a run in an orderly way."""

from __future__ import annotations

import signal
import threading
from typing import Any

from eegm2.ending import NAMES
from eegm2.training.state import Interrupted


class Signals:
    """Remembers the first signal, so that the run ends after the current step; a second Ctrl-C ends it now.

    Attributes
    ----------
    caught : int or None
        Number of the signal that came.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._handlers: dict[int, Any] = {}

    def catch(self) -> None:
        """Take the signals."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in (*NAMES, "SIGUSR1"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._came)

    def _came(self, number: int, frame: Any) -> None:
        if self.caught is not None and number == signal.SIGINT:
            raise Interrupted(number)
        self.caught = number

    def release(self) -> None:
        """Give the signals back to whom they belonged."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
