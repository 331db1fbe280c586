"""The law of commands: every flag reaches the work under its own name, and moves nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import itertools
import json
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
import typer.main
from typer.testing import CliRunner

from eegm2.benchmark.config import BenchmarkConfig
from eegm2.cli.calibrate import _same_source
from eegm2.cli.demo import BUNDLED
from eegm2.cli.heads import open_head
from eegm2.cli.main import app
from eegm2.cli.record import session_page
from eegm2.cli.sources import open_source
from eegm2.data.config import PrepareConfig
from eegm2.deploy.config import ExportConfig, HeadConfig, RecordConfig, StreamConfig
from eegm2.deploy.live.config import CalibrateConfig
from eegm2.deploy.predict.config import PredictConfig
from eegm2.evaluation.config import EmbedConfig, ProbeConfig, ReconstructConfig
from eegm2.evaluation.experiment.config import Plan
from eegm2.evaluation.experiment.reading import read_plan
from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.model.config import EEGM2Config
from eegm2.training.config import PretrainConfig
from tests.evaluation.helpers import fake_run, labelled_store, tiny_model


class Reached(BaseException):
    """The work was called: nothing is to be done."""


@dataclass
class Work:
    """What a command calls.

    Attributes
    ----------
    words : str
        What it must be given; a letter stands for a path or a name.
    worker : str
        ``module:function`` of its work.
    config : type, optional
        What its flags are declared in.
    before : tuple of str
        What is called with some of the flags before the work.
    flags : dict
        Flags that are not of `config`: values, None where giving it is enough.
    """

    words: str
    worker: str
    config: type | None = None
    before: tuple[str, ...] = ()
    flags: dict[str, Any] = field(default_factory=dict)


LIVE = "--source lsl --model m"
WORK = {
    "prepare": Work("in --out o", "eegm2.data.preparing.prepare:prepare", PrepareConfig),
    "pretrain": Work("s --out o", "eegm2.training.pretrain:pretrain", PretrainConfig),
    "probe": Work("m s --out o", "eegm2.evaluation.probing.run:probe", ProbeConfig),
    "finetune": Work("m s --out o", "eegm2.evaluation.finetuning.run:finetune", FinetuneConfig),
    "predict": Work("m f --out o", "eegm2.deploy.predict.run:predict", PredictConfig),
    "embed": Work("m f --out o", "eegm2.evaluation.features.embedding:embed", EmbedConfig),
    "reconstruct": Work(
        "m f --out o", "eegm2.evaluation.reconstruct.run:reconstruct_file", ReconstructConfig
    ),
    "head": Work("m s --out o", "eegm2.deploy.heads.fit:fit_head", HeadConfig),
    "export": Work(
        "m --out o --head h", "eegm2.deploy.export.run:export_model", ExportConfig,
        ("eegm2.cli.export:open_head",),
    ),
    "record": Work(
        "--source lsl --out o", "eegm2.deploy.live.record:record", RecordConfig,
        ("eegm2.cli.record:open_source",),
    ),
    "calibrate": Work(
        f"{LIVE} --out o", "eegm2.deploy.live.calibrate:calibrate", CalibrateConfig,
        ("eegm2.deploy.trained_model:load_trained", "eegm2.cli.calibrate:open_source"),
    ),
    "stream": Work(
        LIVE, "eegm2.deploy.live.pipeline:Pipeline", StreamConfig, ("eegm2.cli.stream:open_head",)
    ),
    "benchmark": Work("", "eegm2.benchmark.run:run", BenchmarkConfig),
    "evaluate": Work(
        "f --out o", "eegm2.evaluation.experiment.state:Experiment", None, ("eegm2.cli.evaluate:read_plan",),
        {"store": "x", "only": ["x", "y"], "device": "mps"},
    ),
    "report": Work(
        "r --out o", "eegm2.report.html:write_report", None, (),
        {"store": ["x", "y"], "probe": ["x", "y"], "evaluation": ["x", "y"], "projection": "tsne"},
    ),
    "share": Work("r --out o", "eegm2.hub:share_run", None, (), {"which": "last"}),
}  # fmt: skip
#: Values for options of which not every one will do, and what must go with them.
VALUES: dict[str, Any] = {
    "exclude_s": ["1:2"], "val": 0.3, "test": 0.25, "wrong": 0.3, "tolerance": 0.02, "hop": 24, "leave": 0.25,
    "windows_per_recording": 8, "c": "0.25", "parts": ["step", "encoder"], "format": ["torch"],
    "cue": ["x:20", "y:30"], "models": ["s1", "light"], "protocols": ["light", "linear"],
}  # fmt: skip
WITH = {
    ("pretrain", "checkpoint_windows"): ["--checkpoint-blocks"],
    ("finetune", "begin"): ["--head", "statistics"],
}
#: What a calibration's length follows from.
REFUSED = {("calibrate", "duration_s")}


def value_of(entry: dataclasses.Field[Any], hint: Any, usual: Any) -> Any:
    """Return a value of an option that is not its default."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(h for h in get_args(hint) if h is not type(None))
    if get_origin(hint) is Literal:
        return next(choice for choice in reversed(get_args(hint)) if choice != usual)
    if entry.name in VALUES:
        return VALUES[entry.name]
    if entry.metadata.get("parts") is not None:
        return next(name for name in entry.metadata["parts"].names if name != usual)
    if get_origin(hint) is tuple:
        return [24, 48] if get_args(hint)[0] in (int, float) else ["x", "y"]
    if get_origin(hint) is dict:
        return {"x": 2}
    if hint in (int, float):
        return 2 * (usual or 3) + 1 if hint is int else 0.75 * (usual or 1.0)
    return not usual if hint is bool else "x"


