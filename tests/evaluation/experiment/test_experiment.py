"""``eegm2 evaluate``: the tables are right, nobody tested is seen before, and nothing is done twice."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.experiment.cells import Cell
from eegm2.evaluation.experiment.reading import read_plan
from eegm2.evaluation.protocols.frozen import C_GRID, choose_c
from eegm2.evaluation.scores.metrics import predict_labels
from eegm2.evaluation.scores.outcome import Outcome
from tests.evaluation.experiments import (
    FOLDS,
    HEAD,
    MODELS,
    OWN,
    details_of,
    evaluate,
    model,
    plan_text,
    rows_of,
    write_plan,
)
from tests.evaluation.helpers import fake_run, labelled_arrays, labelled_store

COMPARE = '\n[[compare]]\na = "fine"\nb = "scratch"\n'
WHOLE = plan_text(*MODELS, tail=COMPARE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of six people."""
    folder = tmp_path_factory.mktemp("experiment")
    labelled_store(folder / "store")
    return folder


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    """The folder with a whole experiment in ``out``."""
    result = evaluate(place, WHOLE)
    assert result.exit_code == 0, result.output
    return place


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_model_has_its_rows_and_they_are_the_scores_of_the_predictions(done: Path) -> None:
    rows = rows_of(done)
    assert [*dict.fromkeys(row["model"] for row in rows)] == list(MODELS)
    keys = {"model", "kind", "metric", "mean", "std", "ci_low", "ci_high", "n_subjects", "seeds"}
    assert all(set(row) == keys and row["n_subjects"] == 6 for row in rows)
    kinds = {name: name for name in MODELS} | {"random": "linear", "band_power": "baseline"}
    assert {row["model"]: row["kind"] for row in rows} == kinds
    seeds = {row["model"]: row["seeds"] for row in rows}
    assert seeds == {name: [0] if name in ("linear", "band_power") else [0, 1] for name in MODELS}
    scores: dict[tuple[str, str, int], list[float]] = {}
    for path in (done / "out" / "cells").glob("*.json"):
        facts = json.loads(path.read_text())
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            y, score = file["y_true"], file["score"]
            assert len(set(file["subject"])) == 3
        predicted = predict_labels(score, facts["result"]["threshold"])
        for metric, value in {
            "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
            "auroc": sk.roc_auc_score(y, score[:, 1]),
        }.items():
            scores.setdefault((facts["model"], metric, facts["seed"]), []).append(value)
    for row in rows:
        if row["metric"] in ("balanced_accuracy", "auroc"):
            by_seed = [np.mean(scores[row["model"], row["metric"], seed]) for seed in row["seeds"]]
            assert row["mean"] == pytest.approx(np.mean(by_seed))
            assert row["std"] == pytest.approx(np.std(by_seed))
            assert row["ci_low"] <= row["ci_high"]
    means = {row["model"]: row["mean"] for row in rows if row["metric"] == "auroc"}
    assert min(means["linear"], means["band_power"]) > 0.9  # 10 Hz against 3 Hz


def test_nobody_is_tested_whom_pretraining_has_seen(done: Path) -> None:
    details = details_of(done)
    runs = sorted((done / "out" / "pretrained" / "own").iterdir())
    assert len(runs) == 2
    for run in runs:
        seen = SplitManifest.from_json(run / "splits.json")
        parts = details["splits"][run.name.partition("-")[0]]
        assert sorted(seen.train) == parts["train"]
        assert sorted(seen.val) == parts["val"]
        assert not {*seen.train, *seen.val} & set(parts["test"])
    tested = [set(parts["test"]) for parts in details["splits"].values()]
    assert len(set.union(*tested)) == sum(map(len, tested)) == 6
    assert set(details["pretraining_saw"]["fine"].values()) == {"pretraining saw 0 of the 3 test subjects"}
    assert set(details["pretraining_saw"]["random"].values()) == {"no pretraining"}


