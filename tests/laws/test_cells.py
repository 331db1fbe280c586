"""Laws of an experiment's books: what a cell is known by, whom which seed divides, what it begins with."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.splits import SplitManifest
from eegm2.evaluation.baselines.networks import NetworkOptions
from eegm2.evaluation.experiment import run as running
from eegm2.evaluation.experiment import weights as first_weights
from eegm2.evaluation.experiment.cells import Cell
from eegm2.evaluation.experiment.choice import best
from eegm2.evaluation.experiment.config import ModelPlan, Plan
from eegm2.evaluation.experiment.reading import read_plan
from eegm2.evaluation.experiment.results import _spare, result_rows, write_results
from eegm2.evaluation.experiment.runners import CellRunner
from eegm2.evaluation.experiment.settings import baseline_options
from eegm2.evaluation.experiment.splits import NamedSplit, _subset, named_splits
from eegm2.evaluation.experiment.state import Experiment
from eegm2.evaluation.experiment.weights import WeightSource
from eegm2.evaluation.scores.crossval import subject_splits
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.from_store import labelled_windows
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from tests.evaluation.helpers import fake_run, labelled_arrays, labelled_store

HEAD = 'seeds = [0, 3]\n[data]\nstore = "store"\nwindow_s = 2.0\n'
SPLITS = "[splits]\nn_folds = 2\nval = 0.34\n"
RANDOM = '[[models]]\nname = "{}"\nprotocol = "linear"\npretrained = "random"\npreset = "s5"\nwidth = 4\n{}\n'
MODELS = RANDOM.format("a", "") + RANDOM.format("z", 'scaling = "zscore"')
MODELS += '[[models]]\nname = "power"\nbaseline = "band_power"\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two stores of other recordings, and one in which more people have labels."""
    folder = tmp_path_factory.mktemp("cells")
    labelled_store(folder / "store", seconds=8)
    labelled_store(folder / "other", seconds=10)
    return folder


def plan_of(folder: Path, text: str) -> Plan:
    (folder / "plan.toml").write_text(text)
    return read_plan(folder / "plan.toml")


def keys_of(folder: Path, text: str) -> dict[str, str | None]:
    """Return the key of every cell of an experiment by its name."""
    experiment = Experiment(plan_of(folder, text), folder / "out")
    return {cell.label: experiment.key(cell) for cell in experiment.cells}


def test_every_cell_has_a_key_of_its_own(place: Path) -> None:
    """Of models, splits and seeds; the same experiment again has the same keys."""
    keys = keys_of(place, HEAD + SPLITS + MODELS)
    assert len(keys) == 3 * 2 * 2
    assert None not in keys.values()
    assert len(set(keys.values())) == len(keys)
    assert keys_of(place, HEAD + SPLITS + MODELS) == keys


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ('store = "store"', 'store = "other"', "az power"),
        ("window_s = 2.0", "window_s = 1.0", "az power"),
        ("window_s = 2.0", 'window_s = 2.0\nclasses = ["shut", "open"]', "az power"),
        ("n_folds = 2", "n_folds = 3", "az power"),
        ("val = 0.34", "val = 0.7", "az power"),
        ("val = 0.34", "val = 0.34\nseed = 4", "az power"),
        ('scaling = "zscore"', 'scaling = "robust"', "z"),
        ('scaling = "zscore"', 'scaling = "zscore"\ncentre = "recording"', "z"),
        ("window_s = 2.0", 'window_s = 2.0\nscaling = "robust"', "a power"),
        ("seeds = [0, 3]", "seeds = [3, 0]", ""),
        ('baseline = "band_power"', 'baseline = "band_power"\noptions = {segment_s = 1.0}', "power"),
        ('name = "z"', 'name = "z"\nseeds = [0, 3]', ""),
    ],
)
def test_what_changes_a_result_changes_its_key_and_nothing_else_does(
    before: str, after: str, moved: str, place: Path
) -> None:
    """So that an experiment goes on with what holds, and computes anew what does not."""
    text = HEAD + SPLITS + MODELS
    assert before in text
    old, new = keys_of(place, text), keys_of(place, text.replace(before, after, 1))
    shared = old.keys() & new.keys()
    assert shared
    for label in shared:
        model = label.split()[0]
        assert (old[label] != new[label]) == (model in moved.replace("az", "a z").split()), label


