"""Processes that come from a fork server: it has imported everything once, and computed nothing.

The threads of a product do not survive a fork, so none may come from the process that tests.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
from multiprocessing import forkserver
from typing import Any

PRELOAD = [
    "lightning.fabric.loggers",
    "tensorboard",
    "eegm2.training.devices",
    "eegm2.training.loop",
    "eegm2.training.pretrain",
    "eegm2.evaluation.experiment.run",
    "eegm2.evaluation.baselines.band_power",
    "eegm2.evaluation.probing.run",
    "eegm2.evaluation.finetuning.run",
    "eegm2.deploy.predict.run",
    "eegm2.deploy.heads.fit",
    "eegm2.report.html",
    "tests.test_signals",
]


@functools.cache
def forked() -> Any:
    """Return the multiprocessing context of the one server of this process, started if need be."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    before = os.environ.get("PYTHONPATH")
    # else the server cannot import what it should preload
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
    return context
