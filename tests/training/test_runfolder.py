"""A run's folder: one process at a time, and tables that survive a torn line."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import psutil
import pytest

from eegm2.errors import ConfigError, EEGM2Error
from eegm2.training.runfolder import (
    LOCK,
    RunLockedError,
    Table,
    _started,
    disk_errors,
    locked,
    refuse_unwritable,
)


def lock_of(pid: int, started: float, host: str | None = None) -> str:
    return json.dumps({"pid": pid, "host": host or socket.gethostname(), "started": started})


class TestLock:
    def test_it_is_there_while_held_and_gone_after(self, tmp_path: Path) -> None:
        with locked(tmp_path / "run"):
            assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
        assert list((tmp_path / "run").iterdir()) == []

    def test_it_goes_with_an_error_too(self, tmp_path: Path) -> None:
        with pytest.raises(KeyError, match="inside"), locked(tmp_path):
            raise KeyError("inside")
        assert list(tmp_path.iterdir()) == []

    def test_a_second_process_is_refused(self, tmp_path: Path) -> None:
        parent = os.getppid()
        (tmp_path / LOCK).write_text(lock_of(parent, _started(parent)))
        with (
            pytest.raises(RunLockedError, match=f"in use by process {parent} of this machine"),
            locked(tmp_path),
        ):
            pass
        assert (tmp_path / LOCK).exists()

    def test_another_machine_is_believed(self, tmp_path: Path) -> None:
        (tmp_path / LOCK).write_text(lock_of(1, 0.0, "elsewhere"))
        with (
            pytest.raises(RunLockedError, match=r"process 1 on elsewhere; .* delete .*\.lock if"),
            locked(tmp_path),
        ):
            pass

    @pytest.mark.parametrize("text", [lock_of(2**22 + 5, 1.0), lock_of(os.getppid(), 1e9), '{"pid": 1', "[]"])
    def test_a_lock_of_the_dead_is_taken_over(self, text: str, tmp_path: Path) -> None:
        """No such process; a process number used again; a torn file."""
        (tmp_path / LOCK).write_text(text)
        with locked(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
        assert list(tmp_path.iterdir()) == []

    def test_a_clock_that_is_set_opens_no_lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if not Path("/proc/self/stat").exists():
            pytest.skip("only Linux tells when a process started without the clock")
        parent = os.getppid()
        (tmp_path / LOCK).write_text(lock_of(parent, _started(parent)))
        moved = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: moved(self) - 86_400)
        with pytest.raises(RunLockedError, match=f"in use by process {parent}"), locked(tmp_path):
            pass

    @pytest.mark.timeout(20)
    def test_a_torn_lock_of_a_time_to_come_is_taken_over(self, tmp_path: Path) -> None:
        (tmp_path / LOCK).touch()
        os.utime(tmp_path / LOCK, (time.time() + 86_400,) * 2)
        with locked(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


class TestTable:
    def table(self, path: Path) -> Table:
        table = Table(path / "logs" / "t.csv", ("epoch", "step", "loss"))
        for epoch in (1, 2, 3):
            table.append({"epoch": epoch, "step": 10 * epoch, "loss": 1 / 3 / epoch})
        return table

    def test_rows_come_back_to_the_last_bit(self, tmp_path: Path) -> None:
        assert [float(row["loss"]) for row in self.table(tmp_path).rows()] == [1 / 3, 1 / 6, 1 / 9]

    def test_rows_after_the_checkpoint_go(self, tmp_path: Path) -> None:
        table = self.table(tmp_path)
        table.truncate(epoch=2, step=25)
        assert [row["epoch"] for row in table.rows()] == ["1", "2"]
        table.append({"epoch": 3, "step": 30, "loss": 1 / 9})
        assert table.path.read_bytes() == self.table(tmp_path / "again").path.read_bytes()

    def test_a_torn_line_goes(self, tmp_path: Path) -> None:
        table = self.table(tmp_path)
        for torn in (b"4,40", b"4,40,0.1", b"4,"):
            whole = table.path.read_bytes()
            table.path.write_bytes(whole + torn)
            table.truncate(epoch=9, step=99)
            assert table.path.read_bytes() == whole

    def test_a_torn_header_goes(self, tmp_path: Path) -> None:
        table = self.table(tmp_path)
        table.path.write_bytes(b"epoch,st")
        table.truncate(epoch=9, step=99)
        table.append({"epoch": 1, "step": 10, "loss": 1 / 3})
        assert len(table.rows()) == 1


def test_disk_errors_are_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(
            EEGM2Error, match=r"a\.csv: cannot write \(No space left on device\); all is well; free some"
        ),
        disk_errors(tmp_path, "all is well"),
    ):
        raise OSError(28, "No space left on device", "a.csv")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "new" / "out.npz")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigError, match=r"--out .*file/out: cannot be written there \(File exists\); choose"
    ):
        refuse_unwritable(tmp_path / "file" / "out")
