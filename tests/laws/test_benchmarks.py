"""Laws of the benchmark's arithmetic: ratios the right way round, units as named, all that was timed."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.benchmark import commands, first, machine, products, run, subject, suites
from eegm2.benchmark.aims import LONG, SHARES, SHORT, SHORTEST, aims
from eegm2.benchmark.config import PEERS, BenchmarkConfig
from eegm2.benchmark.measure import ENOUGH_S, _time
from eegm2.benchmark.plots import by_length
from eegm2.benchmark.results import Results, display_name
from eegm2.benchmark.suites import HOUR, LENGTHS, Measurement, measurements
from eegm2.benchmark.tables import markdown, overview
from tests.benchmark.synthetic import document, record

OURS = ("eegm2", "light", "covariance", "plain", "s3", "s4")


def everything(seed: int) -> dict[str, Any]:
    """Return results of every measurement that aims look at, with random times and sizes."""
    rng = np.random.default_rng(seed)

    def seconds() -> float:
        return float(rng.uniform(0.001, 2.0))

    def bound() -> dict[str, float]:
        return dict(zip(("gflop", "gflop_per_s", "at_rate_s", "alone_s"), rng.uniform(0.01, 1.5, 4).tolist()))

    records = [
        record(
            work, model, n, seconds(), memory_mb=float(rng.uniform(1, 99)), batch=batch, bound=bound(),
            parameters=int(rng.integers(1, 9)),
        )
        for work in ("forward", "train", "blocks")
        for model in (*OURS, *PEERS)
        for n in (SHORTEST, *LENGTHS[1:], HOUR)
        for batch in (1, 16)
    ]  # fmt: skip
    records += [record("scan", model, LONG, seconds()) for model in ("eegm2", "plain")]
    records += [
        record("forward", "eegm2", LONG, seconds(), precision=name, error=0.01)
        for name in ("bfloat16", "int8")
    ]
    records += [
        record("first-forward", model, SHORT, seconds() + 2, cache=cache, beyond_s={"median": 6 * seconds()})
        for model in ("light", "eegm2")
        for cache in ("warm", "cold")
    ]
    records += [record(name, "eegm2", 0, 2 * seconds()) for name in ("help", "info")]
    rates: dict[str, Any] = {"unit": "files/min", "bare": "the step alone", "files": 7}
    records += [
        record(name, "eegm2", 512, seconds(), rate=seconds(), bare_rate=seconds(), **rates)
        for name in ("pretrain", "embed")
    ]
    return document(*records)


def wanted(results: Results, text: str) -> float:
    """Return what an aim's text says is measured, from the results as they are."""
    models = {display_name(name): name for name in OURS} | {"Light": "light", "EEGM2": "eegm2"}
    lengths = [int(found.replace(",", "")) for found in re.findall(r"(?:×|\(1,|at) ([0-9,]*[0-9])", text)]
    batch = 16 if "batch 16" in text else 1
    work = (
        "train" if re.search("[Tt]raining step", text) else "scan" if text.startswith("Scan") else "forward"
    )
    who = next(
        (name for shown, name in sorted(models.items(), key=lambda i: -len(i[0])) if text.startswith(shown)),
        "eegm2",
    )
    n = lengths[0] if lengths else SHORT

    def took(model: str, length: int = n, of: str = work, **how: Any) -> float:
        found = results.find(of, model, length, batch, **how)
        assert found is not None
        median: float = found["seconds"]["median"]
        return median

    if "fastest peer" in text:
        peers = list(PEERS)
        if "of its size" in text:
            sizes = {name: results.find(work, name, n, batch)["parameters"] for name in (who, *PEERS)}  # type: ignore[index]
            peers = [name for name in PEERS if sizes[name] >= sizes[who] / 2]
        return min(took(name) for name in peers) / took(who)
    if "share of the bound" in text:
        found = results.find(work, who, n)
        assert found is not None
        share: float = found["bound"]["at_rate_s"] / took(who)
        return share
    if "memory above idle" in text:
        ours, plain = (results.find("train", name, n)["memory_mb"] for name in ("eegm2", "plain"))  # type: ignore[index]
        ratio: float = ours / plain
        return ratio
    if "time against" in text:
        return took(who) / took(models[text.partition("time against ")[2].removesuffix("'s")])
    if "against the plain" in text:
        return took("plain") / took("eegm2")
    if "time per step" in text:
        of = "blocks" if "in blocks" in text else "forward"
        return took(who, HOUR, of) / HOUR * LONG / took(who, LONG, of)
    if text.endswith(", ms"):
        return 1e3 * took(who)
    if "against float32" in text:
        low = "int8" if "int8" in text else "bfloat16"
        return took("eegm2") / took("eegm2", precision=low)
    if text.startswith("First forward"):
        who = "light" if "of Light" in text else "eegm2"
        cache = "cold" if "cold" in text else "warm"
        (found,) = (r for r in results.work("first-forward", who) if r["measurement"]["cache"] == cache)
        beyond: float = found["beyond_s"]["median"]
        return beyond
    name = text.split()[1].rstrip(",").removeprefix("--")
    (found,) = results.work(name)
    return float(found["rate"] / found["bare_rate"] if "share" in text else found["seconds"]["median"])


