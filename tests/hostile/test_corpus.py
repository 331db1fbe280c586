"""Damaged recordings: each is read correctly or refused with file and reason; the rest goes on."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.files.readers import read_raw
from eegm2.data.store.recording_store import RecordingStore
from tests.hostile.corpus import FAILURES, REAL, USED, real_seeds, table
from tests.hostile.headset_seeds import write_headset_seeds
from tests.hostile.mutations import BY_KIND, BY_SUFFIX, GENERAL, NUMBERS, Mutant, mutate, mutate_as_users
from tests.hostile.seeds import CH_NAMES, N_TIMES, Seed, signal_uv, write_seeds
from tests.hostile.worker import Reader

HEADSETS = ("xdf", "muselsl csv", "declared csv")
KINDS = ("edf", "bdf", "set", "set+fdt", "brainvision", "fif", "gdf", "fif.gz", "arrays", *HEADSETS)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seed]:
    pytest.importorskip("pyxdf")
    folder = tmp_path_factory.mktemp("seeds")
    return {seed.kind: seed for seed in [*write_seeds(folder), *write_headset_seeds(folder)]}


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as process:
        yield process


def try_mutants(
    reader: Reader,
    seed: Seed,
    numbers: range,
    folder: Path,
    channels: tuple[str, ...] = (),
    inflation: float = 2.0,
    damage: Callable[[Seed, int, Path], Mutant] = mutate,
) -> Counter[str]:
    """Read damaged copies and check every outcome; return how many were read and refused."""
    counts: Counter[str] = Counter()
    channels = channels or seed.channels
    for number in numbers:
        mutant = damage(seed, number, folder / str(number))
        outcome = reader.read(mutant.main, channels)
        kind = outcome["outcome"]
        counts[kind] += 1
        assert kind in ("read", "refused"), f"{mutant.name}: {kind}: {outcome['error']}"
        if kind == "refused":
            # Companion files (.fdt, .eeg, .vmrk) are named where they are the damaged one.
            named = (mutant.main.name.split(".")[0], mutant.main.parent.name)
            assert any(name in outcome["error"] for name in named), f"{mutant.name}: {outcome['error']}"
            assert "\n" not in outcome["error"], mutant.name
            assert len(outcome["error"]) < 700, f"{mutant.name}: {outcome['error']}"
        else:
            n_chans, n_times = outcome["shape"]
            assert n_chans == len(channels), mutant.name
            assert outcome["finite"], mutant.name
            assert outcome["verified"], mutant.name
            assert outcome["judged"] != "differs", f"{mutant.name}: another reader reads other samples"
            if seed.kind != "fif.gz":
                assert n_chans * n_times <= inflation * mutant.size / 2, (
                    f"{mutant.name}: samples from nowhere"
                )
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_some_damaged_files(kind: str, seeds: dict[str, Seed], reader: Reader, tmp_path: Path) -> None:
    counts = try_mutants(reader, seeds[kind], range(12), tmp_path)
    assert counts.total() == 12


@pytest.mark.parametrize("kind", USED)
def test_some_faults_of_users(kind: str, seeds: dict[str, Seed], reader: Reader, tmp_path: Path) -> None:
    counts = try_mutants(reader, seeds[kind], range(8), tmp_path, damage=mutate_as_users)
    assert counts["refused"] > 0


@pytest.mark.slow
def test_a_thousand_damaged_files(seeds: dict[str, Seed], reader: Reader, tmp_path: Path) -> None:
    total: Counter[str] = Counter()
    for kind in KINDS:
        counts = try_mutants(reader, seeds[kind], range(1000, 1170), tmp_path / kind)
        assert counts["read"] > 10, f"{kind}: hardly anything is read, the damage is too coarse to test with"
        assert counts["refused"] > 10, f"{kind}: hardly anything is refused"
        total += counts
    assert total.total() >= 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_damaged_real_files(name: str, reader: Reader, tmp_path: Path) -> None:
    root = os.environ.get("EEGM2_TEST_DATA")
    if not root:
        pytest.skip("EEGM2_TEST_DATA does not name a folder with real recordings")
    found = {seed.kind: (seed, channels) for seed, channels in real_seeds(Path(root))}
    seed, channels = found[f"real {name}"]
    counts = try_mutants(reader, seed, range(60), tmp_path, channels)
    assert counts["refused"] > 0
    assert counts["read"] > 0


def test_the_worker_reports_what_goes_wrong(reader: Reader, tmp_path: Path) -> None:
    missing = reader.read(tmp_path / "absent.edf")
    assert missing["outcome"] == "refused"
    assert "absent.edf" in missing["error"]
    assert reader._process is not None
    reader._process.kill()
    assert reader.read(tmp_path / "absent.edf")["outcome"] == "crash"
    assert reader.read(tmp_path / "absent.edf")["outcome"] == "refused"


@pytest.mark.parametrize("kind", KINDS)
def test_mutations_are_repeatable_and_damage(kind: str, seeds: dict[str, Seed], tmp_path: Path) -> None:
    seed = seeds[kind]
    changed = 0
    for number in range(20):
        first = mutate(seed, number, tmp_path / f"a{number}")
        again = mutate(seed, number, tmp_path / f"b{number}")
        assert first.name == again.name
        contents = []
        for mutant in (first, again):
            paths = sorted(mutant.main.parent.iterdir())
            contents.append([(path.name, path.read_bytes()) for path in paths])
        assert contents[0] == contents[1]
        changed += contents[0] != sorted((path.name, path.read_bytes()) for path in seed.files)
    assert changed >= 18


def test_every_kind_of_mutation_takes_part(seeds: dict[str, Seed], tmp_path: Path) -> None:
    names = {
        mutate(seed, number, tmp_path / f"{kind}{number}").name.split("-")[2].split("(")[0]
        for kind, seed in seeds.items()
        for number in range(100)
    }
    special = [m for kinds in (*BY_SUFFIX.values(), *BY_KIND.values()) for m in kinds]
    assert names == {m.__name__ for m in (*GENERAL, *special)}


@pytest.mark.parametrize("kind", ["edf", "brainvision"])
def test_one_wrong_sample_leaves_the_others(kind: str, seeds: dict[str, Seed], tmp_path: Path) -> None:
    whole = read_raw(seeds[kind].main).get_data()
    copy = seeds[kind].copy_to(tmp_path)
    path = copy.main if kind == "edf" else copy.files[1]
    data = bytearray(path.read_bytes())
    data[-len(data) // 3] ^= 0x10
    path.write_bytes(data)
    differing = read_raw(copy.main).get_data() != whole
    assert differing.sum() == 1


def test_the_seeds_are_read_as_written(seeds: dict[str, Seed]) -> None:
    written = signal_uv()
    for kind, seed in seeds.items():
        if kind in ("arrays", "muselsl csv"):  # four of the channels, at another rate
            continue
        raw = read_raw(seed.main)
        data = raw.get_data(picks="eeg") * 1e6
        assert data.shape == (len(CH_NAMES), N_TIMES), kind
        assert np.abs(data - written).max() < 0.06, kind  # half a step of BrainVision's 0.1 µV


def test_a_folder_with_damaged_files_goes_on(tmp_path: Path) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    write_seeds(source)
    (source / "inside.set").write_bytes((source / "inside.set").read_bytes()[:3000])
    data = bytearray((source / "one.edf").read_bytes())
    data[236:244] = b"99999999"
    (source / "one.edf").write_bytes(data)
    (source / "empty.bdf").touch()
    (source / "beside.set").unlink()
    arguments = ["prepare", str(source), "--out", str(store), "--jobs", "1", "--flat", "keep"]
    for name in CH_NAMES:
        arguments += ["--channels", name]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    skipped = [line for line in result.output.splitlines() if line.startswith("skipped")]
    assert len(skipped) == 3
    for name in ("inside.set", "one.edf", "empty.bdf"):
        assert any(name in line for line in skipped), f"{name} is not named:\n{result.output}"
    assert len(RecordingStore(store).recordings) == 5


def test_numbers_are_hostile_enough() -> None:
    assert {b"-1", b"nan", b"inf", b"", b"99999999"} <= set(NUMBERS)


def test_the_documented_counts_are_those_of_the_stored_result() -> None:
    folder = Path(__file__).parents[2] / "docs" / "results"
    result = json.loads((folder / "corpus.json").read_text())
    assert (folder / "corpus.md").read_text() == table(result)
    assert sum(sum(counts.values()) for counts in result["counts"].values()) >= 1000
    assert all(counts.get(name, 0) == 0 for counts in result["counts"].values() for name in FAILURES)
