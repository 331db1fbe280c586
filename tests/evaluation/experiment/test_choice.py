"""``choose`` in ``eegm2 evaluate``: validation decides, the test part does not; nothing is learnt anew."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eegm2.errors import ConfigError
from eegm2.evaluation.baselines import baseline_runner
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.experiment.cells import Cell
from eegm2.evaluation.experiment.choice import best
from eegm2.evaluation.experiment.runners import CellRunner
from eegm2.evaluation.protocols.frozen import light_probe, linear_probe
from eegm2.evaluation.protocols.modes import run_protocol
from eegm2.evaluation.scores.outcome import Outcome, validation_row
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from tests.evaluation.experiments import FOLDS, HEAD, MODELS, details_of, evaluate, model, plan_text, rows_of
from tests.evaluation.helpers import SFREQ_HZ, labelled_arrays, labelled_store, tiny_model

CHOSEN = 'choose = ["random", "band_power"]\n'
BOTH = plan_text("random", "band_power", own="")
CHOICE = BOTH + model("chosen", CHOSEN + 'by = "auroc"')
PAIR = '\n[[compare]]\na = "chosen"\nb = "random"\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of six people, and an experiment whose choice is made."""
    folder = tmp_path_factory.mktemp("choice")
    labelled_store(folder / "store")
    result = evaluate(folder, CHOICE + PAIR)
    assert result.exit_code == 0, result.output
    return folder


def cells_of(folder: Path, name: str, out: str = "out") -> list[Path]:
    return sorted((folder / out / "cells").glob(f"{name}-fold*.json"))


def scores(path: Path) -> np.ndarray:
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
        return np.asarray(file["score"])


def test_a_split_takes_the_predictions_of_the_candidate_of_its_best_validation(place: Path) -> None:
    details = details_of(place)
    facts = {(cell["model"], cell["split"], cell["seed"]): cell for cell in details["cells"]}
    assert [(row["split"], row["seed"]) for row in details["choices"]] == [
        ("fold0", 0),
        ("fold0", 1),
        ("fold1", 0),
        ("fold1", 1),
    ]
    for row in details["choices"]:
        seeds = {"random": row["seed"], "band_power": 0}  # the one without chance has one seed
        candidates = {name: facts[name, row["split"], seed] for name, seed in seeds.items()}
        found = {name: cell["result"]["validation"]["metrics"]["auroc"] for name, cell in candidates.items()}
        assert row["validation_scores"] == found
        assert found[row["chosen"]] == max(found.values())
        mine = facts["chosen", row["split"], row["seed"]]["result"]
        theirs = candidates[row["chosen"]]["result"]
        assert mine["metrics"] == theirs["metrics"]
        (own,) = (place / "out" / "cells").glob(f"chosen-{row['split']}-s{row['seed']}-*.npz")
        (taken,) = (place / "out" / "cells").glob(
            f"{row['chosen']}-{row['split']}-s{seeds[row['chosen']]}-*.npz"
        )
        assert own.read_bytes() == taken.read_bytes()
    rows = [row for row in rows_of(place) if row["model"] == "chosen"]
    assert {tuple(row["seeds"]) for row in rows} == {(0, 1)}
    table = (place / "out" / "results.md").read_text()
    (line,) = (
        line for line in table.splitlines() if line.startswith("chosen, chosen by auroc on validation: ")
    )
    first = details["choices"][0]["validation_scores"]
    assert f"(random {first['random']:.3f}, band_power {first['band_power']:.3f})" in line
    assert line.count("fold") == 4
    assert "| chosen − random | auroc |" in table