def test_folds_are_drawn_by_the_seed_of_the_splits(place: Path) -> None:
    """Whatever the seeds of the models are: all runners are compared on the same people."""
    found = []
    for seed in (0, 1, 2):
        plan = plan_of(place, HEAD + SPLITS + f"seed = {seed}\n" + MODELS)
        store = RecordingStore(plan.data.store)
        data = Experiment(plan, place / "out").data.labelled
        splits = named_splits(plan, store, data)
        expected = subject_splits(data, 2, val=0.34, seed=seed)
        for split, own in zip(splits, expected, strict=True):
            for part in ("train", "val", "test"):
                np.testing.assert_array_equal(getattr(split.indices, part), getattr(own, part))
                who = sorted(set(data.subject[getattr(own, part)].tolist()))
                assert sorted(getattr(split.manifest, part)) == split.units(data)[part] == who
            assert (split.manifest.seed, split.manifest.by) == (seed, "subject")
            assert split.manifest.manifest_sha256 == store.manifest_sha256
        found.append([split.units(data) for split in splits])
    assert found[0] != found[1] or found[1] != found[2]


DATA = labelled_arrays(n_subjects=12, n_times=16)


@pytest.mark.parametrize("by", ["subject", "recording"])
def test_a_learning_curve_is_nested_and_drawn_by_its_seed(by: Any) -> None:
    """In every part; other seeds learn from other people."""
    data = dataclasses.replace(DATA, recording=np.array([f"r{name}" for name in DATA.subject]))
    origin = data.subject if by == "subject" else data.recording
    names = sorted(set(origin.tolist()))
    manifest = SplitManifest(tuple(names[:6]), tuple(names[6:9]), tuple(names[9:]), by=by)
    indices = Split(*(np.flatnonzero(np.isin(origin, part)) for part in (names[:6], names[6:9], names[9:])))
    whole = NamedSplit("fold0", indices, manifest)
    drawn = {}
    for seed in range(4):
        plan: Any = SimpleNamespace(path="plan", splits=SimpleNamespace(val=0.34, seed=seed))
        units = [_subset(whole, data, count, plan).units(data) for count in range(2, 10)]
        for some, more in itertools.pairwise(units):
            for part in ("train", "val"):
                assert set(some[part]) <= set(more[part])
            assert some["test"] == names[9:]
        assert units[-1] == whole.units(data)
        drawn[seed] = units[0]
    assert len({json.dumps(units) for units in drawn.values()}) > 1


def test_a_task_is_counted_over_all_its_windows(tmp_path: Path, place: Path) -> None:
    """Windows of each class, people and splits, in details.json; the unit is that of the division."""
    text = HEAD.replace('"store"', '"other"') + "label_rule = 'majority'\n" + SPLITS + MODELS
    experiment = Experiment(plan_of(place, text), tmp_path)
    y = np.arange(len(experiment.data.labelled)) % 3 % 2
    data = dataclasses.replace(experiment.data.labelled, y=y)
    nothing: dict[str, Any] = {
        "statements": {"a": {"fold0": "said"}},
        "failures": {"x": "why"},
        "stale": ["s"],
    }
    write_results(tmp_path, experiment.plan, data, experiment.finished(), device="cpu", **nothing)
    details = json.loads((tmp_path / "details.json").read_text())
    counted = {name: int((y == i).sum()) for i, name in enumerate(data.classes)}
    assert details["task"] == {
        "classes": list(data.classes), "n_windows": len(y), "n_per_class": counted, "n_subjects": 6,
        "unit": "subject",
    }  # fmt: skip
    assert details["splits"] == {split.name: split.units(data) for split in experiment.splits}
    assert (details["pretraining_saw"], details["failures"], details["stale"]) == tuple(nothing.values())
    assert details["missing"] == [cell.label for cell in experiment.cells]
    assert details["format"] == 1
    assert (details["config"]["path"], details["config"]["data"]["store"]) == ("plan.toml", "other")
    assert details["provenance"]["machine"]["device"] == "cpu"


