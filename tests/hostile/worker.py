"""Reads recordings in a process of its own, under limits of memory and time.

``Reader`` starts ``python -m tests.hostile.worker``, hands it one path at a time and reads one JSON line
back. A worker that dies or does not answer in time is an outcome like any other: it is named and replaced.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.hostile.headset_seeds import write_headset_seeds
from tests.hostile.judge import judged
from tests.hostile.seeds import CH_NAMES, write_seeds

ROOT = Path(__file__).parents[2]
#: Beyond what the idle worker has mapped.
MEMORY_MB = 600
TIME_S = 20.0


class Reader:
    """A worker process and what became of it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def read(self, path: Path, channels: Sequence[str] = CH_NAMES) -> dict[str, Any]:
        """Return ``{"outcome": …}`` of one recording: read, refused, escaped, memory, crash or hang."""
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(json.dumps([str(path), list(channels)]).encode() + b"\n")
        process.stdin.flush()
        answer = self._line(TIME_S)
        if answer is not None and answer != b"":
            return dict(json.loads(answer))
        self._process = None
        process.kill()
        status = process.wait()
        return (
            {"outcome": "hang", "error": f"no answer in {TIME_S:g} s"}
            if answer is None
            else {
                "outcome": "crash",
                "error": f"the process ended with status {status}",
            }
        )

    def _start(self) -> None:
        environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=f"{ROOT / 'src'}:{ROOT}")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env=environment,
            bufsize=0,
        )
        ready = self._line(90.0)
        assert ready == b"ready\n", f"the worker did not start: {ready!r}"

    def _line(self, limit_s: float) -> bytes | None:
        """Return the next line, b"" if the worker ended, None if time ran out."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        until, line = time.monotonic() + limit_s, b""
        while not line.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                return None
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                return b""
            line += part
        return line


def describe(path: Path, channels: Sequence[str] = CH_NAMES) -> dict[str, Any]:
    """Prepare one recording into a store of its own and say what came of it."""
    import tempfile

    import numpy as np

    from eegm2.data.config import PreprocessingConfig
    from eegm2.data.preparing.worker import Job, prepare_one
    from eegm2.data.recipes.base import SourceRecording
    from eegm2.data.store.recording_store import RecordingStore

    if path.suffix == ".npy":
        return describe_arrays(path.parent)
    with tempfile.TemporaryDirectory() as store:
        job = Job(
            store, str(path.parent), PreprocessingConfig(channels=tuple(channels), flat="keep"), "float32"
        )
        outcome = prepare_one(SourceRecording("one", "someone", path), job)
        if outcome.status == "skipped":
            kind = "refused"
            if "please report it" in outcome.reason:
                kind = "escaped"
            elif "not enough memory" in outcome.reason:
                kind = "memory"
            return {"outcome": kind, "error": outcome.reason}
        opened = RecordingStore(store)
        array = opened.read("one")
        return {
            "outcome": "read",
            "shape": list(array.shape),
            "finite": bool(np.isfinite(array).all()),
            "verified": opened.verify() == {},
            "duration_s": opened["one"].quality["duration_s"],
            "labels": [list(span.__dict__.values()) for span in opened["one"].labels],
            "judged": judged(path),
        }


def describe_arrays(folder: Path) -> dict[str, Any]:
    """Prepare trials in arrays and say what came of them."""
    import tempfile

    import numpy as np

    from eegm2.data.config import PrepareConfig
    from eegm2.data.preparing.prepare import prepare
    from eegm2.data.store.recording_store import RecordingStore
    from eegm2.errors import EEGM2Error

    with tempfile.TemporaryDirectory() as store:
        try:
            result = prepare(folder, store, PrepareConfig(recipe="moabb", flat="keep", isolate=False))
        except EEGM2Error as error:
            kind = "escaped" if "please report it" in str(error) else "refused"
            return {"outcome": kind, "error": str(error)}
        except Exception as error:
            return {"outcome": "escaped", "error": f"{type(error).__name__}: {error}"}
        skipped = [outcome.reason for outcome in result.outcomes if outcome.status == "skipped"]
        if any("please report it" in reason for reason in skipped):
            return {"outcome": "escaped", "error": "; ".join(skipped)}
        opened = RecordingStore(store)
        array = opened.read(opened.recordings[0].id)
        return {
            "outcome": "read",
            "shape": list(array.shape),
            "finite": bool(np.isfinite(array).all()),
            "verified": opened.verify() == {},
            "judged": "unjudged",
        }


def main() -> None:
    """Answer paths on standard input, one JSON line each, under the memory limit."""
    import resource
    import tempfile

    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints goes elsewhere
    with tempfile.TemporaryDirectory() as folder:
        seeds = [*write_seeds(Path(folder)), *write_headset_seeds(Path(folder))]
        if importlib.util.find_spec("pyxdf") is None:
            seeds = [seed for seed in seeds if seed.kind != "xdf"]
        for seed in seeds:  # imports everything there is to import
            said = describe(seed.main, seed.channels)
            assert said["outcome"] == "read", said
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = mapped + MEMORY_MB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers.write(b"ready\n")
    for line in sys.stdin:
        path, channels = json.loads(line)
        answers.write(json.dumps(describe(Path(path), channels)).encode() + b"\n")


if __name__ == "__main__":
    main()