def words_of(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-")]
    if isinstance(value, dict):
        return [flag, *(f"{key}={item}" for key, item in value.items())]
    return [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield what a worker was told, piece by piece, each under the name by which it was told."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for entry in dataclasses.fields(value):
            yield entry.name, plain(getattr(value, entry.name))
    else:
        yield name, plain(value)


def plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def told(monkeypatch: pytest.MonkeyPatch, work: Work) -> list[tuple[str, Any]]:
    """Let a command's work, and what comes before it, only note what it is told."""
    noted: list[tuple[str, Any]] = []

    def listen(place: str, last: bool) -> None:
        module, _, name = place.partition(":")
        asked = inspect.signature(getattr(importlib.import_module(module), name))

        def work(*args: Any, **kwargs: Any) -> Any:
            for key, value in asked.bind(*args, **kwargs).arguments.items():
                noted.extend(leaves(value, key))
            if last:
                raise Reached
            return (None, None) if name == "open_head" else None

        monkeypatch.setattr(f"{module}.{name}", work)

    for command in ("record", "calibrate"):  # their page has a law of its own
        monkeypatch.setattr(f"eegm2.cli.{command}.session_page", lambda *_: contextlib.nullcontext())
    for place in work.before:
        listen(place, last=False)
    listen(work.worker, last=True)
    return noted


def invoke(noted: list[tuple[str, Any]], words: list[str]) -> list[tuple[str, Any]]:
    noted.clear()
    with pytest.raises(Reached):
        CliRunner().invoke(app, words, catch_exceptions=False)
    plain_ones = (str, int, float, list, dict, type(None))
    return [one for one in noted if isinstance(one[1], plain_ones) and one[0] != "command"]


@pytest.mark.parametrize("name", WORK)
def test_every_flag_reaches_the_work_and_moves_nothing_else(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flag after the other, each with a value that is not its default."""
    work, noted = WORK[name], told(monkeypatch, WORK[name])
    values = dict(work.flags)
    if work.config is not None:
        hints, usual = get_type_hints(work.config), work.config()
        for entry in dataclasses.fields(work.config):
            if (name, entry.name) not in REFUSED:
                values[entry.name] = value_of(entry, hints[entry.name], getattr(usual, entry.name))
    usual_words = [name, *work.words.split()]
    unmoved = invoke(noted, usual_words)
    for flag, value in values.items():
        words = [*usual_words, *WITH.get((name, flag), ())]
        before = unmoved if words == usual_words else invoke(noted, words)
        after = invoke(noted, [*words, *words_of(flag, value)])
        moved = [(b, a) for b, a in zip(before, after, strict=True) if b != a]
        expected = type(moved[0][1][1])(value) if moved and isinstance(value, str) else value
        assert moved, f"--{flag} reaches nothing"
        for was, now in moved:
            assert was[0] == now[0]
            assert now[0] in (flag, f"{flag}s"), f"--{flag} moves {now[0]}"
            assert now[1] == expected, f"--{flag}"
    known = {
        "config_file",
        "trust",
        "source",
        "out",
        "model",
        "run",
        "sources",
        "stores",
        "file",
        "head",
        "store",
    }
    rest = {p.name for p in typer.main.get_group(app).commands[name].params} - set(values) - known
    assert rest == OWN.get(name, set()), f"{name}: flags that nobody tries"


def test_what_is_given_without_a_flag_is_taken_for_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models, stores, files and where to write, in the order in which they stand."""
    places = {
        "m": {"model", "run", "path"}, "s": {"store"}, "f": {"file", "source", "sources", "path"},
        "r": {"run"}, "in": {"source"}, "o": {"out", "run", "path", "folder"}, "lsl": {"name"}, "h": {"head"},
    }  # fmt: skip
    for name, work in WORK.items():
        with monkeypatch.context() as patch:
            noted = told(patch, work)
            given = invoke(noted, [name, *work.words.split()])
        own = {entry.name for entry in dataclasses.fields(work.config)} if work.config else set()
        taken = {place: key for key, place in given if key not in own and isinstance(place, str)}
        taken |= {
            place[0]: key for key, place in given if key not in own and isinstance(place, list) and place
        }
        for place in (word for word in work.words.split() if not word.startswith("--")):
            if (name, place) not in (("head", "o"), ("stream", "lsl")):  # told later
                assert taken[place] in places[place], f"{name}: {place} is taken for {taken[place]}"


OWN = {
    "pretrain": {"find_lr"}, "evaluate": {"threads", "dry_run"}, "share": {"push_to", "private"},
    "benchmark": {"render"}, "calibrate": {"duration_s"},
}  # fmt: skip
"""Flags with a law of their own below."""


@pytest.mark.parametrize("place", ["lsl", "brainflow", "file"])
def test_a_source_is_opened_as_it_was_asked_for(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = StreamConfig(
        channels=("A,B",), unit="mV", stream_name="n", stream_id="i", timeout_s=3.0, buffer_s=45.0,
        lsl="network", board="b", serial_port="p", board_file="f", speed=2.0,
    )  # fmt: skip
    (tmp_path / "a.edf").touch()
    source = open_source(str(tmp_path / "a.edf") if place == "file" else place, config)
    assert (source.named, source.unit) == (["A", "B"], "mV")
    every: dict[str, dict[str, Any]] = {
        "lsl": {
            "wanted": "n", "wanted_id": "i", "reach": "network", "resolve_s": 3.0, "buffer_s": 90.0,
        },
        "brainflow": {"board": "b", "serial_port": "p", "file": "f"},
        "file": {"name": str(tmp_path / "a.edf"), "speed": 2.0},
    }  # fmt: skip
    asked = every[place]
    assert {key: getattr(source, key) for key in asked} == asked
    usual = open_source("lsl", StreamConfig())
    assert (usual.resolve_s, usual.buffer_s) == (5.0, 60.0)


def test_a_page_is_served_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []

    def page(*given: Any) -> Any:
        served.append(given)
        return SimpleNamespace(url="u", send=None, close=lambda: None)

    monkeypatch.setattr("eegm2.deploy.live.web.WebPage", page)
    config = RecordConfig(host="0.0.0.0", port=81, token="secret")
    with session_page("/a/b.edf", "recording", config):
        pass
    with session_page("/a/b.edf", "recording", RecordConfig()) as send:
        assert send is None
    assert served == [("0.0.0.0", 81, "secret", {"source": "b.edf", "what": "recording"}, "session.html")]


def test_a_calibrated_stream_is_told_all_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed as the next command finds the same device and person."""
    values: dict[str, Any] = {
        "board": "b", "serial_port": "p", "channels": ("A", "B"), "unit": "mV", "stream_name": "n",
        "person": "w", "aliases": ("A=B",), "positions": "p.csv", "hop_s": 0.25, "speed": 0.0,
        "lsl": "network",
    }  # fmt: skip
    words = _same_source(CalibrateConfig(**values))
    work = WORK["stream"]
    noted = told(monkeypatch, work)
    given = dict(invoke(noted, ["stream", *work.words.split(), *words]))
    asked = {name: plain(value) for name, value in values.items() if name != "speed"}
    assert {name: given[name] for name in asked} == asked
    assert given["speed"] == StreamConfig().speed


class Planned(BaseException):
    """An experiment was to be run."""


def plan_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Return the experiment that a command writes and evaluates."""

    def stop(path: Path, store: str = "") -> Any:
        raise Planned(read_plan(path))

    monkeypatch.setattr("eegm2.cli.evaluate.read_plan", stop)
    with pytest.raises(Planned) as stopped:
        CliRunner().invoke(app, words, catch_exceptions=False)
    plan: Plan = stopped.value.args[0]
    return plan


def test_a_comparison_is_of_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = {"model": EEGM2Config().to_dict(), "windows": {"scaling": "robust"}}
    monkeypatch.setattr("eegm2.training.checkpoint.read_header", lambda name: header)
    asked = {"features": "log_variance", "centre": "recording", "window-s": 3, "folds": 7, "target": "group"}
    flags = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    words = ["compare", "m", "band_power", str(tmp_path / "s"), "--out", str(tmp_path / "o")]
    plan = plan_of([*words, *flags], monkeypatch)
    assert plan.data.store == str(tmp_path / "s")
    assert (plan.data.window_s, plan.data.target, plan.splits.n_folds) == (3.0, "group", 7)
    ours, theirs = plan.models
    assert (ours.name, ours.protocol, plan.pretrain[ours.pretrained].run) == ("m", "linear", "m")
    assert (ours.features, ours.centre, ours.scaling, ours.c) == (
        "log_variance", "recording", "robust", "people",
    )  # fmt: skip
    assert (theirs.name, theirs.baseline) == ("band_power", "band_power")
    assert theirs.options == {"c": "people", "centre": "recording"}
    assert [(pair.a, pair.b) for pair in plan.compare] == [("m", "band_power")]
    plain_one = plan_of(words, monkeypatch)
    assert (plain_one.data.window_s, plain_one.data.target, plain_one.splits.n_folds) == (
        4.0,
        "annotations",
        5,
    )
    assert (plain_one.models[0].features, plain_one.models[0].centre) == ("statistics", "none")


def steps_of(monkeypatch: pytest.MonkeyPatch, words: list[str], last: str) -> list[tuple[str, list[str]]]:
    """Return the commands that the demo would run, until one."""
    ran: list[tuple[str, list[str]]] = []

    def run(steps: Any, command: str, *arguments: str) -> None:
        ran.append((command, list(arguments)))
        if command == last:
            raise Reached

    monkeypatch.setattr("eegm2.cli.demo.Steps.run", run)
    with pytest.raises(Reached):
        CliRunner().invoke(app, ["demo", *words], catch_exceptions=False)
    return ran


def flags_of(arguments: list[str]) -> dict[str, str]:
    return {word: value for word, value in itertools.pairwise(arguments) if word.startswith("--")}


def test_the_demo_does_with_ones_own_recordings_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"--width": "5", "--epochs": "6", "--batch-size": "7", "--seed": "8"}
    out = tmp_path / "o"
    words = ["--data", "mine", "--out", str(out), "--window-s", "3.5", *itertools.chain(*sizes.items())]
    ran = steps_of(monkeypatch, words, "report")
    assert [command for command, _ in ran] == ["prepare", "pretrain", "probe", "report"]
    prepare, pretrain, probe, report = (arguments for _, arguments in ran)
    assert prepare == ["mine", "--out", str(out / "store")]
    assert pretrain[0] == str(out / "store")
    assert flags_of(pretrain) == {"--out": str(out / "run"), "--window-s": "3.5", **sizes}
    assert probe == [str(out / "run"), str(out / "store"), "--out", str(out / "probe")]
    assert report[0] == str(out / "run")
    assert flags_of(report) == {
        "--out": str(out / "report.html"), "--store": str(out / "store"), "--probe": str(out / "probe"),
    }  # fmt: skip
    ran = steps_of(monkeypatch, ["--train", *words[2:]], "probe")
    assert flags_of(dict(ran)["pretrain"]).items() >= sizes.items()
    assert [command for command, _ in ran] == ["prepare", "pretrain", "evaluate", "probe"]


def test_the_demo_shows_the_model_as_it_is_said_to_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features, centring and penalty are the model's own, in folds and in the head that predicts."""
    about = {"features": "log_variance", "centre": "recording", "c": 0.5}
    monkeypatch.setattr("eegm2.zoo.facts.facts_of", lambda name, path: about)
    ran = steps_of(monkeypatch, ["--out", str(tmp_path / "o")], "probe")
    plan = read_plan(dict(ran)["evaluate"][0])
    ours, theirs = plan.models
    assert (ours.features, ours.centre, ours.c) == ("log_variance", "recording", 0.5)
    assert theirs.options == {"c": 0.03, "centre": "recording"}
    assert (plan.data.classes, plan.data.window_s, plan.splits.n_folds) == (
        ("eyes_closed", "eyes_open"), 4.0, 8,
    )  # fmt: skip
    assert {(pair.a, pair.b) for pair in plan.compare} == {(ours.name, theirs.name)}
    head = flags_of(dict(ran)["probe"])
    asked = {
        "--features": "log_variance", "--centre": "recording", "--c": "0.5", "--protocols": "linear",
        "--classes": "eyes_closed,eyes_open", "--scaling": "recording", "--stride-s": "4.0",
    }  # fmt: skip
    assert {name: head[name] for name in asked} == asked


def test_the_demo_predicts_somebody_whom_its_head_has_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = sorted({path.name.partition("_")[0] for path in BUNDLED.glob("*.edf")})
    parts = {"train": everybody[:2], "val": everybody[2:3], "test": everybody[3:5]}
    ran: list[tuple[str, ...]] = []

    def run(steps: Any, command: str, *arguments: str) -> None:
        ran.append((command, *arguments))
        if command == "probe":
            (tmp_path / "probe").mkdir()
            task = {"parts": {part: {"subjects": names} for part, names in parts.items()}}
            (tmp_path / "probe" / "results.json").write_text(json.dumps({"task": task}))
        if command == "predict":
            raise Reached

    monkeypatch.setattr("eegm2.cli.demo.Steps.run", run)
    with pytest.raises(Reached):
        CliRunner().invoke(app, ["demo", "--out", str(tmp_path)], catch_exceptions=False)
    command, probe, file, *_ = ran[-1]
    assert (command, probe) == ("predict", str(tmp_path / "probe"))
    assert Path(file).name.partition("_")[0] in parts["test"]
    assert Path(file).exists()


@pytest.mark.parametrize(
    ("given", "device", "names"),
    [(("X,Y",), False, ("X", "Y")), (("X",), True, ("C", "D")), ((), False, ("C", "D"))],
)
def test_a_head_and_its_model_are_for_the_same_electrodes(
    given: tuple[str, ...],
    device: bool,
    names: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those given, but for a device's own; else those it was learnt with; by the same positions."""
    asked: list[tuple[str, Any, str]] = []

    class Part(SimpleNamespace):
        def on_montage(self, names: Any, positions: str) -> Any:
            asked.append((self.name, tuple(names), positions))
            return self

    trained = Part(name="trained", config=SimpleNamespace(any_electrodes=True), ch_names=("E",))
    kept = Part(
        name="kept", facts={"ch_names": ["C", "D"]},
        checkpoint=SimpleNamespace(model="network"), head="head",
        tuned=None, classes=("a", "b"),
    )  # fmt: skip
    monkeypatch.setattr("eegm2.deploy.trained_model.load_trained", lambda _: trained)
    monkeypatch.setattr("eegm2.zoo.find.model_folder", lambda _: tmp_path)
    monkeypatch.setattr("eegm2.deploy.predict.classifier.load_classifier", lambda model, head: kept)
    monkeypatch.setattr("eegm2.deploy.heads.windowed.refuse_other_model", lambda *_: None)
    monkeypatch.setattr("eegm2.deploy.heads.windowed.windowed_head", lambda *of, **more: (of, more))
    model, head = open_head("m", "h", given, "p.csv", device=device)
    assert model is trained
    assert head == (("network", "head", None), {"classes": ("a", "b"), "facts": kept.facts})
    assert asked == [("kept", names, "p.csv"), ("trained", names, "p.csv")]
    assert open_head("m", "", given, "p.csv", device=device) == (trained, None), "the folder has no head"


def test_what_a_model_holds_is_counted_whole(tmp_path: Path) -> None:
    store = labelled_store(tmp_path / "store", subjects=1, seconds=4)
    run = fake_run(tmp_path / "run", store)
    said = CliRunner().invoke(app, ["info", str(run), "--json"], catch_exceptions=False).output
    facts = json.loads(said)
    model = tiny_model()
    assert facts["checkpoint"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert facts["checkpoint"]["ch_names"] == ["F3", "C3", "P3"]
    assert facts["environment"]["torch"] == torch.__version__.partition("+")[0] or "+" in torch.__version__


def test_an_evaluation_takes_as_many_threads_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def experiment(*given: Any, **more: Any) -> None:
        seen.append(torch.get_num_threads())
        raise Reached

    monkeypatch.setattr("eegm2.cli.evaluate.read_plan", lambda *_, **__: None)
    monkeypatch.setattr("eegm2.evaluation.experiment.state.Experiment", experiment)
    before = torch.get_num_threads()
    for words in ([], ["--threads", str(before + 2)]):
        with pytest.raises(Reached):
            CliRunner().invoke(app, ["evaluate", "f", "--out", "o", *words], catch_exceptions=False)
        assert torch.get_num_threads() == before
    assert seen == [before, before + 2]


@pytest.mark.parametrize(("words", "private"), [([], True), (["--no-private"], False)])
def test_a_model_is_uploaded_where_and_as_it_is_said(
    words: list[str], private: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[Any] = []
    (tmp_path / "README.md").write_text("the card")
    monkeypatch.setattr("eegm2.hub.share_run", lambda *_: tmp_path)
    monkeypatch.setattr("eegm2.hub.from_pretrained", lambda folder: f"of {folder}")
    monkeypatch.setattr("eegm2.hub.push_to_hub", lambda *given, **more: pushed.append((given, more)))
    base = ["share", "r", "--out", str(tmp_path)]
    CliRunner().invoke(app, [*base, *words], catch_exceptions=False)
    assert not pushed
    CliRunner().invoke(app, [*base, "--push-to", "me/it", *words], catch_exceptions=False)
    assert pushed == [((f"of {tmp_path}", "me/it"), {"card": "the card", "private": private})]


def test_a_search_for_a_rate_suggests_the_steepest_and_names_the_lowest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = SimpleNamespace(
        rates=np.array([1e-5, 1e-4, 1e-3, 1e-2]), smoothed=np.array([3.0, 2.0, 1.0, 9.0]), suggestion=2e-4,
        table="t.csv", plot="p.svg",
    )  # fmt: skip
    monkeypatch.setattr("eegm2.training.lr_finder.find_learning_rate", lambda *_: found)
    said = (
        CliRunner().invoke(app, ["pretrain", "s", "--out", "o", "--find-lr"], catch_exceptions=False).output
    )
    assert "4 rates from 1e-05 to 0.01" in said
    assert "steepest   0.0002; the loss is lowest at 0.001" in said
    assert "--max-lr 0.0002" in said
