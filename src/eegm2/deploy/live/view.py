"""The terminal view: a live table on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from eegm2.deploy.live.outputs import Outputs

_QUIET_S = 5.0


class TerminalView:
    """Shows rate, latency, dropped samples and class probabilities on standard error."""

    def __init__(self, title: str, classes: tuple[str, ...] | None) -> None:
        self.title, self.classes = title, classes
        self._decision: dict[str, Any] | None = None
        self._live: Any = None
        self._said = time.monotonic()

    def __enter__(self) -> TerminalView:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=5)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def push(self, outputs: Outputs, statistics: dict[str, Any]) -> None:
        """Show new outputs and statistics."""
        if outputs.decisions:
            self._decision = outputs.decisions[-1]
        for event in outputs.events:
            self._say(", ".join(f"{key} {value}" for key, value in event.items() if key != "scale_uv"))
        if not statistics:
            return
        if self._live is not None:
            self._live.update(self._table(statistics))
        elif time.monotonic() - self._said > _QUIET_S:
            self._said = time.monotonic()
            self._say(self._line(statistics))

    def _say(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr)

    def _line(self, s: dict[str, Any]) -> str:
        work = s.get("work_ms", {})
        text = (
            f"{s['signal_s']:.1f} s of signal, {work.get('median', 0):.2f} ms a chunk "
            f"(99 %: {work.get('p99', 0):.2f}), {s['dropped']} dropped, {s['gaps']} gaps"
        )
        if self._decision is not None:
            text += f", decided {self._decision['decided']}"
        return text

    def _table(self, s: dict[str, Any]) -> Any:
        from rich.table import Table

        table = Table(title=self.title, show_header=False)
        table.add_row(
            "signal", f"{s['signal_s']:.1f} s" + ("" if s["calibrated"] else " (measuring the baseline)")
        )
        if "work_ms" in s:
            table.add_row(
                "work per chunk", f"{s['work_ms']['median']:.2f} ms, 99 % {s['work_ms']['p99']:.2f} ms"
            )
            table.add_row(
                "wait in queue", f"{s['wait_ms']['median']:.2f} ms, worst {s['wait_ms']['worst']:.2f} ms"
            )
        table.add_row("fixed delay", f"{s['latency_ms']['total']:.0f} ms")
        table.add_row("dropped, gaps, restarts", f"{s['dropped']}, {s['gaps']}, {s['restarts']}")
        if "drift_ppm" in s:
            table.add_row("clock", f"drift {s['drift_ppm']:.0f} ppm, jitter {s['jitter_ms']:.2f} ms")
        if self._decision is not None and self.classes is not None:
            for name, p in zip(self.classes, self._decision["probabilities"]):
                mark = "  decided" if name == self._decision["decided"] else ""
                table.add_row(name, f"{p:.2f} {'█' * round(20 * p)}{mark}")
        return table