def test_details_comparisons_table_and_log(done: Path) -> None:
    details, table = details_of(done), (done / "out" / "results.md").read_text()
    fine = [row["mean"] for row in rows_of(done) if (row["model"], row["metric"]) == ("fine", "auroc")]
    scratch = [row["mean"] for row in rows_of(done) if (row["model"], row["metric"]) == ("scratch", "auroc")]
    pair = next(row for row in details["comparisons"] if row["metric"] == "auroc")
    assert pair["difference"] == pytest.approx(fine[0] - scratch[0])
    assert f"| fine − scratch | auroc | {pair['difference']:+.3f} [" in table
    assert "| fine | " in table
    assert details["provenance"]["machine"]["cpu_count"] >= 1
    assert details["config"]["data"]["window_s"] == 2.0
    cell = next(cell for cell in details["cells"] if cell["model"] == "light")
    assert {row["subject"] for row in cell["result"]["per_subject"]} <= {f"sub{i}" for i in range(6)}
    linear = next(cell for cell in details["cells"] if cell["model"] == "linear")
    assert linear["result"]["c"] in C_GRID
    power = next(cell for cell in details["cells"] if cell["model"] == "band_power")
    assert set(power["result"]["c_validation_loss"]) == {f"{c:g}" for c in C_GRID}


def test_the_log_has_cells_pretraining_and_the_time_since_the_start(done: Path) -> None:
    lines = (done / "out" / "evaluate.log").read_text().splitlines()
    parts = [
        re.fullmatch(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) \+(\d+):(\d\d):(\d\d) (.+)", line) for line in lines
    ]
    assert all(parts)
    elapsed = [3600 * int(p[2]) + 60 * int(p[3]) + int(p[4]) for p in parts if p]
    assert elapsed == sorted(elapsed)
    said = [p[5] for p in parts if p]
    assert said[0] == "evaluate.toml: 24 cells, 24 to do"
    for run in sorted((done / "out" / "pretrained" / "own").iterdir()):
        name = f"pretrained/own/{run.name}: "
        mine = [line.removeprefix(name) for line in said if line.startswith(name)]
        assert mine[0] == "pretraining begins"
        metrics = (run / "logs" / "metrics.csv").read_text().splitlines()
        row = dict(zip(metrics[0].split(","), metrics[1].split(",")))
        (epoch,) = (line for line in mine if line.startswith("epoch 1/1  train "))
        assert f"train {float(row['train_loss']):.5g}  val {float(row['val_loss']):.5g}" in epoch
        assert mine[-1].startswith(f"pretrained, 1 epochs, {row['step']} steps, train_loss ")


def test_again_nothing_is_computed_and_the_results_are_the_same(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "x")
    before = contents(tmp_path / "x" / "out")
    shown = evaluate(tmp_path / "x", WHOLE, "--dry-run").output
    assert "20 done, 4 not needed" in shown
    assert contents(tmp_path / "x" / "out") == before
    assert evaluate(tmp_path / "x", WHOLE).exit_code == 0
    after = contents(tmp_path / "x" / "out")
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"evaluate.log", "details.json"}
    assert set(after) == set(before)


def test_a_model_may_have_seeds_of_its_own(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "x")
    light = model("light")
    fewer = WHOLE.replace(light, light + "seeds = [1]\n")
    assert evaluate(tmp_path / "x", fewer).exit_code == 0
    assert {tuple(row["seeds"]) for row in rows_of(tmp_path / "x") if row["model"] == "light"} == {(1,)}
    assert len(details_of(tmp_path / "x")["stale"]) == 2  # seed 0 of the two folds; seed 1 was kept
    with pytest.raises(ConfigError, match=r"model 'light': seeds: got \(1, 1\), expected different numbers"):
        evaluate(tmp_path / "x", WHOLE.replace(light, light + "seeds = [1, 1]\n"), "--dry-run")