def keeps(value: float, asked: str) -> bool:
    """Return whether a value is as an aim's text asks."""
    number = float(re.findall(r"[0-9.]+", asked)[0]) / (100 if "%" in asked else 1)
    if asked.startswith("within"):
        return abs(value - 1) <= number
    if asked.startswith(("at most", "less")):
        return value <= number
    return value >= number


@pytest.mark.parametrize("seed", range(4))
def test_an_aim_is_what_its_text_says_of_the_results(seed: int) -> None:
    results = Results(everything(seed))
    found = aims(results)
    assert len(found) == len({aim.text for aim in found}) > 40
    for aim in found:
        assert aim.value is not None
        assert aim.value == pytest.approx(wanted(results, aim.text)), aim.text
        if not aim.target.startswith("measured"):
            assert aim.met == keeps(aim.value, aim.target), (aim.text, aim.value, aim.target)


def test_aims_are_those_that_were_set() -> None:
    """Twice as fast as any other network, within three milliseconds, and so near to the bound."""
    asked = {aim.text: aim.target for aim in aims(Results(everything(0)))}
    assert (
        asked["EEGM2 Light forward, batch 16 × 12,800, against the fastest peer"]
        == "at least 2 times as fast"
    )
    assert asked["EEGM2 forward, 16 × 50, ms"] == "at most 3"
    assert (
        asked["Training step, batch 1 × 12,800, memory above idle, share of the plain scan's"]
        == "at most 20%"
    )
    assert {(w, m, n): share for (w, m, n), share in SHARES.items()} == {
        ("forward", "eegm2", 12_800): 0.75, ("forward", "light", 12_800): 0.6,
        ("forward", "light", 1400): 0.5,
        ("train", "eegm2", 12_800): 0.65, ("train", "light", 12_800): 0.5,
    }  # fmt: skip


def test_tables_are_in_milliseconds_megabytes_and_the_right_way_round() -> None:
    content = document(
        record("forward", "eegm2", LONG, 0.3, memory_mb=12.0, parameters=1_500_000),
        record("forward", "eegm2", LONG, 0.6, precision="int8", error=0.02),
        record("train", "eegm2", LONG, 0.9, memory_mb=500.0, parameters=1_500_000),
        record("forward", "eegm2", LONG, 2.5, batch=16),
        record("scan", "plain", LONG, 0.05, memory_mb=7.0),
        record("scan-train", "eegm2", LONG, 0.02, memory_mb=8.0),
    )
    page = markdown(content)
    assert "eegm2 0, torch 2; commit 0123456789ab;" in page
    assert "| EEGM2 | 1.50 | 300 (270–360) | 12 | 900 (810–1,080) | 500 |" in page
    assert "| EEGM2 | int8 | 12,800 | 600 (540–720) | 0.50 | 2.0e-02 |" in page
    assert "| plain, chunks of 256, forward | 12,800 | 50 (45–60) | 7 |" in page
    assert "| ours, with gradients | 12,800 | 20 (18–24) | 8 |" in page
    for block, cell in (("ms, batch 16", "2,500 (2,250–3,000)"), ("MB, batch 16", "10")):
        table = page.partition(f"Forward pass, {'' if 'ms' in block else 'peak memory above idle, '}{block}")[
            2
        ]
        assert f"| EEGM2 | {cell} |" in table[:300]


