"""Every command, ended by a signal in the middle of its work: one line, a known status, nothing half."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eegm2.cli.main import app, main
from eegm2.data.files.readers import read_raw
from eegm2.deploy.live.calibrate import RECORDING
from tests.data.samples import eeg
from tests.data.samples import write_edf as write_samples
from tests.deploy.predict.test_predict import write_edf
from tests.evaluation.helpers import fake_run, labelled_store
from tests.forked import forked

pytestmark = pytest.mark.forks

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
WRITES = "os:fsync"  # a file is there under its temporary name
COMMANDS: dict[str, tuple[str, str]] = {
    "share": ("share {run} --out {out}", WRITES),
    "verify": ("verify {store}", "eegm2.data.store.recording_store:RecordingStore.verify"),
    "predict": ("predict {run} {new} --head {head} --out {out}", WRITES),
    "finetune": ("finetune {run} {store} --out {out} --protocol light --max-epochs 1", WRITES),
    "compare": ("compare {run} band_power {store} --out {out} --window-s 2 --folds 3", WRITES),
    "record": ("record --source {long} --out {out}.edf", "eegm2.data.files.edf_stream:GrowingEdf.write"),
    "calibrate": (
        "calibrate --source {long} --model oscillations --out {out}",
        "eegm2.data.files.edf_stream:GrowingEdf.write",
    ),
    "embed": ("embed {run} {store} --out {out}.npz", WRITES),
    "reconstruct": ("reconstruct {run} {new}/good.edf --out {out}.edf", WRITES),
    "head": ("head {run} {store} --out {out}.safetensors", WRITES),
    "report": ("report {run} --out {out}.html --store {store}", WRITES),
    "demo": ("demo --out {out}", WRITES),
    "benchmark": (
        "benchmark --out {out}.json --quick --lengths 256 --models plain",
        "eegm2.benchmark.run:_watch",
    ),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("signals")
    store = labelled_store(folder / "store")
    run = fake_run(folder / "run", store)
    write_edf(folder / "new" / "good.edf")
    long = write_samples(folder / "long.edf", eeg(4, 128 * 600), ("Fz", "Cz", "Pz", "Oz"))
    head = folder / "head.safetensors"
    assert ended(f"head {run} {store.url} --out {head}".split(), folder / "said") == (0, [])
    return {
        "store": Path(store.url),
        "run": run,
        "new": folder / "new",
        "long": long,
        "head": head,
        "folder": folder,
    }


def ended(
    arguments: list[str], said: Path, point: str = "", name: str = "", times: int = 0
) -> tuple[int, list[str]]:
    """Run a command in a process of its own, signal it where it comes to `point`; return status and words."""
    ready = said.with_suffix(".ready")
    ready.unlink(missing_ok=True)
    process = forked().Process(target=_leave, args=(arguments, said, point, ready))
    process.start()
    assert process.pid is not None
    for number in range(times):
        while number == 0 and not ready.exists():
            assert process.exitcode is None, f"left before {point}: {said.read_text()}"
            time.sleep(0.02)
        time.sleep(0.05)
        os.kill(process.pid, getattr(signal, name))
    ready.unlink(missing_ok=True)
    process.join()
    words = said.read_text().splitlines()
    assert not any("Traceback" in line or line.startswith("error:") for line in words), "\n".join(words)
    assert process.exitcode is not None
    return process.exitcode, [line for line in words if line.startswith(("ended by", "stopped;"))]


def _leave(arguments: list[str], said: Path, point: str, ready: Path) -> None:
    os._exit(_inside(arguments, said, point, ready))


def _inside(arguments: list[str], said: Path, point: str, ready: Path) -> int:
    for name in SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(fd, "w", closefd=False)) for fd in (1, 2))
    if point:
        _stop_at(point, ready)
    sys.argv = ["eegm2", *arguments]
    status = 0
    try:
        main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        import traceback

        traceback.print_exception(error)
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return status


def _stop_at(point: str, ready: Path) -> None:
    """Let the command say that it has come to a function, and wait there until the signals are sent."""
    module, _, path = point.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    whole: Callable[..., Any] = getattr(owner, name)

    came: list[bool] = []

    def waiting(*values: Any, **options: Any) -> Any:
        if not came:
            came.append(True)
            ready.touch()
            while ready.exists():
                time.sleep(0.01)
        return whole(*values, **options)

    setattr(owner, name, waiting)


def leftovers(folder: Path) -> list[str]:
    """Return what a command that was ended may not leave: temporary files, parts and locks."""
    names = [path.name for path in folder.rglob("*")]
    return [name for name in names if name.startswith(".tmp") or name.endswith((".lock", ".part", ".tmp"))]


#: One of each kind: written at the end, in parts, as it grows, beside a process of its own, nothing at all.
BY_DEFAULT = ("share", "compare", "record", "calibrate", "benchmark", "verify")


def once_and_twice() -> list[Any]:
    """Every command with every signal, once and twice; one of each kind of command in the default suite."""

    def marks(command: str, name: str, times: int) -> Any:
        return [] if command in BY_DEFAULT and (name, times) == ("SIGTERM", 1) else pytest.mark.slow

    return [
        pytest.param(command, name, times, marks=marks(command, name, times))
        for command in COMMANDS
        for name in SIGNALS
        for times in (1, 2)
    ]


@pytest.mark.parametrize(("command", "name", "times"), once_and_twice())
def test_a_signal_ends_a_command_in_order(
    command: str, name: str, times: int, places: dict[str, Path], tmp_path: Path
) -> None:
    text, point = COMMANDS[command]
    out = tmp_path / "out"
    arguments = text.format(**places, out=out).split()
    status, words = ended(arguments, places["folder"] / "said", point, name, times)
    assert status == 128 + getattr(signal, name), places["folder"].joinpath("said").read_text()
    assert len(words) == 1
    assert words[0].startswith((f"ended by {name}; ", "stopped; finished cells are kept"))
    assert leftovers(tmp_path) == []
    kept = {"record": out.with_suffix(".edf"), "calibrate": out / RECORDING}
    if command in kept:  # what came until then; the same command would write over it
        assert read_raw(kept[command]).n_times > 0
    elif name == "SIGINT" and command not in ("demo", "benchmark"):
        assert ended(arguments, places["folder"] / "said") == (0, [])


def test_every_command_that_works_is_tried() -> None:
    elsewhere = {"prepare", "pretrain", "probe", "evaluate", "export", "stream"}  # tests of their own
    at_once = {"datasets", "info", "models"}
    known = {command.name for command in app.registered_commands}
    assert known == set(COMMANDS) | elsewhere | at_once