def test_a_changed_model_is_run_again_and_its_old_cells_are_told(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "x")
    changed = WHOLE.replace("{max_epochs = 3}", "{max_epochs = 2}")
    shown = evaluate(tmp_path / "x", changed, "--dry-run").output
    assert "4 to do" in shown
    assert "4 stale cells" in shown
    result = evaluate(tmp_path / "x", changed, "--only", "light")
    assert "24 cells" not in result.output
    assert "light fold0 seed 0: balanced_accuracy" in result.output
    assert len(details_of(tmp_path / "x")["stale"]) == 4
    same = [row for row in rows_of(done) if row["model"] != "light"]
    assert [row for row in rows_of(tmp_path / "x") if row["model"] != "light"] == same


def test_a_damaged_cell_is_computed_again(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "x")
    cells = sorted((tmp_path / "x" / "out" / "cells").glob("random-fold0-s1-*"))
    before = [path.read_bytes() for path in cells]
    cells[1].write_bytes(before[1][:-20])
    assert "1 to do" in evaluate(tmp_path / "x", WHOLE, "--dry-run").output
    evaluate(tmp_path / "x", WHOLE)
    assert cells[1].read_bytes() == before[1]
    assert (tmp_path / "x" / "out" / "results.json").read_bytes() == (
        done / "out" / "results.json"
    ).read_bytes()


def test_one_failing_model_does_not_stop_the_rest(place: Path) -> None:
    broken = model("broken", 'protocol = "scratch"\npreset = "s5"\nwidth = 4\nfit = {lr = 1e30}')
    text = HEAD + FOLDS + broken + model("band_power")
    result = evaluate(place, text, out="failing")
    assert result.exit_code == 1
    assert "failed: broken fold0 seed 0: fit: the loss is nan" in result.output
    assert {row["model"] for row in rows_of(place, "failing")} == {"band_power"}
    failures = details_of(place, "failing")["failures"]
    assert len(failures) == 4
    assert "lower lr" in failures["broken fold1 seed 1"]
    assert "- broken fold1 seed 1" in (place / "failing" / "results.md").read_text()
    mended = text.replace("lr = 1e30", "lr = 1e-3, max_epochs = 1")
    assert evaluate(place, mended, out="failing").exit_code == 0
    assert {row["model"] for row in rows_of(place, "failing")} == {"broken", "band_power"}


def test_learning_curves_are_nested_and_test_the_same_people(place: Path) -> None:
    labelled_store(place / "more", subjects=10)
    splits = "\n[splits]\nn_folds = 2\nval = 0.34\ntrain_subjects = [2, 5, 3]\n"
    text = plan_text("band_power", splits=splits, own="").replace('"store"', '"more"')
    assert evaluate(place, text, out="curve").exit_code == 0
    parts = details_of(place, "curve")["splits"]
    for fold in ("fold0", "fold1"):
        small, middle, large = (parts[f"{fold}/{count}"] for count in (2, 3, 5))
        for part in ("train", "val"):
            assert set(small[part]) <= set(middle[part]) <= set(large[part])
        assert small["test"] == middle["test"] == large["test"]
        assert [len(p["train"]) + len(p["val"]) for p in (small, middle, large)] == [2, 3, 5]
    auroc = [row for row in rows_of(place, "curve") if row["metric"] == "auroc"]
    assert [row["train_subjects"] for row in auroc] == [2, 3, 5]
    assert auroc[0]["model"] == "band_power, 2 subjects"
    with pytest.raises(DataError, match="train_subjects: got 6, but fold0 has 5 besides the test"):
        evaluate(place, text.replace("[2, 5, 3]", "[6]"), out="curve")