def weight_source(rate_hz: float = 128.0, device: str = "cpu", out: Path = Path()) -> Any:
    store = SimpleNamespace(ch_names=("Fz", "Cz", "Pz", "Oz", "C3", "C4"), sfreq_hz=rate_hz)
    plan = SimpleNamespace(pretrain={}, data=SimpleNamespace(positions=""))
    return WeightSource(plan, store, out, device)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate_hz", [64.0, 128.0, 250.0])
def test_fresh_networks_are_for_the_rate_of_the_data(rate_hz: float) -> None:
    model = ModelPlan(name="m", protocol="linear", pretrained="random", preset="covariance", width=8)
    made = weight_source(rate_hz).fresh_config(model)
    assert (made.sfreq_hz, made.n_chans, made.width) == (rate_hz, 6, 8)


def test_random_weights_are_those_of_the_cells_seed_and_of_nothing_before() -> None:
    source = weight_source()
    model = ModelPlan(name="m", protocol="linear", pretrained="random", preset="s5", width=4)
    split: Any = None

    def values(seed: int) -> torch.Tensor:
        torch.rand(3)
        made: torch.Tensor = torch.nn.utils.parameters_to_vector(
            source.network(model, split, seed).parameters()
        )
        return made.detach()

    before = torch.get_rng_state()
    first = values(1)
    assert torch.equal(first, values(1))
    assert not torch.equal(first, values(2))
    torch.set_rng_state(before)
    prints = [source.fingerprint(model, split, seed) for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]
    wider = dataclasses.replace(model, width=8)
    assert source.fingerprint(wider, split, 1) != prints[0]


