"""The books of an experiment on made-up cells: what counts as finished, rows, differences, tables, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eegm2.config import to_dict
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import DataError
from eegm2.evaluation.experiment import results as of_results
from eegm2.evaluation.experiment.cells import CellFolder, StoredCell
from eegm2.evaluation.experiment.choice import best, choices, choose
from eegm2.evaluation.experiment.pretrained import Wanted, run_folder
from eegm2.evaluation.experiment.results import Finished, _spare, comparisons, cross_validated, result_rows
from eegm2.evaluation.experiment.splits import NamedSplit, _manifest, _subset
from eegm2.evaluation.experiment.tables import choice_lines, markdown
from eegm2.evaluation.scores.crossval import subject_splits
from eegm2.evaluation.scores.resampling import compare
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.training.config import PretrainConfig
from eegm2.training.run_record import RUN_FORMAT
from tests.evaluation.helpers import labelled_arrays

DATA = labelled_arrays(n_subjects=8, n_times=8)
SPLITS = [
    NamedSplit(f"fold{i}", split, SplitManifest((), (), (), by="subject"))
    for i, split in enumerate(subject_splits(DATA, 2))
]


def cell(model: str, split: NamedSplit, seed: int) -> Any:
    return SimpleNamespace(
        model=SimpleNamespace(name=model, by="auroc"),
        split=split,
        seed=seed,
        label=f"{model} {split.name} seed {seed}",
        stem=f"{model}-{split.name}-s{seed}",
    )


def stored(
    split: NamedSplit, seed: int, *, deterministic: bool = False, strength: float = 1.0, **facts: Any
) -> StoredCell:
    y = DATA.y[split.indices.test]
    noise = np.random.default_rng([seed, len(split.name), int(10 * strength)]).standard_normal(len(y))
    p = 1 / (1 + np.exp(-(strength * (2 * y - 1) + noise)))
    result = {"protocol": "p", "seed": seed, "threshold": 0.5, "deterministic": deterministic}
    result["validation"] = {"metrics": {"auroc": strength, "loss": -strength}, "reasons": {}}
    about = {"key": f"k{seed}{strength}", "predictions_sha256": "h", "result": result, **facts}
    return StoredCell(about, np.stack([1 - p, p], axis=1), Path(f"{split.name}-{seed}.json"))


def finished(model: str, seeds: tuple[int, ...] = (0, 1), missing: tuple = (), **how: Any) -> list[Finished]:
    return [
        Finished(cell(model, split, seed), None if (i, seed) in missing else stored(split, seed, **how))
        for seed in seeds
        for i, split in enumerate(SPLITS)
    ]


def test_a_seed_counts_where_it_has_been_through_all_splits() -> None:
    found = cross_validated(finished("a", (0, 1, 2), missing=((1, 1),)), DATA)
    assert found["a", None].seeds == (0, 2)
    assert cross_validated(finished("a", (0,), missing=((0, 0),)), DATA) == {}
    whole = finished("a", (0, 1)) + finished("b", (3,))
    found = cross_validated(whole, DATA)
    assert {key: result.seeds for key, result in found.items()} == {("a", None): (0, 1), ("b", None): (3,)}
    first, second = found["a", None].parts
    for i, done in enumerate(whole[:2]):
        assert done.stored is not None
        np.testing.assert_array_equal(first[i].score, done.stored.score)
        np.testing.assert_array_equal(first[i].y, DATA.y[SPLITS[i].indices.test])
        np.testing.assert_array_equal(first[i].subject, DATA.subject[SPLITS[i].indices.test])
    assert not np.array_equal(first[0].score, second[0].score)
    sure = cross_validated(finished("a", (4, 5), deterministic=True), DATA)
    assert sure["a", None].seeds == (4,), "where chance plays no part one seed is all of them"


def test_a_cell_is_spare_where_the_first_seed_has_no_chance_in_it() -> None:
    sure = finished("a", (0, 1), missing=((0, 1), (1, 1)), deterministic=True)
    chance = finished("b", (0, 1), missing=((0, 1), (1, 1)))
    unknown = finished("c", (0, 1), missing=((0, 0), (0, 1)), deterministic=True)
    every = [*sure, *chance, *unknown]
    assert [_spare(done, every) for done in sure[2:]] == [True, True]
    assert not any(_spare(done, every) for done in (*chance[2:], *unknown[2:3]))


PLAN: Any = SimpleNamespace(
    models=[SimpleNamespace(name="b", kind="band_power"), SimpleNamespace(name="a", kind="linear")],
    n_bootstrap=40,
    compare=[SimpleNamespace(a="a", b="b"), SimpleNamespace(a="a", b="c")],
)


def test_rows_are_in_the_plans_order_with_what_was_resampled() -> None:
    results = cross_validated(finished("a") + finished("b", strength=2.0), DATA)
    rows = result_rows(results, DATA, PLAN, "subject")
    assert list(dict.fromkeys((row["model"], row["kind"]) for row in rows)) == [
        ("b", "band_power"),
        ("a", "linear"),
    ]
    assert all(row["n_subjects"] == 8 and "unit" not in row and "train_subjects" not in row for row in rows)
    curve = {("a", 5): results["a", None], ("a", 2): results["a", None]}
    rows = result_rows(curve, DATA, PLAN, "subject")
    labels = [("a, 2 subjects", 2), ("a, 5 subjects", 5)]
    assert list(dict.fromkeys((row["model"], row["train_subjects"]) for row in rows)) == labels
    two = replace(DATA, recording=np.array([f"{s}/{i % 2}" for i, s in enumerate(DATA.subject)]))
    by = [replace(split, manifest=replace(split.manifest, by="recording")) for split in SPLITS]
    cells = [Finished(cell("a", split, 0), stored(split, 0)) for split in by]
    (row, *_) = result_rows(cross_validated(cells, two), two, PLAN, "recording")
    assert (row["unit"], row["n_recordings"], row["n_subjects"]) == ("recording", 16, 8)
    half = [Finished(cell("a", split, 0), stored(split, 0)) for split in by[:1]]
    (row, *_) = result_rows(cross_validated(half, two), two, PLAN, "recording")
    tested = SPLITS[0].indices.test
    assert row["n_subjects"] == len(set(DATA.subject[tested])) < 8, "people who are tested, not all there are"
    assert row["n_recordings"] == len(set(two.recording[tested]))


@pytest.mark.parametrize("n", [40, 90])
def test_intervals_and_differences_are_drawn_as_often_as_the_plan_says(n: int) -> None:
    results = cross_validated(finished("a", strength=3.0) + finished("b", strength=0.5), DATA)
    plan: Any = SimpleNamespace(models=PLAN.models, compare=PLAN.compare[:1], n_bootstrap=n)
    by_hand = results["b", None].rows("b", n_bootstrap=n)
    rows = [row for row in result_rows(results, DATA, plan, "subject") if row["model"] == "b"]
    assert [(row["ci_low"], row["ci_high"]) for row in rows] == [(r["ci_low"], r["ci_high"]) for r in by_hand]
    parts = results["a", None].parts, results["b", None].parts
    for row in comparisons(results, plan):
        found = compare(*parts, row["metric"], n_resamples=n)
        assert (row["ci_low"], row["ci_high"], row["p"]) == (found.ci_low, found.ci_high, found.p)


def test_differences_are_of_every_metric_or_say_why_there_are_none() -> None:
    results = cross_validated(finished("a", strength=3.0) + finished("b", strength=0.5), DATA)
    rows = comparisons(results, PLAN)
    assert rows[-1] == {"a": "a", "b": "c", "problem": "c not finished"}
    assert {row["metric"] for row in rows[:-1]} == set(results["a", None].metrics)
    auroc = next(row for row in rows if row.get("metric") == "auroc")
    means = [results[name, None].values("auroc").mean() for name in "ab"]
    assert auroc["difference"] == pytest.approx(means[0] - means[1])
    assert auroc["ci_low"] <= auroc["difference"] <= auroc["ci_high"]
    assert comparisons({}, PLAN)[0] == {"a": "a", "b": "b", "problem": "a and b not finished"}
    curve = {(name, n): results[name, None] for name in "ab" for n in (2, 4)}
    curve.pop(("b", 4))
    rows = comparisons(curve, PLAN)
    assert {row["train_subjects"] for row in rows if "metric" in row} == {2}
    assert {"a": "a", "b": "b", "train_subjects": 4, "problem": "b not finished"} in rows
    other = {
        ("a", None): results["a", None],
        ("b", None): cross_validated(finished("b")[:1], DATA)["b", None],
    }
    problems = [row for row in comparisons(other, PLAN) if "problem" in row and "metric" in row]
    assert len(problems) == len(results["a", None].metrics), "other folds cannot be paired"


def test_the_table_is_the_rows() -> None:
    row = {
        "model": "a|b",
        "metric": "auroc",
        "mean": 0.75,
        "ci_low": 0.6,
        "ci_high": 0.875,
        "n_subjects": 8,
        "seeds": [0, 1],
    }
    rows = [
        row,
        {**row, "metric": "kappa", "mean": None},
        {**row, "model": "c", "metric": "auroc", "ci_low": None},
    ]
    rows.append({**rows[1], "model": "c", "mean": 0.5})
    pairs = [
        {
            "a": "a",
            "b": "c",
            "metric": "auroc",
            "difference": 0.1,
            "ci_low": -0.05,
            "ci_high": 0.2,
            "p": 0.04,
        },
        {
            "a": "a",
            "b": "c",
            "metric": "kappa",
            "difference": -0.1,
            "ci_low": None,
            "ci_high": None,
            "p": None,
        },
        {"a": "a", "b": "d", "train_subjects": 5, "problem": "d not finished"},
    ]
    lines = markdown(rows, pairs, ["x fold0", "x fold0", "y"], ["A note."]).splitlines()
    assert lines == [
        "# Results",
        "",
        "Mean over folds and seeds, with the 95 % interval over subjects.",
        "",
        "| model | auroc | kappa | subjects | seeds |",
        "| --- | --- | --- | --- | --- |",
        "| a/b | 0.750 [0.600, 0.875] | – | 8 | 0, 1 |",
        "| c | 0.750 | 0.500 [0.600, 0.875] | 8 | 0, 1 |",
        "",
        "A note.",
        "",
        "## Differences",
        "",
        "Paired by subject; p from exchanging predictions subject by subject.",
        "",
        "| pair | metric | difference | p |",
        "| --- | --- | --- | --- |",
        "| a − c | auroc | +0.100 [-0.050, +0.200] | 0.040 |",
        "| a − c | kappa | -0.100 | – |",
        "| a − d, 5 subjects |  | d not finished |  |",
        "",
        "## Not finished",
        "",
        "- x fold0",
        "- y",
    ]
    recording = markdown([{**row, "unit": "recording", "n_recordings": 3}], [], [])
    assert "One person's recordings may be in several parts" in recording
    assert "| 3 | 0, 1 |" in recording
    assert "Differences" not in recording
    assert "Not finished" not in recording
    assert "No model has been through all splits yet." in markdown([], [], [])


def test_what_was_chosen_is_a_line_for_each_model() -> None:
    row = {"model": "m", "seed": 0, "by": "auroc", "validation_scores": {"a": 0.5, "b": None}}
    rows = [{**row, "split": f"fold{i}", "chosen": "ab"[i]} for i in range(2)]
    assert choice_lines(rows) == [
        "m, chosen by auroc on validation: fold0 a (a 0.500, b –); fold1 b (a 0.500, b –)."
    ]
    (line,) = choice_lines([rows[0], {**rows[0], "seed": 1}])
    assert "fold0 seed 0 a (a 0.500, b –); fold0 seed 1 a" in line


def test_a_choice_takes_the_results_and_facts_of_the_best_candidate() -> None:
    weak = stored(SPLITS[0], 0, strength=0.5, deterministic=True, device="cpu", seconds=9.0)
    strong = stored(SPLITS[0], 0, strength=2.0, pretraining_saw="nothing", model="strong")
    taken, facts = choose(cell("m", SPLITS[0], 7), {"weak": weak, "strong": strong})
    assert taken is strong
    assert facts["result"] == {**strong.facts["result"], "seed": 7, "deterministic": False}
    assert {key: facts[key] for key in ("model", "split", "seed", "chosen", "by", "seconds")} == {
        "model": "m", "split": "fold0", "seed": 7, "chosen": "strong", "by": "auroc", "seconds": 0.0,
    }  # fmt: skip
    assert facts["validation_scores"] == {"weak": 0.5, "strong": 2.0}
    assert (facts["pretraining_saw"], "device" in facts) == ("nothing", False)
    both = {"weak": weak, "other": replace(weak)}
    assert choose(cell("m", SPLITS[0], 7), both)[1]["result"]["deterministic"] is True
    assert best({"a": None, "b": None}, "auroc") == "a"
    assert best({"a": None, "b": -3.0}, "r2") == best({"a": None, "b": 3.0}, "mae") == "b"
    kept = [replace(weak, facts=facts), weak]
    assert [row["chosen"] for row in choices(kept)] == ["strong"]
    old = stored(SPLITS[0], 1)
    old.facts["result"]["validation"] = {}
    with pytest.raises(DataError, match=r"cells/fold0-1\.json: kept by an older eegm2.*delete it and run"):
        choose(cell("m", SPLITS[0], 1), {"old": old, "weak": weak})
    none = stored(SPLITS[0], 1)
    none.facts["result"]["validation"] = {"metrics": {"auroc": None}, "reasons": {"auroc": "one class"}}
    with pytest.raises(DataError, match=r"by: auroc cannot be computed .* of fold0 \(one class\)"):
        choose(cell("m", SPLITS[0], 1), {"none": none, "also": none})


def test_a_smaller_number_of_people_is_among_the_larger_and_tests_the_same() -> None:
    plan: Any = SimpleNamespace(path="p.toml", splits=SimpleNamespace(val=0.25, seed=3))
    data: LabelledWindows = labelled_arrays(n_subjects=24, n_times=8)
    split = NamedSplit("fold0", subject_splits(data, 3, val=0.25)[0], SplitManifest((), (), ()))
    before: dict[str, set[str]] = {"train": set(), "val": set()}
    whole = split.units(data)
    for count, sizes in ((2, (1, 1)), (4, (3, 1)), (8, (6, 2)), (16, (12, 4))):
        made = _subset(split, data, count, plan)
        units = made.units(data)
        assert (made.name, made.n_labelled, made.manifest) == (f"fold0/{count}", count, split.manifest)
        assert (len(units["train"]), len(units["val"])) == sizes
        assert units["test"] == whole["test"]
        np.testing.assert_array_equal(made.indices.test, split.indices.test)
        for part in ("train", "val"):
            assert before[part] <= set(units[part]) <= set(whole[part])
            before[part] = set(units[part])
    two = replace(data, recording=np.array([f"{s}/{i % 2}" for i, s in enumerate(data.subject)]))
    units = _subset(split, two, 4, plan).units(two)
    assert units == _subset(split, data, 4, plan).units(data)
    by_recording = NamedSplit("fold0", split.indices, SplitManifest((), (), (), by="recording"))
    units = _subset(by_recording, two, 4, plan).units(two)
    assert all("/" in name for name in units["train"])
    assert (len(units["train"]), len(units["val"]), len(units["test"])) == (3, 1, 16)
    made_of = _manifest(data, split.indices, SimpleNamespace(manifest_sha256="h"), 5)  # type: ignore[arg-type]
    parts = (tuple(whole[part]) for part in ("train", "val", "test"))
    assert made_of == SplitManifest(*parts, 5, "subject", "h"), "sorted, whatever the hash seed"
    with pytest.raises(DataError, match="train_subjects: got 17, but fold0 has 16 besides the test"):
        _subset(split, data, 17, plan)


def test_a_finished_cell_is_read_as_it_was_written_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    folder, one = CellFolder(tmp_path), cell("a", SPLITS[0], 0)
    key, score = "0123456789abcdef0123", np.array([[0.25, 0.75]])
    facts: dict[str, Any] = {"result": {"protocol": "p", "seed": 0, "threshold": 0.4, "deterministic": True}}
    facts |= {"model": "a", "split": "fold0", "seed": 0, "seconds": 1.0, "settings": {}}
    assert folder.read(one, key, {}) is None
    folder.write(one, key, facts, {"score": score})
    path = folder.path(one, key)
    assert path.name == "a-fold0-s0-0123456789abcdef.json"
    for reader in (folder, CellFolder(tmp_path)):
        found = reader.read(one, key, {})
        assert found is not None
        np.testing.assert_array_equal(found.score, score)
        assert (found.deterministic, found.outcome.threshold, found.validation) == (True, 0.4, {})
    assert CellFolder(tmp_path).read(one, key[:-1] + "4", {}) is None, "the same start of another key"
    assert folder.stale([path]) == []
    assert folder.stale([]) == [path.name]
    good = path.with_suffix(".npz").read_bytes()
    for damage in (good[:-1], good[:40] + bytes([good[40] ^ 1]) + good[41:], b""):
        path.with_suffix(".npz").write_bytes(damage)
        assert CellFolder(tmp_path).read(one, key, {}) is None
    path.with_suffix(".npz").unlink()
    assert CellFolder(tmp_path).read(one, key, {}) is None


def test_a_pretraining_is_found_by_what_it_was_told_and_another_begun_beside_it(tmp_path: Path) -> None:
    options = PretrainConfig(preset="s5", width=4)
    manifest = SplitManifest(("a", "b"), ("c",), ("d",))
    wanted = Wanted("fold0", options, 3, "store", manifest)
    assert run_folder(tmp_path, wanted) == tmp_path / wanted.name
    assert wanted.name.startswith("fold0-")
    others = {
        "options": replace(wanted, options=replace(options, width=8)),
        "store": replace(wanted, manifest_sha256="other"),
        "people": replace(wanted, manifest=replace(manifest, train=("a",), test=("b", "d"))),
        "unit": replace(wanted, manifest=replace(manifest, by="recording")),
    }
    assert len({other.name for other in others.values()} | {wanted.name}) == 5
    assert replace(wanted, options=replace(options, workers=3)).name == wanted.name
    run = tmp_path / wanted.name
    (run / "checkpoints").mkdir(parents=True)
    facts = {
        "run_format": RUN_FORMAT,
        "data": {"manifest_sha256": "store"},
        "pretrain": to_dict(options),
        "model": options.network_config(3, 128.0).to_dict(),
        "windows": to_dict(options.window_config()),
    }
    manifest.to_json(run / "splits.json")
    assert not wanted.fits(run)
    (run / "run.json").write_text(json.dumps(facts))
    assert wanted.fits(run)
    assert replace(wanted, options=replace(options, workers=3)).fits(run)
    assert replace(wanted, manifest=None).fits(run)
    assert replace(wanted, manifest=replace(manifest, test=())).fits(run), "who is tested trains nothing"
    assert [name for name, other in others.items() if other.fits(run)] == []
    assert not replace(wanted, n_chans=4).fits(run)
    (tmp_path / "fold0-another").mkdir()
    assert run_folder(tmp_path, wanted) == run
    (run / "run.json").write_text(json.dumps({**facts, "run_format": RUN_FORMAT + 1}))
    assert run_folder(tmp_path, wanted) == tmp_path / f"{wanted.name}-2"
    (tmp_path / f"{wanted.name}-2" / "checkpoints").mkdir(parents=True)
    assert run_folder(tmp_path, wanted) == tmp_path / f"{wanted.name}-3"


@pytest.mark.parametrize("deterministic", [True, False])
def test_what_is_missing_is_what_has_still_to_run(
    deterministic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seed that would add no chance is none of it; one cell is an experiment too."""
    monkeypatch.setattr(of_results, "to_dict", lambda plan: {"data": {}})
    data = SimpleNamespace(store="folder/store")
    plan: Any = SimpleNamespace(**{**vars(PLAN), "path": Path("e.toml"), "compare": [], "data": data})
    how: dict[str, Any] = {"statements": {}, "failures": {}, "stale": ["x"], "device": "cpu"}
    for cells, missing in (
        (finished("a", (0, 1), missing=((0, 1), (1, 1)), deterministic=deterministic), 2),
        ([Finished(cell("a", SPLITS[0], 0), stored(SPLITS[0], 0))], 0),
    ):
        of_results.write_results(tmp_path, plan, DATA, cells, **how)
        details = json.loads((tmp_path / "details.json").read_text())
        assert len(details["missing"]) == (0 if deterministic else missing)
        assert details["task"]["unit"] == "subject"
        assert (details["stale"], details["config"]["data"]["store"]) == (["x"], "store")