def test_manifests_and_official_parts(place: Path) -> None:
    people = [f"sub{i}" for i in range(6)]
    SplitManifest(tuple(people[:3]), (people[3],), tuple(people[4:])).to_json(place / "a.json")
    SplitManifest(tuple(people[3:]), (people[2],), tuple(people[:2])).to_json(place / "b.json")
    splits = '\n[splits]\nscheme = "manifest"\nfile = ["a.json", "b.json"]\n'
    evaluate(place, plan_text("band_power", splits=splits, own=""), out="manifest")
    assert details_of(place, "manifest")["splits"]["split1"]["test"] == people[:2]
    assert rows_of(place, "manifest")[0]["n_subjects"] == 4
    official = plan_text("band_power", splits='\n[splits]\nscheme = "official"\nby = "recording"\n', own="")
    with pytest.raises(DataError, match="no recording belongs to an official test part; use scheme 'folds'"):
        evaluate(place, official, out="official")
    labelled_store(place / "parted", official={4: "test", 5: "test"})
    evaluate(place, official.replace('"store"', '"parted"'), out="official")
    assert details_of(place, "official")["splits"]["official"]["test"] == ["rec4", "rec5"]
    row = rows_of(place, "official")[0]
    assert (row["unit"], row["n_recordings"], row["n_subjects"]) == ("recording", 2, 2)
    table = (place / "official" / "results.md").read_text()
    assert "95 % interval over recordings" in table
    assert "subjects" not in table
    curve = official.replace('"store"', '"parted"').replace("[splits]\n", "[splits]\ntrain_subjects = [3]\n")
    curve += model("other", MODELS["band_power"]) + '\n[[compare]]\na = "other"\nb = "band_power"\n'
    evaluate(place, curve, out="official-curve")
    assert rows_of(place, "official-curve")[0]["model"] == "band_power, 3 recordings"
    table = (place / "official-curve" / "results.md").read_text()
    assert "| other − band_power, 3 recordings | auroc |" in table
    assert "subjects" not in table


def test_a_finished_run_and_a_store_of_other_channels(place: Path) -> None:
    store = RecordingStore(place / "store")
    other = labelled_store(place / "two", changes={"channels": ("C3", "P4")})
    fake_run(
        place / "run",
        store,
        split=SplitManifest(("sub0",), ("sub1",), (), 0, "subject", store.manifest_sha256),
    )
    ready = '\n[pretrain.ready]\nrun = "run"\n'
    ready += OWN.replace("own", "far") + 'store = "two"\nchannels = "adapt"\n'
    text = HEAD + FOLDS + ready
    text += model("ready", 'protocol = "linear"\npretrained = "ready"')
    text += model("far", 'protocol = "light"\npretrained = "far"\nfit = {max_epochs = 2}')
    assert evaluate(place, text, out="transfer").exit_code == 0
    saw = details_of(place, "transfer")["pretraining_saw"]
    assert any(
        "pretraining saw 1 of the 3" in text or "saw 2 of the 3" in text for text in saw["ready"].values()
    )
    assert all("pretraining used another store" in text for text in saw["far"].values())
    (run,) = (place / "transfer" / "pretrained" / "far").iterdir()
    assert json.loads((run / "run.json").read_text())["ch_names"] == list(other.ch_names)


def test_pretrained_on_several_stores_and_what_it_saw(place: Path) -> None:
    labelled_store(place / "others", subjects=4)
    text = HEAD + FOLDS + OWN.replace("own", "both") + 'store = ["store", "others"]\nval = 0.25\n'
    text += model("both", 'protocol = "linear"\npretrained = "both"')
    assert evaluate(place, text, out="several").exit_code == 0
    (run,) = (place / "several" / "pretrained" / "both").iterdir()
    stores = json.loads((run / "run.json").read_text())["data"]["stores"]
    assert [entry["store"] for entry in stores] == ["store", "others"]
    saw = details_of(place, "several")["pretraining_saw"]["both"]
    assert all(said.startswith("pretraining saw 3 of the 3 test subjects") for said in saw.values())
    labelled_store(place / "pair", changes={"channels": ("C3", "P4")})
    with pytest.raises(ConfigError, match="s5 has fixed electrodes, but the stores differ: store has F3"):
        evaluate(place, text.replace('"others"]', '"pair"]'), out="several2")


