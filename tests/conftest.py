"""What every test has: one thread, no waiting for the disk, and the threads of torch as it found them."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator

import pytest
import typer.testing

# Workers side by side would only wait for one another's thread pools.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that take processes from the fork server come first: one worker starts one server."""
    items.sort(key=lambda item: "forks" not in item.keywords)


@pytest.fixture(scope="session", autouse=True)
def _quick() -> Iterator[None]:
    """Files are written in the same steps, but nothing waits for a disk; what is killed does wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        # A CliRunner makes all commands anew for every call.
        patch.setattr(typer.testing, "_get_command", functools.cache(typer.testing._get_command))
        yield


@pytest.fixture(autouse=True)
def _threads_given_back() -> Iterator[None]:
    """A test that sets torch's threads leaves none of them to the tests after it."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if before is not None and sys.modules["torch"].get_num_threads() != before:
        sys.modules["torch"].set_num_threads(before)
