"""``eegm2 prepare`` killed at random moments and started again leaves the store of an undisturbed run."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from eegm2.data.config import PrepareConfig
from eegm2.data.preparing.prepare import prepare
from eegm2.data.store.recording_store import RecordingStore
from tests.data.samples import eeg, write_edf
from tests.training.kill_harness import campaign, check

NAMES = ["Fz", "Cz", "Pz", "Oz"]
ISOLATED_PLACES = {
    "writing the report": r"in conclude$",
    "making the store": r"writer\.py.* in __init__$",
    "waiting for a worker": r"isolation\.py.* in _next$",
}
PLACES = {
    "writing the report": r"in conclude$",
    "writing samples": r"writer\.py.* in write$",
    "making the store": r"writer\.py.* in __init__$",
    "reading and filtering": r"in prepare_one$",
}


def prepare_command(source: str, out: str) -> None:
    """Prepare as the command line does, but in this process, whose stack says where it was killed."""
    prepare(source, out, PrepareConfig(jobs=1, isolate=False))


def isolated_command(source: str, out: str, jobs: int = 2) -> None:
    """Prepare exactly as the command line does: recordings are read by processes of their own."""
    prepare(source, out, PrepareConfig(jobs=jobs))


def differences(a: Path, b: Path) -> list[str]:
    """Return in what two stores differ, byte for byte; the report of the run, which has times, aside."""
    found = []
    files = [{p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()} for root in (a, b)]
    for name in sorted(files[0].keys() | files[1].keys()):
        if name == "prepare_report.json":
            continue
        contents = [of[name].read_bytes() if name in of else None for of in files]
        if contents[0] != contents[1]:
            found.append(f"{name}: {'left behind' if contents[0] is None else 'differs or is missing'}")
    return found


def prepare_kills(folder: Path, *, kills: int, seed: int, isolated: int = 0) -> dict[str, Any]:
    """Kill and go on until `kills` have hit; every store must be like the undisturbed one.

    With `isolated` so many processes read the recordings.
    """
    for number in range(5):
        write_edf(folder / "in" / f"s{number}.edf", eeg(4, 192_000, 160.0, number), NAMES, 160.0)
    source = str(folder / "in")
    prepare_command(source, str(folder / "first"))  # compiles and imports; the others are forks
    assert len(RecordingStore(folder / "first")) == 5

    def compare(name: str) -> list[str]:
        damaged = [f"damaged: {which}" for which in RecordingStore(folder / name).verify()]
        return differences(folder / "whole", folder / name) + damaged

    return campaign(
        isolated_command if isolated else prepare_command,
        lambda name: (source, str(folder / name), *([isolated] if isolated else [])),
        compare,
        kills=kills,
        seed=seed,
        places=ISOLATED_PLACES if isolated else PLACES,
        context=multiprocessing.get_context("fork"),
        writes_itself=not isolated,
    )


def test_killed_at_random_moments(tmp_path: Path) -> None:
    check(prepare_kills(tmp_path, kills=2, seed=1), 2)


def test_killed_while_a_process_of_its_own_reads(tmp_path: Path) -> None:
    check(prepare_kills(tmp_path, kills=1, seed=3, isolated=1), 1)


def test_what_a_kill_left_of_the_first_file_goes(tmp_path: Path) -> None:
    write_edf(tmp_path / "in" / "s0.edf", eeg(4, 1600, 160.0, 0), NAMES, 160.0)
    gone = multiprocessing.get_context("fork").Process(target=int)
    gone.start()
    gone.join()
    left = (
        tmp_path / "store" / f".tmp-{socket.gethostname()}-{gone.pid}-0"
    )  # of store.json, before it had its name
    left.parent.mkdir()
    left.write_bytes(b"{")
    prepare_command(str(tmp_path / "in"), str(tmp_path / "store"))
    assert not left.exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_twenty_moments_while_processes_of_its_own_read(tmp_path: Path) -> None:
    check(prepare_kills(tmp_path, kills=20, seed=4, isolated=2), 20)


@pytest.mark.parametrize("delay_s", [0.0, 0.3])
def test_a_reading_process_that_is_killed_costs_one_recording_once(delay_s: float, tmp_path: Path) -> None:
    for number in range(2):
        write_edf(tmp_path / "in" / f"s{number}.edf", eeg(4, 192_000, 160.0, number), NAMES, 160.0)
    prepare_command(str(tmp_path / "in"), str(tmp_path / "whole"))
    killed: list[int] = []

    def kill_once(stopped: threading.Event) -> None:
        while not killed and not stopped.wait(0.01):
            for child in psutil.Process().children():
                if child.status() != psutil.STATUS_ZOMBIE and "isolation" in " ".join(child.cmdline()):
                    time.sleep(delay_s)
                    child.kill()
                    killed.append(child.pid)

    stopped = threading.Event()
    thread = threading.Thread(target=kill_once, args=(stopped,))
    thread.start()
    first = prepare(tmp_path / "in", tmp_path / "store", PrepareConfig(jobs=1))
    stopped.set()
    thread.join()
    assert killed
    assert sum(o.status == "skipped" and "ended by SIGKILL" in o.reason for o in first.outcomes) <= 1
    isolated_command(str(tmp_path / "in"), str(tmp_path / "store"))
    assert differences(tmp_path / "whole", tmp_path / "store") == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_fifty_random_moments(tmp_path: Path) -> None:
    check(prepare_kills(tmp_path, kills=50, seed=2), 50, places=True)


def test_a_difference_would_be_seen(tmp_path: Path) -> None:
    write_edf(tmp_path / "in" / "a.edf", eeg(4, 640), NAMES)
    for name in ("one", "two"):
        prepare_command(str(tmp_path / "in"), str(tmp_path / name))
    assert differences(tmp_path / "one", tmp_path / "two") == []
    (file,) = (tmp_path / "two" / "recordings").glob("*.raw")
    content = bytearray(file.read_bytes())
    content[9] ^= 1
    file.write_bytes(content)
    (tmp_path / "two" / "recordings" / ".tmp-x").write_bytes(b"")
    assert differences(tmp_path / "one", tmp_path / "two") == [
        "recordings/.tmp-x: left behind",
        f"recordings/{file.name}: differs or is missing",
    ]