def test_random_weights_of_other_sizes(place: Path) -> None:
    shape = 'protocol = "linear"\npretrained = "random"\npreset = "s3"\nwidth = 4\n'
    text = plan_text(own="", head=HEAD.replace("[0, 1]", "[0]"))
    text += model("usual", shape) + model("small", shape + 'network = ["d_state=4"]')
    assert evaluate(place, text, out="sizes").exit_code == 0
    cells = details_of(place, "sizes")["cells"]
    sizes = {cell["model"]: cell["settings"]["network"]["d_state"] for cell in cells}
    assert sizes == {"usual": 16, "small": 4}
    usual, small = (
        np.load(next((place / "sizes" / "cells").glob(f"{name}-fold0-*.npz")))["score"] for name in sizes
    )
    assert not np.array_equal(usual, small)
    with pytest.raises(ConfigError, match="network: got 'd_stat=4', expected a size and its value"):
        evaluate(place, text.replace("d_state", "d_stat"), out="sizes2")


def test_pretraining_of_other_preprocessing_is_refused_with_the_difference(place: Path) -> None:
    labelled_store(place / "band", changes={"h_freq_hz": 10.0})
    fake_run(place / "run2", RecordingStore(place / "store"))
    ready = '\n[pretrain.ready]\nrun = "run2"\n'
    text = (HEAD + FOLDS + ready + model("m", 'protocol = "linear"\npretrained = "ready"')).replace(
        '"store"', '"band"'
    )
    with pytest.raises(
        ConfigError, match=r"h_freq_hz: 12.0 in the checkpoint, 10.0 in the store; .*allow_mis"
    ):
        evaluate(place, text, out="other")
    assert not (place / "other").exists()
    allowed = text.replace('run = "run2"', 'run = "run2"\nallow_mismatch = true')
    assert evaluate(place, allowed, out="other").exit_code == 0
    scaled = text.replace('"band"', '"store"').replace("window_s = 2.0", 'window_s = 2.0\nscaling = "zscore"')
    with pytest.raises(ConfigError, match="scaling: quantile95 in pretraining, zscore here"):
        evaluate(place, scaled, out="other2")
    two = text.replace('"band"', '"two2"')
    labelled_store(place / "two2", changes={"channels": ("C3", "P4")})
    with pytest.raises(ConfigError, match=r"missing F3, P3, extra P4\).* set channels = 'adapt'"):
        evaluate(place, two, out="other3")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("n_folds = 2", "n_folds = 7"), DataError, "n_folds: got 7 for 6 subjects; expected 2 to 6"),
        (("window_s", 'classes = ["open", "asleep"]\nwindow_s'), DataError, "labelled asleep; labels there"),
        (("window_s", 'exclude_s = ["12:"]\nwindow_s'), DataError, r"labels: got one class \(shut\) in 36"),
        (("window_s", 'target = "task"\nwindow_s'), DataError, "no recording has a label for target 'task'"),
        (("window_s", 'target = "group"\nregression = true\nwindow_s'), DataError, "is no number"),
        (("window_s", 'classes = ["open"]\nwindow_s'), ConfigError, "data: classes: got only open"),
        (("n_folds = 2", "n_fold = 2"), ConfigError, "splits: unknown key 'n_fold'; did you mean 'n_folds'"),
        (("seeds = [0, 1]", "seeds = [0, 0]"), ConfigError, r"seeds: got \[0, 0\], expected different"),
        (
            ('baseline = "band_power"', 'baseline = "band_powr"'),
            ConfigError,
            "got 'band_powr', expected one of band_power, .*did you mean 'band_power'",
        ),
        (
            ("segment_s = 1.0", "segment = 1.0"),
            ConfigError,
            "unknown key 'segment'; did you mean 'segment_s'",
        ),
        (('protocol = "linear"', 'protocol = "liner"'), ConfigError, "got 'liner', expected one of linear"),
        (
            ('pretrained = "own"', 'pretrained = "owl"'),
            ConfigError,
            "pretrained: got 'owl', there is own, ran",
        ),
        (
            ('c = "validation"', "fit = {lr = 1}"),
            ConfigError,
            "fit is for light, fine, scratch; leave it out",
        ),
        (
            ("epochs = 1", "epoch = 1"),
            ConfigError,
            "pretrain.own: unknown key 'epoch'; did you mean 'epochs'",
        ),
        (('c = "validation"', 'c = "val"'), ConfigError, "model 'linear': c: got 'val', expected above 0"),
        (("epochs = 1", "test = 0.1"), ConfigError, r"pretrain.own: test is decided by \[splits\]"),
        (("[splits]", "[split]"), ConfigError, "unknown key 'split'; known keys: data, splits"),
    ],
)
def test_bad_files_and_data_are_refused_before_anything_is_computed(
    place: Path, change: tuple[str, str], error: type[Exception], message: str
) -> None:
    text = plan_text("linear", "band_power")
    assert change[0] in text
    with pytest.raises(error, match=message):
        evaluate(place, text.replace(*change, 1), out="refused")
    assert not (place / "refused").exists()


