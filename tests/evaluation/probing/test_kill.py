"""A probe that is killed at random moments ends with the same folder; several at once are all listed."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.evaluation.probing.folder import append_to_run
from eegm2.training.runfolder import RunLockedError, locked
from tests.evaluation.helpers import fake_run, labelled_store
from tests.training.kill_harness import campaign, check, run_whole, warm_up

PLACES = {
    "listing the probe": r"in append_to_run$",
    "writing the folder": r"in write_folder$",
    "fitting": r"in (_outcomes|evaluate)$",
    "computing features": r"in extract_features$",
}


def probe_command(run: str, store: str) -> None:
    """Probe as the command line does."""
    from eegm2.evaluation.config import ProbeConfig
    from eegm2.evaluation.probing.run import probe

    probe(run, store, Path(run) / "probe", ProbeConfig(seeds=2, device="cpu"))


def kept(run: Path) -> dict[str, Any]:
    """Return all that a probe leaves, but for its duration and the place of the run."""
    out = run / "probe"
    results = json.loads((out / "results.json").read_text())
    for name in ("seconds", "checkpoint"):
        del results["provenance"][name]
    arrays = {}
    for name in ("predictions.npz", "embedding.npz"):
        with np.load(out / name, allow_pickle=False) as file:
            arrays |= {f"{name}/{key}": (str(file[key].dtype), file[key].tobytes()) for key in file.files}
    return {"results": results, **arrays, "list": json.loads((run / "probes.json").read_text())}


def differences(expected: dict[str, Any], run: Path) -> list[str]:
    found = kept(run)
    differing = [name for name in expected if found.get(name) != expected[name]]
    return differing + [f"left behind: {path.name}" for path in run.rglob(".*")]


def probe_kills(folder: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """Kill probes until `kills` hit; every one must end as the undisturbed one did."""
    store = labelled_store(folder / "store")

    def arguments(name: str) -> tuple[str, str]:
        return str(fake_run(folder / name, store)), store.url

    run_whole(warm_up)
    run_whole(probe_command, *arguments("warm"))
    return campaign(
        probe_command,
        arguments,
        lambda name: differences(kept(folder / "whole"), folder / name),
        kills=kills,
        seed=seed,
        places=PLACES,
    )


@pytest.mark.forks
def test_killed_at_random_moments(tmp_path: Path) -> None:
    check(probe_kills(tmp_path, kills=2, seed=1), 2)


@pytest.mark.forks
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_fifty_random_moments(tmp_path: Path) -> None:
    check(probe_kills(tmp_path, kills=50, seed=2), 50, places=True)


def test_what_a_killed_probe_left_is_removed_and_a_difference_seen(tmp_path: Path) -> None:
    store = labelled_store(tmp_path / "store")
    run = fake_run(tmp_path / "run", store)
    probe_command(str(run), store.url)
    expected = kept(run)
    import socket

    stale = run / f".tmp-{socket.gethostname()}-999999999-abc"
    stale.mkdir()
    (stale / "predictions.npz").write_bytes(b"half")
    assert differences(expected, run) == [f"left behind: {stale.name}"]
    probe_command(str(run), store.url)
    assert differences(expected, run) == []
    (run / "probes.json").write_text('["other"]')
    assert differences(expected, run) == ["list"]


def test_probes_that_end_together_are_all_listed(tmp_path: Path) -> None:
    names = [f"probe{number}" for number in range(12)]
    threads = [threading.Thread(target=append_to_run, args=(tmp_path, tmp_path / n)) for n in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.loads((tmp_path / "probes.json").read_text())) == sorted(names)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_lock_is_waited_for_and_no_longer(tmp_path: Path) -> None:
    with (
        locked(tmp_path, ".probes.lock"),
        locked(tmp_path),  # another purpose, another lock
        pytest.raises(RunLockedError, match="in use by process"),
        locked(tmp_path, ".probes.lock", wait_s=0.1),
    ):
        pass