@pytest.mark.parametrize(
    ("device", "accelerator", "devices"),
    [("cpu", "cpu", "auto"), ("cuda", "gpu", "1"), ("cuda:2", "gpu", "2,"), ("mps", "mps", "1")],
)
def test_pretraining_runs_on_the_device_of_the_experiment(
    device: str, accelerator: str, devices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the people of the split's own training and validation part, and the options of the plan."""
    asked: list[Any] = []
    done = SimpleNamespace(metrics={"train_loss": 1.0, "val_loss": 2.0}, epoch=3, step=4)

    def pretrain(*given: Any, **_: Any) -> Any:
        asked.append(given)
        return done

    monkeypatch.setattr("eegm2.training.pretrain.pretrain", pretrain)
    source = weight_source(device=device, out=tmp_path)
    monkeypatch.setattr(source, "place", lambda *_: tmp_path / "pretrained" / "own" / "fold0-x")
    monkeypatch.setattr(source, "_pool", lambda _: SimpleNamespace(stores=["opened"]))
    (tmp_path / "splits").mkdir()
    manifest = SplitManifest(("a",), ("b",), ("c",))
    plan = first_weights.PretrainPlan("own", options=first_weights.PretrainConfig(epochs=7, width=4))
    said: list[str] = []
    source.pretrain(plan, NamedSplit("fold0", Split(*[np.arange(1)] * 3), manifest), said.append)
    ((stores, run, config),) = asked
    usual = first_weights.PretrainConfig().devices
    assert (config.accelerator, config.devices) == (accelerator, usual if device == "cpu" else devices)
    assert (config.epochs, config.width, stores, run.name) == (7, 4, ["opened"], "fold0-x")
    kept = SplitManifest.from_json(Path(config.splits))
    assert (kept.train, kept.val, kept.test) == (("a",), ("b",), ("c",))
    assert said[-1].endswith("pretrained, 3 epochs, 4 steps, train_loss 1, val_loss 2")


def test_of_candidates_only_seeds_that_all_have_are_chosen_among() -> None:
    models = tuple(
        ModelPlan(name=name, baseline="band_power", seeds=seeds)
        for name, seeds in (("a", (0, 1, 2)), ("b", (2, 0)), ("c", ()))
    )
    plan: Any = SimpleNamespace(models=models, seeds=(0, 5, 2))
    plan.candidates = lambda model: Plan.candidates(plan, model)
    plan.seeds_of = lambda model: Plan.seeds_of(plan, model)
    for names, expected in ((("a", "b"), (0, 2)), (("b", "a"), (2, 0)), (("a", "b", "c"), (0, 2))):
        chosen = ModelPlan(name="x", choose=names)
        assert Plan.seeds_of(plan, chosen) == expected
    assert [Plan.seeds_of(plan, model) for model in models] == [(0, 1, 2), (2, 0), (0, 5, 2)]


@pytest.mark.parametrize("name", ["window_s", "scaling", "exclude_s", "dataset_options"])
def test_a_pretraining_sees_windows_as_the_experiment_has_them(name: str, place: Path) -> None:
    """Unless it is told otherwise."""
    values = {"window_s": 1.5, "scaling": '"robust"', "exclude_s": '["1:2"]', "dataset_options": "{}"}
    head = 'seeds = [0]\n[data]\nstore = "store"\n' + f"{name} = {values[name]}\n"
    own = "[pretrain.own]\nepochs = 1\n"
    model = '[[models]]\nname = "m"\nprotocol = "linear"\npretrained = "own"\n'
    plan = plan_of(place, head + own + model)
    assert getattr(plan.pretrain["own"].options, name) == getattr(plan.data, name)
    if name == "window_s":
        plan = plan_of(place, head + own + "window_s = 3.0\n" + model)
        assert (plan.pretrain["own"].options.window_s, plan.data.window_s) == (3.0, 1.5)


def split_of(data: LabelledWindows) -> Split:
    parts = np.array_split(np.arange(len(data)), 3)
    return Split(*parts)


def test_a_cell_is_named_by_model_split_and_seed() -> None:
    manifest = SplitManifest(("a",), ("b",), ("c",))
    names = set()
    for model in ("m", "n"):
        for split in ("fold0", "fold1", "fold0/5"):
            for seed in (0, 1):
                plan = ModelPlan(name=model, baseline="band_power")
                cell = Cell(plan, NamedSplit(split, split_of(DATA), manifest), seed)
                assert cell.label == f"{model} {split} seed {seed}"
                names.add(cell.stem)
    assert len(names) == 12


def test_rows_are_in_the_order_of_the_plan_and_then_of_the_people_learnt_from() -> None:
    """Each under the number of people whose labels its models had."""
    plan: Any = SimpleNamespace(
        models=[SimpleNamespace(name=name, kind="k") for name in ("z", "a")], n_bootstrap=3
    )
    result: Any = SimpleNamespace(rows=lambda label, n_bootstrap: [{"model": label, "metric": "m"}])
    results: Any = {(name, count): result for count in (9, 2) for name in ("a", "z")}
    rows = result_rows(results, DATA, plan, "subject")
    assert [(row["model"], row["train_subjects"]) for row in rows] == [
        ("z, 2 subjects", 2), ("z, 9 subjects", 9), ("a, 2 subjects", 2), ("a, 9 subjects", 9),
    ]  # fmt: skip


@pytest.mark.parametrize("n_labelled", [None, 5])
def test_the_facts_of_a_cell_are_its_own(n_labelled: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged on the test part, chosen among by the validation part, with the people whose labels it had."""
    asked: list[tuple[str, np.ndarray]] = []

    def note(name: str) -> Any:
        def judge(outcome: Any, data: Any, indices: np.ndarray) -> dict[str, Any]:
            asked.append((name, indices))
            return {"judged": name}

        return judge

    monkeypatch.setattr(running, "evaluate", note("test"))
    monkeypatch.setattr(running, "validation_row", note("validation"))
    split = NamedSplit("fold1", split_of(DATA), SplitManifest(("a",), ("b",), ("c",)), n_labelled)
    experiment: Any = SimpleNamespace(
        data=SimpleNamespace(labelled=DATA), device="mps",
        weights=SimpleNamespace(statement=lambda model, of: f"{model.name} {of.name}"),
    )  # fmt: skip
    cell = Cell(ModelPlan(name="m", baseline="band_power"), split, 7)
    facts = running._facts(experiment, cell, Outcome("m", 0, np.zeros((1, 2))), 1.234)
    assert facts.get("train_subjects") == n_labelled
    assert (facts["model"], facts["split"], facts["seed"], facts["device"]) == ("m", "fold1", 7, "mps")
    assert (facts["pretraining_saw"], facts["seconds"]) == ("m fold1", 1.23)
    assert facts["result"] == {"judged": "test", "seed": 7, "validation": {"judged": "validation"}}
    for (name, indices), part in zip(asked, ("test", "val"), strict=True):
        np.testing.assert_array_equal(indices, getattr(split.indices, part), err_msg=name)


@pytest.mark.parametrize("by", ["balanced_accuracy", "kappa", "r2", "pearson_r", "loss", "mae"])
def test_the_best_is_the_highest_or_of_errors_the_lowest(by: str) -> None:
    """Below zero too, where a model is worse than none; what cannot be computed is worse than anything."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores: dict[str, Any] = dict(zip("abcd", rng.normal(0, 1, 4).tolist()))
        pick = min if by in ("loss", "mae") else max
        expected = pick("abcd", key=lambda name: scores[name])
        assert best({"none": None, **scores}, by) == best({**scores, "none": None}, by) == expected
    assert best({"first": 0.5, "second": 0.5}, by) == "first"


def test_weights_are_told_apart_by_themselves_and_the_channels_that_they_get(tmp_path: Path) -> None:
    """A network of other channels gets new ends: the same weights, other features."""
    store = labelled_store(tmp_path / "store", subjects=2, seconds=4)
    split: Any = NamedSplit("fold0", split_of(DATA), SplitManifest(("a",), ("b",), ("c",)))
    model = ModelPlan(name="m", protocol="linear", pretrained="own")
    found = []
    for run, names in (("one", ("F3", "C3", "P3")), ("one", ("F4", "C4", "P4")), ("two", ("F3", "C3", "P3"))):
        place = tmp_path / run
        if not place.exists():
            fake_run(place, store, preset="eegm2" if run == "one" else "s5")
        source = weight_source()
        source.store = SimpleNamespace(ch_names=names, sfreq_hz=32.0)
        source.plan.pretrain["own"] = first_weights.PretrainPlan("own", run=str(place))
        source.plan.model = lambda name: name
        assert source.place(source.plan.pretrain["own"], split) == place
        found.append(source.fingerprint(model, split, 0))
        assert source.fingerprint(model, split, 5) == found[-1], "trained weights know no seed"
    assert None not in found
    assert len(set(found)) == 3


def test_a_learning_curve_begins_with_the_pretraining_of_its_fold(tmp_path: Path) -> None:
    """Whose weights are trained once; another fold has its own, and other stores one for all."""
    source = weight_source(out=tmp_path)
    pool = SimpleNamespace(montages=[("Fz",)], manifest_sha256="m", stores=[])
    source._pool = lambda _: pool
    manifests = [SplitManifest(("a",), ("b",), ("c",)), SplitManifest(("c",), ("b",), ("a",))]
    splits = [
        NamedSplit(name, split_of(DATA), manifests[int(name[4])], n)
        for name, n in (("fold0", None), ("fold0/5", 5), ("fold0/9", 9), ("fold1", None))
    ]
    own = first_weights.PretrainPlan("own")
    places = [source.place(own, split) for split in splits]
    assert places[0] == places[1] == places[2] != places[3]
    assert places[0].parent == tmp_path / "pretrained" / "own"
    assert places[0].name.startswith("fold0-")
    shared = first_weights.PretrainPlan("all", store=("s",))
    assert len({source.place(shared, split) for split in splits}) == 1


def test_of_an_official_part_validation_is_drawn_by_the_seed_of_the_splits(tmp_path: Path) -> None:
    """The test part is the data set's own, whatever the seed."""
    store = labelled_store(tmp_path / "store", subjects=8, seconds=8, official={6: "test", 7: "test"})
    drawn = []
    for seed in range(4):
        text = HEAD + f'[splits]\nscheme = "official"\nval = 0.34\nseed = {seed}\n' + MODELS
        plan = plan_of(tmp_path, text)
        data = Experiment(plan, tmp_path / "out").data.labelled
        (split,) = named_splits(plan, store, data)
        units = split.units(data)
        assert units["test"] == ["sub6", "sub7"]
        assert (len(units["train"]), len(units["val"])) == (4, 2)
        assert split.manifest.seed == seed
        drawn.append(tuple(units["val"]))
    assert len(set(drawn)) > 1


def test_a_split_is_missing_until_its_own_first_seed_says_that_no_other_is_needed() -> None:
    """That another split has been done says nothing of it."""

    def done(split: str, seed: int, deterministic: bool | None) -> Any:
        cell = SimpleNamespace(model=SimpleNamespace(name="m"), split=SimpleNamespace(name=split), seed=seed)
        stored = None if deterministic is None else SimpleNamespace(deterministic=deterministic)
        return SimpleNamespace(cell=cell, stored=stored)

    cells = [done("a", 0, True), done("a", 1, None), done("b", 0, None), done("b", 1, None)]
    assert [_spare(cell, cells) for cell in cells] == [False, True, False, False]
    cells = [done("a", 0, False), done("a", 1, None), done("b", 0, True), done("b", 1, None)]
    assert [_spare(cell, cells) for cell in cells] == [False, False, False, True]


def test_a_model_sees_windows_in_its_own_scaling(place: Path) -> None:
    """The data's where it names none; what is cut is the same."""
    plan = plan_of(place, HEAD + 'scaling = "robust"\n' + SPLITS + MODELS)
    source = Experiment(plan, place / "out").data
    for scaling in ("", "zscore", "none"):
        found = source(scaling)
        expected = labelled_windows(source.store, plan.data.windows(scaling or "robust"), ()).in_memory()
        np.testing.assert_array_equal(np.asarray(found.x), np.asarray(expected.x))
        np.testing.assert_array_equal(found.y, source.labelled.y)
        np.testing.assert_array_equal(found.subject, source.labelled.subject)


@pytest.mark.parametrize("rate_hz", [64.0, 200.0])
def test_a_baseline_is_told_the_rate_of_the_data_and_made_once(
    rate_hz: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the data's windows, the cell's split and seed, and keeps what it computed of all windows."""
    made: list[Any] = []
    ran: list[Any] = []

    def runner(name: str, *, sfreq_hz: float, options: dict[str, Any]) -> Any:
        made.append((name, sfreq_hz, options.get("segment_s")))
        return lambda *given: ran.append(given)

    monkeypatch.setattr("eegm2.evaluation.baselines.baseline_runner", runner)
    data: Any = SimpleNamespace(store=SimpleNamespace(sfreq_hz=rate_hz), labelled=DATA)
    run = CellRunner(data, weight_source(), tmp_path, "cpu")
    split: Any = NamedSplit("fold0", split_of(DATA), SplitManifest(("a",), ("b",), ("c",)))
    model = ModelPlan(name="m", baseline="band_power", options={"segment_s": 1.5})
    for seed in (3, 4):
        run(Cell(model, split, seed))
    assert made == [("band_power", rate_hz, 1.5)]
    assert ran == [(DATA, split.indices, 3), (DATA, split.indices, 4)]
    run(Cell(dataclasses.replace(model, name="n", options={}), split, 3))
    assert made[1:] == [("band_power", rate_hz, 2.0)]


def test_an_option_of_a_baseline_is_the_one_that_is_given() -> None:
    """Before its own defaults, and these before those of its kind; where it is computed the command says."""
    usual = baseline_options(ModelPlan(name="m", baseline="biot"))
    assert (usual.lr, usual.weight_decay, usual.device) == (1e-3, 1e-5, "cpu")
    given = baseline_options(ModelPlan(name="m", baseline="biot", options={"lr": 0.5}), "cuda")
    assert (given.lr, given.weight_decay, given.device) == (0.5, 1e-5, "cuda")
    assert given.max_epochs == usual.max_epochs == NetworkOptions().max_epochs
