"""What a new process needs until its first result: each run is a process, timed from its start.

The processes are what a user starts: a script of a few lines, or a command. Where torch is needed whatever
one does, the time beyond ``import torch`` is kept as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from eegm2.benchmark.timing import spread

WARM, COLD = 5, 2  # runs
HEAD_CLASSES = ("rest", "task")
BEGIN = """
import time
import torch
begin = time.perf_counter()
from eegm2 import EEGM2, EEGM2Config
network = EEGM2(EEGM2Config.preset({model!r}, n_chans={n_chans}, width={width}))
x = torch.randn({batch}, {n_chans}, {n_times})
"""
END = """
print("beyond torch", time.perf_counter() - begin, flush=True)
"""
SCRIPTS = {
    "first-forward": """
with torch.no_grad():
    network.eval()(x)
""",
    "first-train": """
optimizer = torch.optim.AdamW(network.parameters())
network(x).square().mean().backward()
optimizer.step()
""",
}


def measure_first(m: Any) -> dict[str, Any]:
    """Measure a work of `eegm2.benchmark.suites.FIRST`.

    Returns
    -------
    dict
        ``status``, ``seconds`` from the start of the process; for scripts ``beyond_s``, what of it lies
        behind ``import torch``. With a warm cache a first process, which is not counted, has compiled.

    Raises
    ------
    RuntimeError
        If a process fails; the message is its last line.
    """
    with tempfile.TemporaryDirectory(prefix="eegm2-first-") as name:
        folder = Path(name)
        if m.work == "first-decision":
            _trained(folder, m)
        runs = COLD if m.cache == "cold" else WARM
        if m.cache != "cold":
            timed(m, folder, folder / "kernels")
        caches = [folder / (f"cold-{i}" if m.cache == "cold" else "kernels") for i in range(runs)]
        found = [timed(m, folder, cache) for cache in caches]
    record: dict[str, Any] = {"status": "ok", "seconds": spread([total for total, _ in found])}
    beyond = [seconds for _, seconds in found if seconds is not None]
    return record | ({"beyond_s": spread(beyond)} if beyond else {})


def timed(m: Any, folder: Path, cache: Path) -> tuple[float, float | None]:
    """Start one process; return its seconds until the result, and those beyond ``import torch``."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    begin = time.perf_counter()
    with subprocess.Popen(
        command(m, folder),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        beyond = None
        seconds = None
        for line in process.stdout:
            if seconds is None and _is_result(m, line):
                seconds = time.perf_counter() - begin
                beyond = float(line.split()[-1]) if m.work in SCRIPTS else None
        said = process.communicate()[1].strip().splitlines()
    if process.returncode or (seconds is None and m.work in (*SCRIPTS, "first-decision")):
        raise RuntimeError(said[-1] if said else f"exit status {process.returncode}")
    return (time.perf_counter() - begin if seconds is None else seconds), beyond


def command(m: Any, folder: Path) -> list[str]:
    """Return what is started for a work."""
    if m.work in SCRIPTS:
        script = (BEGIN + SCRIPTS[m.work] + END).format(**m.to_dict())
        return [sys.executable, "-c", script]
    eegm2 = [sys.executable, "-m", "eegm2"]
    if m.work == "first-prepare":
        store = tempfile.mkdtemp(prefix="store-", dir=folder)
        return [*eegm2, "prepare", str(recording()), "--out", str(Path(store) / "store")]
    if m.work == "first-decision":
        stream = ["stream", "--source", str(recording()), "--model", str(folder / "model.safetensors")]
        fast = ["--speed", "0", "--duration-s", "8", "--scale-uv", "50"]
        return [*eegm2, *stream, "--head", str(folder / "head.safetensors"), *fast, "--out", "-"]
    return [*eegm2, "--help" if m.work == "help" else m.work]


def _is_result(m: Any, line: str) -> bool:
    """Return whether a line of the process's output is its first result; of other commands their end is."""
    if m.work in SCRIPTS:
        return line.startswith("beyond torch")
    return m.work == "first-decision" and '"probabilities"' in line


def recording() -> Path:
    """Return a bundled recording."""
    import eegm2

    return min((Path(eegm2.__file__).parent / "data" / "bundled").glob("*.edf"))


def _trained(folder: Path, m: Any) -> None:
    """Write a network of random weights with a head, as `eegm2 pretrain` and `eegm2 head` write them."""
    import numpy as np
    import torch

    from eegm2 import EEGM2, EEGM2Config, read_raw, save_checkpoint
    from eegm2.config import to_dict
    from eegm2.data.channels import canonical
    from eegm2.data.config import PreprocessingConfig, WindowConfig
    from eegm2.deploy.heads.dense import DenseHead

    ch_names = tuple(canonical(name) for name in read_raw(recording()).ch_names)
    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset(m.model, n_chans=len(ch_names), width=m.width))
    header = {
        "preprocessing": to_dict(PreprocessingConfig(channels=ch_names)),
        "windows": to_dict(WindowConfig()),
        "ch_names": list(ch_names),
        "sfreq_hz": 128.0,
    }
    save_checkpoint(folder / "model.safetensors", model, header)
    n_features = 9 * 4 * m.width
    layer = np.zeros((len(HEAD_CLASSES), n_features)), np.zeros(len(HEAD_CLASSES))
    head = DenseHead(np.zeros(n_features), np.ones(n_features), [layer], HEAD_CLASSES)
    head.save(folder / "head.safetensors")