@pytest.mark.parametrize(("batch", "n_times", "seconds"), [(1, 12_800, 0.5), (16, 640, 0.25), (32, 128, 4.0)])
def test_real_time_is_the_time_that_the_windows_last(batch: int, n_times: int, seconds: float) -> None:
    """All windows of a batch, at the 128 Hz of the paper."""
    made = record("forward", "light", n_times, seconds, batch=batch, memory_mb=33.0)
    cells = overview(document(made)).splitlines()[1].rpartition(f"{n_times:,}")[2].split()
    assert float(cells[0].replace(",", "")) == pytest.approx(1e3 * seconds, rel=1e-2)
    assert cells[1] == "33"
    assert float(cells[2].replace(",", "")) == pytest.approx(
        batch * n_times / 128 / seconds, rel=0.02, abs=0.5
    )
    said = run.summary(made)
    assert said.startswith(f"{1e3 * seconds:,.1f} ms, 33 MB above idle")
    assert f"{batch * n_times / seconds:,.0f} samples/s" in said


@pytest.mark.parametrize("batch", [1, 16])
def test_curves_are_of_their_batch_in_milliseconds_and_megabytes(batch: int) -> None:
    times = {(n, b): 0.001 * n * b for n in (400, 50, 1400) for b in (1, 16)}
    records = [
        record("forward", model, n, factor * s, batch=b, memory_mb=factor * n)
        for model, factor in (("eegm2", 1.0), ("light", 0.5))
        for (n, b), s in times.items()
    ]
    figure = by_length(document(*records, record("train", "eegm2", 400, 77.0, batch=batch)), "forward", batch)
    assert figure is not None
    left, right = figure.axes
    for factor, time, memory in zip((0.5, 1.0), left.lines, right.lines, strict=True):
        for line in (time, memory):
            assert list(np.asarray(line.get_xdata())) == [50, 400, 1400]
        expected = [1e3 * factor * times[n, batch] for n in (50, 400, 1400)]
        np.testing.assert_allclose(np.asarray(time.get_ydata(), float), expected)
        np.testing.assert_allclose(
            np.asarray(memory.get_ydata(), float), [factor * n for n in (50, 400, 1400)]
        )
    assert left.get_title(loc="left").endswith(f"batch {batch}: time, ms")
    assert right.get_title(loc="left").endswith("peak memory above idle, MB")