def test_a_class_that_only_one_part_lacks(place: Path) -> None:
    labelled_store(place / "lacking", only={0: "open", 1: "open", 2: "open"})
    parts = {"train": ["sub3", "sub4"], "val": ["sub5"], "test": ["sub0", "sub1", "sub2"]}
    (place / "lack.json").write_text(json.dumps(parts))
    splits = '\n[splits]\nscheme = "manifest"\nfile = "lack.json"\n'
    text = plan_text("band_power", splits=splits, own="").replace('"store"', '"lacking"')
    assert evaluate(place, text, out="lacking-out").exit_code == 0
    rows = {row["metric"]: row for row in rows_of(place, "lacking-out")}
    assert rows["auroc"]["mean"] is None
    assert rows["accuracy"]["mean"] is not None
    reasons = details_of(place, "lacking-out")["cells"][0]["result"]["reasons"]
    assert "no window of class shut" in reasons["window auroc"]
    (place / "lack.json").write_text(json.dumps({**parts, "train": parts["test"], "test": parts["train"]}))
    with pytest.raises(DataError, match="split train: no window of class shut"):
        evaluate(place, text, out="lacking-out2")


def test_features_that_are_nan_or_constant_fail_their_cells_only(place: Path) -> None:
    labelled_store(place / "nan")  # damaged after it was written: a store takes no NaN
    (raw,) = (place / "nan" / "recordings").glob("rec2-*.raw")
    np.memmap(raw, np.float32, "r+")[:] = np.nan
    text = plan_text("random", "band_power", own="").replace('"store"', '"nan"')
    result = evaluate(place, text, out="nan-out")
    assert result.exit_code == 1
    failures = details_of(place, "nan-out")["failures"]
    assert "windows gave NaN or infinite features" in failures["random fold0 seed 0"]
    assert "recording rec2" in failures["band_power fold0 seed 0"]
    labelled_store(place / "flat", flat=True)
    result = evaluate(place, text.replace('"nan"', '"flat"'), out="flat-out")
    assert result.exit_code == 1
    assert "are constant over" in details_of(place, "flat-out")["failures"]["random fold0 seed 0"]


def test_c_is_chosen_where_the_test_part_is_not() -> None:
    from eegm2.evaluation.windows.labelled import Split

    data = labelled_arrays(n_subjects=9)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((len(data), 60))
    features[:, 0] += 1.5 * data.y
    parts = [data.where_subject([f"sub{i}" for i in group]) for group in ((0, 1, 2), (3, 4, 5), (6, 7, 8))]
    split = Split(*parts)
    c, table = choose_c(features, data, split)
    assert table[f"{c:g}"] == min(table.values())
    assert c < max(C_GRID)
    spoilt = features.copy()
    spoilt[split.test] = 1e6
    assert choose_c(spoilt, data, split) == (c, table)
    swapped = Split(split.train, split.test, split.val)
    assert choose_c(features, data, swapped)[1] != table


def test_a_folder_of_something_else_is_refused(place: Path, done: Path) -> None:
    fake_run(place / "run3", RecordingStore(place / "store"))
    (place / "run3" / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"run3: holds run\.json of something else; choose another folder"):
        evaluate(place, WHOLE, out="run3")
    with pytest.raises(ConfigError, match=r"--only: got 'linnear', .* has linear, random"):
        evaluate(place, WHOLE, "--only", "linnear")


