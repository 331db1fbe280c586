"""Processes that read untrusted files under limits of time and memory: what one does costs that file only.

A library in C that crashes, hangs or asks for all memory cannot be caught where it runs. Here it runs in a
process that the system holds to its limits; one that dies or does not answer is replaced, and the file is
refused. Processes are kept between runs, for importing takes each some seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import IO, Any

from eegm2.ending import orderly, status_of
from eegm2.errors import EEGM2Error

_FRAME = struct.Struct("<Q")
_IDLE_S = 60.0
_START_S = 120.0
_PACKED = (".gz", ".xdfz", ".mat", ".set", ".npz", ".h5", ".hdf5")
"""Samples of EEG, mostly noise, compress to a half or a third."""


@dataclass(frozen=True)
class Limits:
    """What one task may use.

    Parameters
    ----------
    time_s : float
        Seconds by the clock.
    memory_bytes : int
        Beyond what the idle process has mapped.
    """

    time_s: float
    memory_bytes: int

    @classmethod
    def for_bytes(cls, size: int, *, time_s: float = 0.0, memory_gb: float = 0.0) -> Limits:
        """Return limits for files of `size` bytes in all, generous to any recording, where none are given.

        Four times the files and what libraries take: see ``docs/results/memory.md``.
        """
        return cls(time_s or 120.0 + size / 1e6, int(memory_gb * 2**30) or 2 * 2**30 + 4 * size)

    @classmethod
    def for_files(cls, sizes: Mapping[Path, int], *, time_s: float = 0.0, memory_gb: float = 0.0) -> Limits:
        """Return limits for files of these bytes; a kind that may be compressed counts three times."""
        size = sum(size * (3 if path.suffix.lower() in _PACKED else 1) for path, size in sizes.items())
        return cls.for_bytes(size, time_s=time_s, memory_gb=memory_gb)


@dataclass(frozen=True)
class Task:
    """A function of a module, its arguments, and what it may use.

    ``ready`` is called before the limits hold: what it imports is nothing of the file's.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    limits: Limits
    ready: Callable[[], None] | None = None


@dataclass(frozen=True)
class Ended:
    """Why a task gave no answer."""

    reason: str


def run(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[int, Any]]:
    """Yield (number of a task, what it returned or `Ended`) as they come, from at most `jobs` processes.

    Raises
    ------
    EEGM2Error
        That a task raised; the rest is given up.
    """
    answers: queue.SimpleQueue[tuple[_Worker, Any]] = queue.SimpleQueue()
    busy: dict[_Worker, tuple[int, float]] = {}
    waiting = list(enumerate(tasks))[::-1]
    try:
        while waiting or busy:
            while waiting and len(busy) < max(1, jobs):
                number, task = waiting.pop()
                worker = _take(jobs)
                worker.send(task, answers)
                busy[worker] = (
                    number,
                    time.monotonic() + task.limits.time_s + (0 if worker.ready else _START_S),
                )
            worker, answer = _next(answers, busy)
            number, _ = busy.pop(worker)
            if isinstance(answer, EEGM2Error):
                raise answer
            if isinstance(answer, Ended):
                worker.stop()
            else:
                _idle.append(worker)
            yield number, answer
    finally:
        for worker in busy:
            worker.stop()
        while len(_idle) > 1:
            _idle.pop().stop()


def _next(
    answers: queue.SimpleQueue[tuple[_Worker, Any]], busy: dict[_Worker, tuple[int, float]]
) -> tuple[_Worker, Any]:
    """Wait for the next answer, or the next worker whose time is over."""
    while True:
        late = min(busy, key=lambda worker: busy[worker][1])
        left = busy[late][1] - time.monotonic()
        if left <= 0:
            return late, Ended("took longer than a recording of this size should; see --limit-s")
        with contextlib.suppress(queue.Empty):
            worker, answer = answers.get(timeout=min(left, 3600.0))
            if worker in busy:
                return worker, answer


