"""Aims, tables and figures say what the results say."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from eegm2.benchmark.aims import Aim, aims
from eegm2.benchmark.config import PEERS
from eegm2.benchmark.plots import by_length, spread_labels
from eegm2.benchmark.render import render
from eegm2.benchmark.results import Results
from eegm2.benchmark.suites import HOUR
from eegm2.benchmark.tables import markdown, overview
from tests.benchmark.synthetic import document, failed, record

RATE = {"unit": "files/min", "rate": 90.0, "bare": "the forward pass alone", "bare_rate": 100.0, "files": 7}
BOUND = {"gflop": 30.0, "gflop_per_s": 150.0, "at_rate_s": 0.2, "alone_s": 0.25}
TRAIN_BOUND = {**BOUND, "at_rate_s": 0.6}
SLOW = sorted(set(PEERS) - {"LUNA", "EEGConformer"})


def whole(light: float = 0.01, peer: float = 0.02) -> dict:
    """Return results that meet every aim of them (unless Light is slower than half a peer)."""
    return document(
        record("forward", "eegm2", 12_800, 0.3, bound=BOUND),
        record("forward", "plain", 12_800, 3.3),
        record("scan", "eegm2", 12_800, 0.01),
        record("scan", "plain", 12_800, 0.5),
        record(
            "train", "eegm2", 12_800, 0.9, memory_mb=500.0, bound={**BOUND, "at_rate_s": 0.6}, parameters=4
        ),
        record("train", "LUNA", 12_800, 0.95, parameters=3),
        record("train", "EEGConformer", 12_800, 0.1, parameters=1),
        *(
            failed("train", n, 12_800, "too long", "some 70 s each")
            for n in set(PEERS) - {"LUNA", "EEGConformer"}
        ),
        record("forward", "s3", 12_800, 0.44),
        record("forward", "covariance", 12_800, 0.019, memory_mb=44.0, parameters=2_345_678),
        failed("train", "covariance", 12_800, "memory", "more than 4 GB resident"),
        record("forward", "light", 1400, 0.03, threads=1),
        record("first-forward", "light", 1400, 1.2, cache="warm", beyond_s={"median": 0.4}),
        record("first-forward", "light", 1400, 7.2, cache="cold", beyond_s={"median": 6.4}),
        record("help", "eegm2", 0, 0.2),
        record("embed", "eegm2", 512, 3.0, **RATE, data="mine"),
        record("train", "plain", 12_800, 9.0, memory_mb=3600.0),
        record("forward", "eegm2", HOUR, 0.3 * 36 * 1.1),
        record("forward", "light", HOUR, light * 36 * 0.9),
        record("forward", "plain", 1400, 0.4),
        *(record("forward", "light", length, light) for length in (1400, 12_800)),
        *(record("forward", name, length, peer) for name in ("s5", *PEERS) for length in (1400, 12_800)),
        record("forward", "eegm2", 12_800, 0.6, precision="bfloat16", error=0.012),
        record("train", "eegm2", 12_800, 77.0, keep_memory=True),
        record("blocks", "eegm2", 12_800, 0.5),
        record("blocks", "eegm2", HOUR, 0.5 * 36 * 1.2),
        failed("forward", "light", 99, "timeout", "more than 60 s"),
    )


def found(content: dict) -> dict[str, Aim]:
    return {aim.text: aim for aim in aims(Results(content))}


def test_every_aim_is_computed() -> None:
    values = found(whole())
    assert len(values) == len(aims(Results(whole())))
    forward = values["EEGM2 forward, 16 × 12,800, against the plain scan"]
    assert (forward.value, forward.verdict) == (pytest.approx(11.0), "met")
    assert forward.note.endswith("the products alone take 200 ms, so 16.5 is the most there is")
    share = values["EEGM2 forward, 16 × 12,800, share of the bound"]
    assert (share.value, share.met) == (pytest.approx(2 / 3), False)
    share = values["EEGM2 training step, 16 × 12,800, share of the bound"]
    assert (share.value, share.met) == (pytest.approx(2 / 3), True)
    rival = values["EEGM2 training step, batch 1 × 12,800, against the fastest peer of its size"]
    assert (rival.value, rival.met) == (pytest.approx(0.95 / 0.9), True), (
        "EEGConformer is a quarter of its size"
    )
    mamba1 = values["S3 (Mamba-1) forward, batch 1 × 12,800, time against EEGM2's"]
    assert (mamba1.value, mamba1.met) == (pytest.approx(0.44 / 0.3), True)
    twice = values["Covariance forward, batch 1 × 12,800, time against EEGM2 Light's"]
    assert (twice.value, twice.met) == (pytest.approx(1.9), True)
    training = values["Covariance training step, batch 1 × 12,800, time against EEGM2 Light's"]
    assert (training.met, "more than 4 GB" in training.note) == (None, True)
    first = "First forward of Light in a new process, {} kernel cache, seconds beyond import torch"
    assert values[first.format("warm")].met is True
    assert values[first.format("cold")].met is False
    assert values["eegm2 --help, seconds"].met is True
    assert values["eegm2 info, seconds"].note == "not in this run"
    embed = values["eegm2 embed, share of the bare forward pass's"]
    assert (embed.value, embed.met, embed.note) == (0.9, True, "90 of 100 files/min")
    scan = values["Scan alone, (1, 12,800, 8, 64, d_state 16), against the plain one"]
    assert (scan.value, scan.met) == (pytest.approx(50.0), True)
    train = values["Training step, batch 1 × 12,800, against the plain scan"]
    assert (train.value, train.met) == (pytest.approx(10.0), True)
    memory = values["Training step, batch 1 × 12,800, memory above idle, share of the plain scan's"]
    assert (memory.value, memory.met) == (pytest.approx(500 / 3600), True)
    linear = values["EEGM2, time per step at 460,800 against 12,800 steps"]
    assert (linear.value, linear.met) == (pytest.approx(1.1), True)
    assert values["EEGM2 Light, time per step at 460,800 against 12,800 steps"].value == pytest.approx(0.9)
    blocks = values["EEGM2 in blocks, time per step at 460,800 against 12,800 steps"]
    assert (blocks.value, blocks.met) == (pytest.approx(1.2), False)
    assert values["EEGM2 Light in blocks, time per step at 460,800 against 12,800 steps"].met is None
    light = values["EEGM2 Light forward, batch 1 × 1,400, against the fastest peer"]
    assert (light.value, light.met) == (pytest.approx(2.0), True)
    half = values["EEGM2 forward, 16 × 12,800, bfloat16 against float32"]
    assert half.value == pytest.approx(0.5)
    assert "1.2e-02" in half.note
    assert values["EEGM2 forward, 16 × 12,800, int8 against float32"].verdict == "not measured"


def test_aims_that_are_not_met() -> None:
    content = whole(light=0.05)
    for wanted, seconds in (("plain", 2.9), ("eegm2", 0.4)):
        for r in content["results"]:
            if (r["measurement"]["work"], r["measurement"]["model"]) == ("forward", wanted):
                r["seconds"]["median"] = seconds if r["measurement"]["n_times"] == 12_800 else 99.0
    values = found(content)
    verdicts = [aim.verdict for aim in values.values()]
    assert (
        verdicts.count("not met") == 7
    )  # forward, share, Light twice, linear as a whole and in blocks, cold
    assert values["EEGM2 Light forward, batch 1 × 12,800, against the fastest peer"].value == pytest.approx(
        0.4
    )


def test_peers_without_a_time() -> None:
    content = whole()
    there = (r for r in content["results"] if r["measurement"]["work"] == "forward")
    peers = [r for r in there if r["measurement"]["model"] in PEERS[:-1]]
    for r in peers:
        r |= {"status": "memory", "reason": "more than 4 GB resident"}
    text = "EEGM2 Light forward, batch 1 × 1,400, against the fastest peer"
    assert found(content)[text].met is True, "what met a bound is slower"
    peers[0]["status"] = "not installed"
    aim = found(content)[text]
    assert aim.met is None
    assert aim.note.endswith("not measured: BIOT")


def test_missing_measurements_are_named() -> None:
    content = document(failed("forward", "plain", 12_800, "timeout", "more than 60 s"))
    values = aims(Results(content))
    assert all(aim.met is None for aim in values)
    note = "EEGM2 at 12,800: not in this run; EEGM2, plain scan at 12,800: timeout, more than 60 s"
    assert note in {aim.note for aim in values}


def test_the_page_is_made_of_the_results() -> None:
    content = whole()
    change = "input of 200 samples: it takes whole patches of 200"
    content["results"].append(record("forward", "CBraMod", 50, 0.02, changes=[change]))
    page = markdown(content, ["cpu-forward.svg"])
    assert "An Ordinary CPU, 2 cores, 8 GB" in page
    assert "commit 0123456789ab;" in page
    assert "Load average of the machine before each measurement: 0.5 to 0.7." in page
    assert "| EEGM2, plain scan |  |  | 400 (360–480) | 3,300 (2,970–3,960) |  |" in page
    assert "| EEGM2 Light |  | timeout | 10 (9–12) |" in page
    assert "- EEGM2 Light, forward 1 × 99: timeout: more than 60 s" in page
    assert f"- CBraMod: {change} (at 50)" in page
    assert "| EEGM2, forward | 1 × 12,800 | 300 | 30.00 | 150 | 200 | 67% | 250 | 83% |" in page
    assert page.startswith("![Time and memory against length](cpu-forward.svg)\n")
    assert page.index("[start:tables]") < page.index("An Ordinary CPU")
    assert page.endswith("<!-- --8<-- [end:tables] -->\n")
    for block in re.findall(r"(?:^\|.*\n)+", page, re.M):
        widths = {re.sub(r"\\\|", "", line).count("|") for line in block.splitlines()}
        assert len(widths) == 1, block
    assert page.count("| 11.00 | met |") == 1
    assert "| Covariance | 2.35 | 19 (17.1–22.8) | 44 | memory | memory |" in page
    assert "| EEGM2 | 1 × 12,800 | 77,000 (69,300–92,400) | 10 |" in page
    assert "| EEGM2 | 500 (450–600) | 21,600 (19,440–25,920) |" in page
    assert "| forward pass, EEGM2 Light | cold | 7.20 (6.48–8.64) | 6.40 |" in page
    assert (
        "| eegm2 embed, EEGM2 | mine, 7 files | 90 files/min | 100 (the forward pass alone) | 90% |" in page
    )
    assert "### Forward pass, 1 thread, ms, batch 1" in page
    assert "EEGM2 Light, 1 × 99: timeout" in overview(content)
    assert "embed eegm2 on mine: 90 files/min, 90% of the forward pass alone" in overview(content)


def test_rendering_is_repeatable_and_shows_every_model(tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    path.write_text(json.dumps(whole()))
    names = [written.name for written in render(path)]
    assert names == ["cpu.md", "cpu-forward.svg", "cpu-train.svg"]
    first = [(tmp_path / name).read_bytes() for name in names]
    render(path)
    assert [(tmp_path / name).read_bytes() for name in names] == first
    figure = by_length(whole())
    assert figure is not None
    for axis in figure.axes:
        assert {"EEGM2", "EEGM2 Light", "S5 (attention)", "LaBraM", "Covariance"} <= {
            t.get_text() for t in axis.texts
        }
        assert axis.get_xscale() == axis.get_yscale() == "log"
    assert by_length(whole(), "forward", batch=7) is None


def test_labels_are_spread() -> None:
    wanted = [0.5, 0.5, 0.51, 0.98, 0.99, 0.0]
    placed = spread_labels(wanted, 0.05)
    ordered = sorted(placed)
    assert all(b - a >= 0.05 - 1e-9 for a, b in itertools.pairwise(ordered))
    assert min(placed) >= 0
    assert max(placed) <= 1
    assert placed[5] == min(placed)
    assert placed[4] == max(placed)
    assert spread_labels([], 0.1) == []
    assert len({round(p, 6) for p in spread_labels([0.5] * 30, 0.05)}) == 30