def test_the_report_shows_intervals_differences_and_what_pretraining_saw(done: Path, tmp_path: Path) -> None:
    from eegm2.report.contents import ReportData
    from eegm2.report.folders import read_evaluations
    from eegm2.report.html import render_report

    shutil.copytree(done / "out", tmp_path / "out")
    rows = rows_of(done)
    unknown = next(i for i, row in enumerate(rows) if row["metric"] == "auroc")
    rows[unknown] |= {"mean": None, "ci_low": None, "ci_high": None}
    (tmp_path / "out" / "results.json").write_text(json.dumps(rows))
    found, problem = read_evaluations([tmp_path / "out"])
    assert problem == ""
    page = render_report(ReportData("run", evaluations=found))
    assert "Figure left out" not in page
    row = next(row for row in rows if (row["model"], row["metric"]) == ("fine", "auroc"))
    assert f"{row['ci_low']:.3f} to {row['ci_high']:.3f}" in page
    pair = next(row for row in details_of(done)["comparisons"] if row["metric"] == "kappa")
    assert f"{pair['ci_low']:.3f} to {pair['ci_high']:.3f}" in page
    assert "fine: pretraining saw 0 of the 3 test subjects." in page
    assert "random: no pretraining" not in page


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "evaluating.md").read_text()
    block, choice = re.findall(r"^```toml\n(.*?)^```", page, re.M | re.S)
    plan = read_plan(write_plan(tmp_path, block))
    assert [m.name for m in plan.models] == ["linear", "linear_random", "fine", "scratch", "band_power"]
    assert plan.data.store == str(tmp_path / "store")
    assert plan.pretrain["own"].options.window_s == plan.data.window_s == 4.0
    assert plan.pretrain["own"].options.exclude_s == ("0:5", "170:195")
    assert read_plan(write_plan(tmp_path, block + choice)).models[-1].choose == ("fine", "fine_slow")
    assert read_plan(write_plan(tmp_path, block), store="elsewhere").data.store == "elsewhere"


def test_interrupted_it_keeps_what_is_done_and_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eegm2.evaluation.experiment.runners import CellRunner

    text = plan_text("band_power", "random", own="")
    run, count = CellRunner.__call__, 0

    def interrupted(self: CellRunner, cell: Cell) -> Outcome:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return run(self, cell)

    with monkeypatch.context() as patch:
        patch.setattr(CellRunner, "__call__", interrupted)
        result = evaluate(place, text, out="interrupted")
    assert result.exit_code == 130
    assert "run the same command again to go on" in result.output
    assert {row["model"] for row in rows_of(place, "interrupted")} == {"band_power"}
    assert details_of(place, "interrupted")["missing"] == [
        "random fold0 seed 1",
        "random fold1 seed 0",
        "random fold1 seed 1",
    ]
    assert "8 cells, 3 to do" in evaluate(place, text, out="interrupted").output
    whole = evaluate(place, text, out="uninterrupted")
    assert whole.exit_code == 0
    results = [(place / out / "results.json").read_bytes() for out in ("interrupted", "uninterrupted")]
    assert results[0] == results[1]


def test_values_are_evaluated_too(place: Path) -> None:
    head = HEAD.replace("window_s", 'target = "age"\nregression = true\nwindow_s')
    scratch = model("scratch", 'protocol = "scratch"\npreset = "s5"\nwidth = 4\nfit = {max_epochs = 1}')
    text = head + FOLDS + scratch + model("band_power")
    text += '\n[[compare]]\na = "scratch"\nb = "band_power"\n'
    assert evaluate(place, text, out="values").exit_code == 0
    rows = rows_of(place, "values")
    assert {row["metric"] for row in rows} == {"r2", "mae", "pearson_r"}
    assert all(0 < row["mean"] < 100 for row in rows if row["metric"] == "mae")
    assert "| scratch − band_power | mae |" in (place / "values" / "results.md").read_text()
