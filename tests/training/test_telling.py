"""What a run tells when memory runs out, a worker dies, a loss is no number; what it ends with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eegm2.errors import CheckpointError, ConfigError, EEGM2Error
from eegm2.model.config import EEGM2Config
from eegm2.training import checkpoint
from eegm2.training.config import PretrainConfig
from eegm2.training.nonfinite import name_windows
from eegm2.training.pretrain import _dead_worker, _plain_errors, _result
from tests.evaluation.helpers import tiny_model

CONFIG = replace(PretrainConfig(), batch_size=5, accumulate=2, window_s=4.0)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA Out of Memory. Tried"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried"),
        torch.OutOfMemoryError("anything"),
        MemoryError(),
    ],
    ids=str,
)
def test_when_memory_runs_out_a_smaller_batch_is_advised(error: Exception) -> None:
    said = r"out of memory at 5 windows of 4 s; .*--batch-size 2 --accumulate 4"
    with pytest.raises(EEGM2Error, match=said), _plain_errors(Path("run"), CONFIG):
        raise error


def test_other_errors_are_what_they_are_and_a_compiler_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), _plain_errors(Path("run"), CONFIG):
        raise RuntimeError("shapes differ")
    failed = type("Failed", (RuntimeError,), {"__module__": "torch._inductor.exc"})
    compiled = replace(CONFIG, compile=True)
    with pytest.raises(ConfigError, match=r"compile: .*\(no g\+\+\)"), _plain_errors(Path("run"), compiled):
        raise failed("no g++\nmore")
    with pytest.raises(failed, match="no g"), _plain_errors(Path("run"), CONFIG):
        raise failed("no g++")


def test_a_worker_that_died_is_found_wherever_its_error_hides() -> None:
    died = RuntimeError("DataLoader worker (pid 3) is killed\nmore")
    outer, around = ValueError("x"), KeyError("y")
    outer.__cause__ = died
    around.__context__ = outer
    for error in (died, outer, around):
        assert _dead_worker(error) == "DataLoader worker (pid 3) is killed"
    assert _dead_worker(ValueError("DataLoader worker")) is None
    assert _dead_worker(None) is None


def test_a_run_ends_with_its_last_row(tmp_path: Path) -> None:
    empty = _result(tmp_path)
    assert (empty.epoch, empty.step, empty.metrics, empty.performance) == (0, 0, {}, {})
    assert not empty.already_finished
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.csv").write_text("epoch,step,loss,val_loss\n1,4,3.5,2\n2,8,2.5,\n")
    made = _result(tmp_path, performance={"windows_per_s": 3.0}, already_finished=True)
    assert (made.run, made.epoch, made.step) == (tmp_path, 2, 8)
    assert made.metrics == {"epoch": 2.0, "step": 8.0, "loss": 2.5, "val_loss": None}
    assert made.performance == {"windows_per_s": 3.0}
    assert made.already_finished


@pytest.mark.parametrize(("n", "more"), [(3, ""), (8, ""), (9, " and 1 more"), (20, " and 12 more")])
@pytest.mark.parametrize("bad", [False, True])
def test_windows_of_a_bad_loss_are_named_eight_at_most_and_bad_samples_first(
    bad: bool, n: int, more: str
) -> None:
    class Windows:
        def __getitem__(self, window: int) -> dict[str, Any]:
            return {"x": torch.full((1, 2), torch.nan if bad and window < n else 0.0)}

        def describe(self, window: int) -> str:
            return f"w{window}"

    data: Any = Windows()
    named = ", ".join(f"w{i}" for i in range(min(n, 8)))
    suspects = [*range(n, n + 2), *range(n)] if bad else list(range(n))
    assert name_windows(data, suspects) == named + more + (" (their samples are not finite)" if bad else "")


def test_the_authors_weights_are_refused_where_another_shape_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model()
    monkeypatch.setattr("eegm2.model.authors.load_authors_checkpoint", lambda path: model)
    for asked in (None, model.config):
        found = checkpoint._of_the_authors(Path("best.pth"), asked)
        assert found.model is model
        assert len(found.header["ch_names"]) == 3
    other: EEGM2Config = model.config.replace(width=8)
    with pytest.raises((CheckpointError, ConfigError), match="width"):
        checkpoint._of_the_authors(Path("best.pth"), other)