def test_the_test_part_does_not_decide(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CellRunner.__call__

    def flattered(self: CellRunner, cell: Cell) -> Outcome:
        """Let random weights be right on the test part and wrong on validation; band power is wrong there."""
        outcome, data = run(self, cell), self.data.labelled
        if cell.model.name == "band_power":
            return replace(outcome, score=outcome.score[:, ::-1])
        assert outcome.val_score is not None
        right = np.eye(2)[data.y[cell.split.indices.test]]
        return replace(outcome, score=right, val_score=np.eye(2)[1 - data.y[cell.split.indices.val]])

    monkeypatch.setattr(CellRunner, "__call__", flattered)
    for by in ("auroc", "balanced_accuracy", "loss"):
        text = BOTH + model("chosen", CHOSEN + f'by = "{by}"')
        assert evaluate(place, text, out="flattered").exit_code == 0
        assert {row["chosen"] for row in details_of(place, "flattered")["choices"]} == {"band_power"}
        means = {row["model"]: row["mean"] for row in rows_of(place, "flattered") if row["metric"] == "auroc"}
        assert means["random"] == 1.0
        assert means["chosen"] == means["band_power"] < 0.1


def test_the_first_of_equals_and_never_the_unknown() -> None:
    assert best({"a": 0.5, "b": 0.7, "c": 0.7}, "auroc") == "b"
    assert best({"a": 0.5, "b": 0.7}, "loss") == best({"a": 0.5, "b": 0.7}, "mae") == "a"
    assert best({"a": None, "b": -3.0}, "r2") == "b"


def test_stopped_before_the_choice_it_goes_on(place: Path, tmp_path: Path) -> None:
    (tmp_path / "store").symlink_to(place / "store")
    evaluate(tmp_path, CHOICE + PAIR, "--only", "band_power")
    shown = evaluate(tmp_path, CHOICE + PAIR, "--dry-run").output
    assert "after its candidates chosen fold0 seed 0" in shown
    assert "4 after its candidates" in shown
    alone = evaluate(tmp_path, CHOICE + PAIR, "--only", "chosen")
    assert alone.exit_code == 1
    assert (
        "failed: chosen fold1 seed 1: chosen among what is not there yet: random fold1 seed 1" in alone.output
    )
    evaluate(tmp_path, CHOICE + PAIR, "--only", "random")
    assert "4 to do" in evaluate(tmp_path, CHOICE + PAIR, "--dry-run", "--only", "chosen").output
    assert evaluate(tmp_path, CHOICE + PAIR).exit_code == 0
    for name in ("results.json", "results.md"):
        assert (tmp_path / "out" / name).read_bytes() == (place / "out" / name).read_bytes()
    assert "10 done, 2 not needed" in evaluate(tmp_path, CHOICE + PAIR, "--dry-run").output


def test_a_changed_candidate_is_chosen_among_again(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "x")
    changed = (CHOICE + PAIR).replace("low=1:6", "low=1:5")
    assert "4 after its candidates" in evaluate(tmp_path / "x", changed, "--dry-run").output
    assert evaluate(tmp_path / "x", changed).exit_code == 0
    details = details_of(tmp_path / "x")
    assert len([name for name in details["stale"] if name.startswith("chosen")]) == 4
    assert len([cell for cell in details["cells"] if cell["model"] == "chosen"]) == 4


def test_cells_without_validation_scores_are_named(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "x")
    for path in cells_of(tmp_path / "x", "chosen"):
        path.unlink()
    old = [path for path in cells_of(tmp_path / "x", "random") if "-s1-" in path.name]
    for path in old:
        facts = json.loads(path.read_text())
        del facts["result"]["validation"]
        path.write_text(json.dumps(facts))
    result = evaluate(tmp_path / "x", CHOICE + PAIR)
    assert result.exit_code == 1
    assert f"chosen fold0 seed 1: cells/{old[0].name}: kept by an older eegm2" in result.output
    assert (
        "chosen fold0 seed 0: band_power chosen" in result.output
        or "fold0 seed 0: random chosen" in result.output
    )
    assert [row["model"] for row in rows_of(tmp_path / "x")].count("random") == 6
    for path in old:
        path.unlink()
    assert evaluate(tmp_path / "x", CHOICE + PAIR).exit_code == 0
    assert (tmp_path / "x" / "out" / "results.json").read_bytes() == (
        place / "out" / "results.json"
    ).read_bytes()


def test_a_metric_that_validation_cannot_give(place: Path) -> None:
    labelled_store(place / "lacking", only={5: "open"})
    parts = {"train": ["sub3", "sub4"], "val": ["sub5"], "test": ["sub0", "sub1", "sub2"]}
    (place / "lack.json").write_text(json.dumps(parts))
    text = CHOICE.replace(FOLDS, '\n[splits]\nscheme = "manifest"\nfile = "lack.json"\n')
    text = text.replace('"store"', '"lacking"')
    result = evaluate(place, text, out="lacking-out")
    assert result.exit_code == 1
    assert (
        "by: auroc cannot be computed on the validation part of split0 (no window of class shut"
        in result.output
    )
    assert evaluate(place, text.replace('"auroc"', '"loss"'), out="lacking-out").exit_code == 0


def test_a_learning_curve_chooses_for_every_number_of_people(place: Path) -> None:
    text = CHOICE.replace("n_folds = 2", "n_folds = 2\ntrain_subjects = [2, 3]").replace("[0, 1]", "[0]")
    assert evaluate(place, text, out="curve").exit_code == 0
    splits = ["fold0/2", "fold0/3", "fold1/2", "fold1/3"]
    assert [row["split"] for row in details_of(place, "curve")["choices"]] == splits
    rows = [row for row in rows_of(place, "curve") if row["metric"] == "auroc"]
    assert [row["train_subjects"] for row in rows if row["model"].startswith("chosen, ")] == [2, 3]


def test_values_are_chosen_by_their_error(place: Path) -> None:
    head = HEAD.replace("window_s", 'target = "age"\nregression = true\nwindow_s')
    other = MODELS["band_power"].replace('c = "validation"', "c = 1e-4")
    text = head + FOLDS + model("band_power") + model("other", other)
    text += model("chosen", 'choose = ["band_power", "other"]\nby = "mae"')
    assert evaluate(place, text, out="values").exit_code == 0
    (row, _) = details_of(place, "values")["choices"]
    assert row["validation_scores"][row["chosen"]] == min(row["validation_scores"].values())
    wrong = text.replace('"mae"', '"auroc"')
    message = r"by: got 'auroc', for values \(regression\) there is loss, r2, mae"
    with pytest.raises(ConfigError, match=message):
        evaluate(place, wrong, out="refused")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"band_power"]', '"band"]'), "model 'chosen': choose: got 'band'; there is random, band_power"),
        (('"band_power"]', '"chosen"]'), "choose: got 'chosen', which is chosen itself; there is random"),
        ((', "band_power"]', "]"), "model 'chosen': choose: got random; name two or more models, each once"),
        (('"band_power"]', '"random"]'), "choose: got random, random; name two or more models, each once"),
        (('["random", "band_power"]', "[]"), "model 'chosen': give either protocol, baseline or choose"),
        (('by = "auroc"', 'by = "aurok"'), "by: got 'aurok', for classes there is loss, accuracy"),
        (('by = "auroc"', 'by = "mae"'), "by: got 'mae', for classes there is loss, accuracy"),
        (('by = "auroc"', "c = 3.0"), "model 'chosen': c is for linear; leave it out"),
        (('by = "auroc"', "seeds = [0, 7]"), r"seeds: the candidates share \(0, 1\) \(random \(0, 1\); band"),
        (("width = 4\n", "width = 4\nby = 'loss2'\n"), "model 'random': by is for choose; leave it out"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(place: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in CHOICE
    with pytest.raises(ConfigError, match=message):
        evaluate(place, CHOICE.replace(*change, 1), out="refused")
    assert not (place / "refused").exists()


def test_seeds_are_those_that_all_candidates_have(place: Path) -> None:
    fewer = model("random", MODELS["random"] + "\nseeds = [1]")
    text = CHOICE.replace(model("random"), fewer)
    shown = evaluate(place, text, "--dry-run", out="fewer").output
    assert "chosen fold0 seed 1" in shown
    assert "chosen fold0 seed 0" not in shown
    apart = text.replace(model("band_power"), model("band_power", MODELS["band_power"] + "\nseeds = [0]"))
    with pytest.raises(ConfigError, match=r"the candidates share none \(random \(1,\); band_power \(0,\)\)"):
        evaluate(place, apart, out="refused")


def every_kind(data: LabelledWindows, split: Split) -> dict[str, Outcome]:
    """Run every kind of model on a split."""
    features = data.batch(np.arange(len(data))).numpy().reshape(len(data), -1)
    few, network = FitConfig(max_epochs=2, lr=1e-3), tiny_model()
    found = {name: run_protocol(name, data, split, model=network, config=few) for name in ("fine", "scratch")}
    found["linear"] = linear_probe(features, data, split, c="validation")
    found["light"] = light_probe(features, data, split, config=few)
    for name in ("band_power", "riemann"):
        found[name] = baseline_runner(name, sfreq_hz=SFREQ_HZ)(data, split, 0)
    return found


@pytest.mark.parametrize("values", [False, True])
def test_every_kind_of_model_scores_its_validation_part_as_its_test_part(values: bool) -> None:
    data = labelled_arrays(n_subjects=6)
    if values:
        data = replace(data, y=data.y + np.linspace(0, 1, len(data)), classes=())
    train, val, test = (data.where_subject([f"sub{i}", f"sub{i + 1}"]) for i in (0, 2, 4))
    tested = every_kind(data, Split(train, val, val))
    for name, outcome in every_kind(data, Split(train, val, test)).items():
        assert outcome.val_score is not None
        np.testing.assert_array_equal(outcome.val_score, tested[name].score, err_msg=name)
        row = validation_row(outcome, data, val)
        assert row["n_windows"] == len(val)
        y, score = data.y[val], outcome.val_score
        if values:
            assert row["metrics"]["mae"] == pytest.approx(np.abs(score - y).mean())
            assert row["metrics"]["loss"] == pytest.approx(((score - y) ** 2).mean())
        else:
            by_class = [-np.log(score[y == i, i]).mean() for i in (0, 1)]
            assert row["metrics"]["loss"] == pytest.approx(np.mean(by_class))
            hits = score.argmax(1) if outcome.threshold is None else score[:, 1] >= outcome.threshold
            assert row["metrics"]["accuracy"] == pytest.approx((hits == y).mean())


def test_the_report_says_what_was_chosen(place: Path) -> None:
    from eegm2.report.folders import read_evaluations

    (found,), _ = read_evaluations([place / "out"])
    assert any(
        note.startswith("chosen, chosen by auroc on validation: fold0 seed 0 ") for note in found.notes
    )
