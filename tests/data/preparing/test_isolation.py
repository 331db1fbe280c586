"""Whatever a file does to the process that reads it costs that file, and a change in any file is noticed."""

from __future__ import annotations

import os
import queue
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.data.config import PrepareConfig
from eegm2.data.files.brainvision import mne_reads_without_markers
from eegm2.data.preparing import isolation
from eegm2.data.preparing.isolation import Ended, Limits, Task, run
from eegm2.data.preparing.prepare import prepare
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import DataError
from tests.hostile import writers
from tests.hostile.seeds import signal_uv

PLENTY = Limits(60.0, 2**30)
READY: list[int] = []
#: Nothing is changed: what is stored is what was read.
AS_READ: dict[str, Any] = {
    "l_freq_hz": 0.0, "h_freq_hz": 0.0, "sfreq_hz": 128.0, "offset": "keep", "flat": "keep",
    "amplitude": "any",
}  # fmt: skip


def double(x: int) -> int:
    return 2 * x


def fall(how: str) -> int:
    """Do what a library in C may do."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "status":
        os._exit(7)
    elif how == "hang":
        time.sleep(600)
    elif how == "memory":
        return len(bytearray(8 * 2**30))
    elif how == "refuse":
        raise DataError("x: refused")
    elif how == "printed":
        os.write(1, b"garbage on standard output\n")
        return 1
    raise KeyError(how)


class Callback:
    """What a library calls where an exception cannot come out."""

    def __init__(self, ready: Path) -> None:
        self.ready = ready

    def __del__(self) -> None:
        self.ready.touch()
        time.sleep(1.0)


def stay(how: str, ready: Path) -> None:
    """Work until a signal comes; what is being written is taken away then."""
    writing = ready.with_name("writing")
    writing.touch()
    try:
        if how == "callback":
            callback = Callback(ready)
            del callback
        ready.touch()
        time.sleep(600.0)
    finally:
        time.sleep(0.3)
        writing.unlink()


@pytest.mark.parametrize(("how", "times"), [("work", 1), ("work", 3), ("callback", 1)])
def test_a_process_that_is_ended_tidies_up_and_says_nothing(
    how: str, times: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = isolation._take(1)
    worker.send(Task(stay, (how, tmp_path / "ready"), PLENTY), queue.SimpleQueue())
    while not (tmp_path / "ready").exists():
        assert worker.process.poll() is None
        time.sleep(0.02)
    for _ in range(times):
        time.sleep(0.1)
        os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.process.wait(20.0) == 143
    assert not (tmp_path / "writing").exists()
    assert capfd.readouterr().err == ""


def test_answers_come_with_their_numbers() -> None:
    tasks = [Task(double, (n,), PLENTY) for n in range(20)]
    assert sorted(run(tasks, 2)) == [(n, 2 * n) for n in range(20)]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("killed", "ended by SIGKILL: out of memory"),
        ("status", "ended with status 7"),
        ("memory", "not enough memory"),
        ("other", "unexpected KeyError"),
    ],
)
def test_a_process_that_ends_costs_one_task(how: str, reason: str) -> None:
    tasks = [Task(fall, (how,), PLENTY), Task(double, (1,), PLENTY)]
    answers = dict(run(tasks, 1))
    assert answers[1] == 2
    assert isinstance(answers[0], Ended)
    assert reason in answers[0].reason


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_START_S", 30.0)
    dict(run([Task(double, (1,), PLENTY)], 1))  # one that is ready
    answers = dict(run([Task(fall, ("hang",), Limits(0.5, 2**30)), Task(double, (1,), PLENTY)], 1))
    assert isinstance(answers[0], Ended)
    assert "took longer" in answers[0].reason
    assert answers[1] == 2


def test_what_a_library_prints_is_no_answer_and_errors_of_ours_come_through() -> None:
    assert dict(run([Task(fall, ("printed",), PLENTY)], 1)) == {0: 1}
    with pytest.raises(DataError, match="x: refused"):
        dict(run([Task(fall, ("refuse",), PLENTY)], 1))


def ready() -> None:
    READY.append(resource.getrlimit(resource.RLIMIT_AS)[0])


def what_is_ready() -> list[int]:
    return [*READY, resource.getrlimit(resource.RLIMIT_AS)[0]]


def test_what_a_task_imports_is_not_held_to_its_limits() -> None:
    before, within = dict(run([Task(what_is_ready, (), PLENTY, ready)], 1))[0][-2:]
    assert before == resource.RLIM_INFINITY or before > within
    assert within != resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limit", "reason"), [({"limit_gb": 1e-4}, "not enough memory"), ({"limit_s": 1e-6}, "took longer")]
)
def test_the_limits_are_those_given(limit: dict[str, float], reason: str, tmp_path: Path) -> None:
    dict(run([Task(double, (1,), PLENTY)], 1))  # a process that is ready has no time to start
    (tmp_path / "a.edf").write_bytes(writers.edf())
    with pytest.raises(DataError, match=rf"a\.edf: {reason}"):
        prepare(tmp_path, tmp_path / "store", PrepareConfig(**AS_READ, jobs=1, **limit))


def stored(store: Path, name: str) -> np.ndarray:
    return RecordingStore(store).read(name)


def test_a_changed_data_file_of_another_name_is_noticed(tmp_path: Path) -> None:
    source, store = tmp_path / "in", tmp_path / "store"
    source.mkdir()
    path = writers.eeglab(source / "m.set", beside=True, data="old.fdt", datfile="old.fdt")
    path.with_suffix(".fdt").rename(source / "old.fdt")
    assert prepare(source, store, PrepareConfig(**AS_READ)).counts == {"prepared": 1}
    assert prepare(source, store, PrepareConfig(**AS_READ)).counts == {"unchanged": 1}
    (2 * signal_uv().astype("<f4")).T.tofile(source / "old.fdt")
    assert prepare(source, store, PrepareConfig(**AS_READ)).counts == {"prepared": 1}
    np.testing.assert_allclose(stored(store, "m"), 2 * signal_uv(), atol=1e-3)


def test_a_changed_later_part_is_noticed(tmp_path: Path) -> None:
    source, store = tmp_path / "in", tmp_path / "store"
    writers.fif_in_parts(source)
    assert "prepared" in prepare(source, store, PrepareConfig(**AS_READ)).counts
    before = stored(store, "m_raw")
    writers.fif_in_parts(tmp_path / "other", scale=3.0)[1].replace(source / "m_raw-1.fif")
    prepare(source, store, PrepareConfig(**AS_READ))
    after = stored(store, "m_raw")
    assert after.shape == before.shape
    np.testing.assert_allclose(after[:, -128:], 3 * before[:, -128:], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(after[:, :128], before[:, :128], rtol=1e-5)


def test_markers_that_appear_or_change_are_noticed(tmp_path: Path) -> None:
    source, store = tmp_path / "in", tmp_path / "store"
    change = [("MarkerFile=three.vmrk", "MarkerFile=late.vmrk")]
    path = writers.brainvision(source, changes=change, markers="Mk1=Comment,a,129,1,0")
    path.with_suffix(".vmrk").rename(tmp_path / "late.vmrk")
    found = []
    for text in (None, "a", "b", "b"):
        if text:
            content = (tmp_path / "late.vmrk").read_text().replace(",a,", f",{text},")
            if not (source / "late.vmrk").exists() or (source / "late.vmrk").read_text() != content:
                (source / "late.vmrk").write_text(content)
        if text is None and not mne_reads_without_markers():
            with pytest.raises(DataError, match=r"the marker file late\.vmrk is missing"):
                prepare(source, store, PrepareConfig(**AS_READ))
            found.append(("prepared", []))
            continue
        status = prepare(source, store, PrepareConfig(**AS_READ)).outcomes[0].status
        found.append((status, [span.label for span in RecordingStore(store)["three"].labels]))
    assert found == [
        ("prepared", []),
        ("prepared", ["Comment/a"]),
        ("prepared", ["Comment/b"]),
        ("unchanged", ["Comment/b"]),
    ]


def test_half_characters_in_labels_are_written_as_such(tmp_path: Path) -> None:
    from eegm2.data.labels import LabelSpan
    from eegm2.data.names import shown, writable
    from eegm2.data.preparing.worker import clip_labels

    spans, outside = clip_labels([LabelSpan(0.0, 1.0, "a\udc00")], 2.0)
    assert (spans[0].label, outside) == ("a\\udc00", 0)
    assert shown("a\ud800\n") == "a\\ud800\\n"
    assert writable("µ") == "µ"
