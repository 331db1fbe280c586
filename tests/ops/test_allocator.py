"""Freed memory stays in the process once that is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from eegm2.ops import keep_freed_memory

def faults():
    def touch():
        return torch.empty(8 * 2**20).fill_(1.0)
    for _ in range(12):  # until the blocks have found their places
        touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        touch()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

anew = faults()
effect = keep_freed_memory()
print(effect, anew, faults())
"""


def test_large_blocks_are_reused() -> None:
    # In a process of its own: the setting lasts as long as the process.
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    effect, anew, kept = run.stdout.split()
    if effect == "False":
        pytest.skip("the C library is not glibc")
    assert int(anew) > 1000  # 4 x 32 MB in pages of 4 KB, were it not for huge pages
    assert int(kept) < int(anew) // 2  # now and then a small block ends up between two large ones