class _Worker:
    """A process that does one task after another."""

    def __init__(self, threads: int) -> None:
        self.threads, self.owner, self.ready = threads, os.getpid(), False
        path = [place for place in sys.path if place] + ([str(Path.cwd())] if "" in sys.path else [])
        code = (
            f"import sys; sys.path[:] = {json.dumps(path)}; "
            "from eegm2.data.preparing.isolation import serve; serve()"
        )
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONOPTIMIZE"}  # -OO is not for MNE
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.setdefault(name, str(threads))
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us; we stop them
        )

    def send(self, task: Task, answers: queue.SimpleQueue[tuple[_Worker, Any]]) -> None:
        """Hand over a task; its answer comes through `answers`."""
        assert self.process.stdin is not None
        try:
            _write(self.process.stdin, task)
        except OSError:
            answers.put((self, Ended("the process that was to read it has gone; run again")))
            return
        threading.Thread(target=self._listen, args=(answers,), daemon=True).start()

    def _listen(self, answers: queue.SimpleQueue[tuple[_Worker, Any]]) -> None:
        assert self.process.stdout is not None
        try:
            answer = _read(self.process.stdout)
            self.ready = True
        except Exception:  # it ended, or wrote something else
            answer = Ended(_end(self.process.wait()))
        answers.put((self, answer))

    def usable(self, threads: int) -> bool:
        """Return whether the process is ours, alive and of the wanted kind."""
        return self.owner == os.getpid() and self.threads == threads and self.process.poll() is None

    def stop(self) -> None:
        """End the process; what it was writing is written whole or not at all."""
        if self.owner != os.getpid():
            return
        for end in (self.process.terminate, self.process.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2.0)
                break
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()


_idle: list[_Worker] = []


@atexit.register
def _stop_idle() -> None:
    while _idle:
        _idle.pop().stop()


def _take(jobs: int) -> _Worker:
    """Return a process that waits, or a new one."""
    threads = max(1, (os.cpu_count() or 1) // max(1, jobs))
    while _idle:
        worker = _idle.pop()
        if worker.usable(threads):
            return worker
        worker.stop()
    return _Worker(threads)


def _end(status: int) -> str:
    """Say how a process ended."""
    if status >= 0:
        return f"the process that read it ended with status {status}: out of memory, or a fault of a library"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"the process that read it was ended by {name}: out of memory, or a fault of a library"


def _write(stream: IO[bytes], value: Any) -> None:
    data = ForkingPickler.dumps(value)
    content = memoryview(_FRAME.pack(len(data)) + bytes(data))
    while content:
        content = content[stream.write(content) :]
    stream.flush()


def _read(stream: IO[bytes]) -> Any:
    """Return the next value of another process of ours; EOFError where there is none."""
    (size,) = _FRAME.unpack(_exactly(stream, _FRAME.size))
    return ForkingPickler.loads(_exactly(stream, size))  # between our own processes, never from a file


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def serve() -> None:
    """Do tasks from standard input under their limits until there are no more (in a process of its own)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with orderly():
            _end_with_parent()
            _do_tasks()
    except KeyboardInterrupt as error:
        sys.exit(status_of(error))


def _do_tasks() -> None:
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints goes where errors go
    tasks = os.fdopen(os.dup(0), "rb", buffering=0)
    while _more(tasks):
        try:
            task: Task = _read(tasks)
        except EOFError:
            return
        if task.ready is not None:
            task.ready()
        with _held_to(task.limits):
            try:
                answer = task.function(*task.arguments)
            except EEGM2Error as error:
                answer = error
            except MemoryError:
                answer = Ended("not enough memory in what a file of this size may take; see --limit-gb")
            except Exception as error:  # a fault of ours: told, and the rest goes on
                answer = Ended(f"unexpected {type(error).__name__}: {error}; please report it")
        _write(answers, answer)


def _more(tasks: Any) -> bool:
    """Wait for a task; False after minutes without any, where the system can wait."""
    if os.name != "posix":
        return True
    import select

    return bool(select.select([tasks], [], [], _IDLE_S)[0])


def _end_with_parent() -> None:
    """Ask Linux to end this process when the one that started it dies."""
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() == 1:
            sys.exit(143)


@contextlib.contextmanager
def _held_to(limits: Limits) -> Iterator[None]:
    """Let the system hold this process to limits of memory and of time on the processor."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        yield
        return
    before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)}
    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = {
        resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime + (os.cpu_count() or 1) * limits.time_s) + 60
    }
    with contextlib.suppress(OSError):
        with open("/proc/self/statm") as file:  # noqa: PTH123 (read for every task)
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        wanted[resource.RLIMIT_AS] = mapped + limits.memory_bytes
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for kind, soft in wanted.items():
        hard = before[kind][1]
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    try:
        yield
    finally:
        for kind, value in before.items():
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(kind, value)