@pytest.mark.parametrize(("training", "times"), [(False, 1), (True, 3)])
def test_a_bound_counts_two_operations_for_each_product_and_thrice_in_training(
    training: bool, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = Counter({(100.0, 20, 30): 2, (40_000.0, 5, 7): 1})
    asked: list[Any] = []

    def product_shapes(*_: Any, composed: bool) -> Any:
        asked.append(composed)
        return shapes

    monkeypatch.setattr(products, "product_shapes", product_shapes)
    monkeypatch.setattr(products, "product_rate", lambda: 4e6)
    monkeypatch.setattr(products, "product_seconds", lambda rows, inner, columns, least: rows / 1e4)
    found = products.bound(None, 1, 1, 1, training=training)  # type: ignore[arg-type]
    n = times * 2 * (2 * 100 * 20 * 30 + 40_000 * 5 * 7)
    assert asked == [not training]
    assert found == pytest.approx(
        {"gflop": n / 1e9, "gflop_per_s": 0.004, "at_rate_s": n / 4e6, "alone_s": times * (2 * 0.01 + 4.0)}
    )


def test_a_command_is_counted_in_files_a_minute_beside_the_bare_encoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three runs of 2, 4 and 3 s on six files; of 40 windows a batch of 8 takes 0.25 s."""
    clock = iter([2.0, 4.0, 3.0, *[0.25] * 6])
    monkeypatch.setattr(commands, "clock_of", lambda work: next(clock))
    network = SimpleNamespace(config=SimpleNamespace(n_chans=2), encode=lambda x: x)
    checkpoint = SimpleNamespace(model=SimpleNamespace(eval=lambda: network))
    monkeypatch.setattr("eegm2.load_checkpoint", lambda _: checkpoint)
    m = Measurement("embed", "eegm2", 16, 8)
    trained: Any = SimpleNamespace(run="r")
    found = commands._against_forward(m, trained, lambda: None, 40, 6)
    assert (found["seconds"]["median"], found["seconds"]["n"]) == (3.0, 3)
    assert found["rate"] == pytest.approx(60 * 6 / 3.0)
    assert found["bare_rate"] == pytest.approx(60 * 6 / (40 * 0.25 / 8))
    assert (found["unit"], found["files"], found["windows"]) == ("files/min", 6, 40)


def test_preparing_is_counted_in_megabytes_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("a.edf", 3_000_000), ("b.edf", 1_000_000)):
        (tmp_path / name).write_bytes(bytes(size))
    clock = iter([0.5, 0.25, 1.0, 8.0, 2.0, 4.0])
    monkeypatch.setattr(commands, "clock_of", lambda work: next(clock))
    monkeypatch.setattr(commands, "recordings", lambda: tmp_path)
    monkeypatch.setattr("eegm2.RecordingStore", lambda _: SimpleNamespace(recordings=[1, 2]))
    found = commands._prepare(None, tmp_path)
    assert (found["rate"], found["bare_rate"], found["unit"]) == (1.0, 8.0, "MB/s")
    assert found["files_per_min"] == pytest.approx(30.0)


@pytest.mark.parametrize("cache", ["cold", "warm", ""])
def test_with_a_cold_cache_every_process_has_its_own(cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a warm one all have the same, and the one that fills it is not counted."""
    asked: list[Path] = []

    def timed(m: Any, folder: Path, place: Path) -> tuple[float, float]:
        asked.append(place)
        return 10.0 * len(asked), float(len(asked))

    monkeypatch.setattr(first, "timed", timed)
    found = first.measure_first(Measurement("first-forward", "light", 64, cache=cache))
    if cache == "cold":
        assert len(asked) == len(set(asked)) == 2
        counted = [1, 2]
    else:
        assert (len(asked), len(set(asked))) == (6, 1)
        counted = [2, 3, 4, 5, 6]
    assert found["beyond_s"]["median"] == np.median(counted)
    assert (found["seconds"]["median"], found["seconds"]["n"]) == (10 * np.median(counted), len(counted))


@pytest.mark.parametrize(
    ("cores", "asked", "expected"), [(4, 0, {1, 4}), (1, 0, {1}), (4, 3, {3}), (2, 8, {8})]
)
def test_threads_are_those_asked_for_else_of_the_cores_there_are(
    cores: int, asked: int, expected: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suites, "available_cores", lambda: cores)
    found = measurements(BenchmarkConfig(suite="paper", threads=asked, n_chans=5, width=12))
    assert {m.threads for m in found} == expected
    assert {(m.n_chans, m.width) for m in found} == {(5, 12)}


def test_every_combination_that_is_named_is_measured_and_no_other() -> None:
    config = BenchmarkConfig(models=("s1", "light"), lengths=(64, 96), batch=(2, 4), train=True, threads=1)
    found = [(m.work, m.model, m.n_times, m.batch) for m in measurements(config)]
    assert sorted(found) == sorted(
        itertools.product(("forward", "train"), config.models, config.lengths, config.batch)
    )
    usual = [(m.work, m.model, m.n_times, m.batch) for m in measurements(BenchmarkConfig(batch=(3,)))]
    assert sorted(usual) == sorted(
        itertools.product(("forward",), ("eegm2", "light"), (512, 1280, 12_800), (3,))
    )
    with_peers = {m.model for m in measurements(BenchmarkConfig(models=("s1",), peers=True))}
    assert with_peers == {"s1", *PEERS}


def test_a_measurement_has_the_threads_and_the_data_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def supervise(*given: Any) -> dict[str, Any]:
        seen.append(given)
        return {}

    monkeypatch.setattr(run, "supervise", supervise)
    m = Measurement("forward", "light", 64, threads=3)
    run.measure_in_process(m, timeout_s=7.0, memory_gb=2.0, data="mine")
    ((command, environment, timeout_s, memory_gb),) = seen
    assert Measurement(**json.loads(command[-1])) == m
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert environment[name] == "3"
    assert (environment[commands.VARIABLE], timeout_s, memory_gb) == ("mine", 7.0, 2.0)


@pytest.mark.parametrize(("each", "n"), [(0.4, 4), (0.001, 40), (3.0, 3), (9.0, 1)])
def test_it_is_repeated_until_enough_was_timed(each: float, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run is told apart: it is none of those that the median is of."""
    clock = iter([each if each > 8 else 5.0, *[each] * 99])
    monkeypatch.setattr("eegm2.benchmark.measure.clock", lambda _: next(clock))
    peak = SimpleNamespace(stop=lambda: None, above_idle_mb=lambda: 12.0, idle_mb=80.0, method="m")
    monkeypatch.setattr("eegm2.benchmark.memory.Peak", lambda: peak)
    timed = SimpleNamespace(warm_up=lambda: None, inputs=[np.zeros((1, 2, 80))], plain=None)
    found = _time(Measurement("forward", "light", 64), timed)
    assert found["samples"] == 80, "of the length that a peer takes"
    assert (found["seconds"]["n"], found["seconds"]["median"]) == (n, each)
    assert ENOUGH_S == 1.5
    assert (found["first_s"], found["memory_mb"], found["idle_mb"]) == (each if each > 8 else 5.0, 12.0, 80.0)


def test_of_like_measurements_the_plain_one_is_looked_up() -> None:
    """Not the one that keeps its memory, of another precision, batch or fewer threads."""
    others = (
        record("train", "light", 64, 9.0, keep_memory=True),
        record("train", "light", 64, 8.0, precision="int8"),
        record("train", "light", 64, 7.0, batch=16), record("train", "light", 64, 6.0, threads=1),
        record("forward", "light", 64, 5.0), record("train", "light", 96, 4.0),
        record("train", "s1", 64, 3.0),
    )  # fmt: skip
    for order in (others, others[::-1]):
        results = Results(document(*order, record("train", "light", 64, 1.0, memory_mb=11.0)))
        assert results.seconds("train", "light", 64) == 1.0
        assert results.memory("train", "light", 64) == 11.0
        assert results.seconds("train", "light", 64, 16) == 7.0
        kept = results.select("train", keep_memory=True)
        assert [r["seconds"]["median"] for r in kept] == [9.0]


@pytest.mark.parametrize(
    ("n_times", "batch", "expected"),
    [(200, 1, None), (400, 1, 40.0), (100, 4, 40.0), (300, 2, 60.0), (50, 8, None)],
)
def test_what_a_larger_input_takes_is_foreseen_in_proportion(n_times: int, batch: int, expected: Any) -> None:
    """Of windows and of their length, from 10 s for one of 100 samples; two runs must fit into 60 s."""
    done = [record("forward", "light", 100, 10.0, threads=1)]
    m = Measurement("forward", "light", n_times, batch)
    found = run._foreseen(m, done, 60.0)
    if expected is None and n_times >= 100:
        assert found is None
    elif n_times < 100:
        assert found is None, "a shorter input may take less"
    else:
        assert found == {"status": "too long", "reason": f"some {expected:.0f} s each, by 1 × 100"}


def test_a_machine_has_the_memory_that_its_maker_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=8 * 2**30))
    assert machine.machine()["memory_gb"] == 8.0


class Two(torch.nn.Module):
    """A large weight and one whose gradient is a hundredth of it."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.large, self.small = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.large + 0.01 * self.factor * self.small) * (1 + 0.01 * x.mean((1, 2)))[:, None]


@pytest.mark.parametrize(("factor", "sound"), [(1.0, True), (1.02, False)])
def test_a_small_gradient_must_be_right_too(factor: float, sound: bool) -> None:
    x = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(0))
    if sound:
        assert subject.gradient_gate(Two(), Two().double(), x) < 1e-4
        return
    with pytest.raises(subject.GateError, match="gradients: error 2"):
        subject.gradient_gate(Two(factor), Two().double(), x)


def test_a_measurement_may_take_four_fifths_of_what_is_free_unless_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = SimpleNamespace(available=10 * 2**30, total=64 * 2**30)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    monkeypatch.setattr(run, "measurements", lambda config: [])
    assert run.run(BenchmarkConfig())["bounds"] == {"timeout_s": 120.0, "memory_gb": 8.0}
    assert run.run(BenchmarkConfig(memory_gb=3.0, timeout_s=9.0))["bounds"] == {
        "timeout_s": 9.0,
        "memory_gb": 3.0,
    }
