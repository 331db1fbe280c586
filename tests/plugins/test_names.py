"""Naming a part: what is refused, in which words, and that nothing is imported without consent."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import eegm2
from eegm2 import EEGM2, EEGM2Config, PretrainConfig
from eegm2.cli.main import app
from eegm2.config import conflicts, pairs, to_dict
from eegm2.data.config import DATASETS, WindowConfig
from eegm2.errors import CheckpointError, ConfigError
from eegm2.evaluation.config import BASELINE_REGISTRY
from eegm2.model.config import ALL_PRESETS, MIXERS, TRAINED
from eegm2.plugins import Registry, consent, declared, is_plugin, trusted
from eegm2.training.objectives.options import OBJECTIVES
from tests.evaluation.helpers import labelled_store
from tests.plugins.helpers import run_command

SOURCE = """
from dataclasses import dataclass
from pathlib import Path
from eegm2 import Mixer, Objective, option

Path(__file__).with_name("imported").touch()

@dataclass(frozen=True)
class Told:
    size: int = option(3, "How large.")
    kind: str = option("a", "Which.")

class Good(Mixer):
    Options = Told
    def __init__(self, channels, config, options):
        super().__init__()
        self.options = options
    def forward(self, u, state=None):
        return 2 * u, None

class Narrow(Good):
    def forward(self, u, state=None):
        return u[..., :1], None

class Bare(Good):
    def forward(self, u, state=None):
        return u

class Broken(Good):
    def forward(self, u, state=None):
        raise ValueError("no good")

class Unmade(Good):
    def __init__(self, channels, config, options):
        raise RuntimeError("not today")

class Lazy(Mixer):
    pass

class Other:
    pass

class Odd(Good):
    Options = {"size": 3}

class Vector(Objective):
    def forward(self, model, x, seeds, origin=None):
        return (model(x).mean(0),)

class Many(Objective):
    terms = ("loss", "more")
    def forward(self, model, x, seeds, origin=None):
        return (model(x).mean(),)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that leaves a trace when it is imported."""
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(SOURCE)
    (tmp_path / f"{name}_bad.py").write_text("import nothing_of_this_name\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        ("Goof", {}, r"has no Goof; did you mean 'Good'\?"),
        ("Other", {}, r"is the class Other, expected a subclass of eegm2\.Mixer"),
        ("SOURCE_OF_NOTHING", {}, "has no SOURCE_OF_NOTHING; write its name as it is defined there"),
        ("Path", {}, r"is the class Path, expected a subclass of eegm2\.Mixer"),
        ("Lazy", {}, "defines no forward"),
        ("Odd", {}, "its options are of type dict, expected a dataclass"),
        ("Good", {"sise": 3}, r"unknown key 'sise'; did you mean 'size'\?"),
        ("Good", {"size": "large"}, "size: got 'large', expected int"),
        ("Good", {"kind": 3}, "kind: got 3, expected str"),
        ("Narrow", {}, r"gave \(1, 4, 1\) for \(1, 4, \d+\), expected \(y, state\)"),
        ("Bare", {}, r"expected \(y, state\) with y of the same shape"),
        ("Broken", {}, r"fails on \(1, 4, \d+\): ValueError: no good"),
        ("Unmade", {}, "cannot be made: RuntimeError: not today"),
    ],
)
def test_a_part_that_cannot_be_used(module: str, part: str, options: dict[str, object], message: str) -> None:
    config = PretrainConfig(mixer=f"{module}:{part}", mixer_options=options, width=4)
    with (
        pytest.raises(ConfigError, match=rf"^mixer {module}:{part}: .*{message}") as caught,
        eegm2.trusting(module),
    ):
        EEGM2(config.network_config(3, 64.0))
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_imported(module: str) -> None:
    with pytest.raises(ConfigError, match=r"there is no module no_such_package; install it, or run in the"):
        consent(PretrainConfig(mixer="no_such_package.mixers:Good"))
    with pytest.raises(ConfigError, match=r"ModuleNotFoundError: No module named 'nothing_of_this_name'"):
        consent(PretrainConfig(mixer=f"{module}_bad:Good"))


@pytest.mark.parametrize("registry", [OBJECTIVES, MIXERS, DATASETS, BASELINE_REGISTRY, TRAINED])
def test_every_kind_names_the_nearest(registry: Registry) -> None:
    known = registry.names[0]
    with pytest.raises(ConfigError, match=rf"^{registry.what}: got '{known}x', .*did you mean '{known}'\?"):
        registry.find(f"{known}x")
    for name in ("a:b:c", ":Name", "package:", "package.:Name", "../file:Name", "package:Na.me", "a b:Name"):
        assert not is_plugin(name)
        with pytest.raises(ConfigError, match=r"or package\.module:Name"):
            registry.check(name)
    with pytest.raises(CheckpointError, match=r"names the \w+ elsewhere:Part.*--trust elsewhere"):
        registry.find("elsewhere:Part")


def test_nothing_is_imported_because_a_file_says_so(module: str, tmp_path: Path) -> None:
    trace = tmp_path / "imported"
    config = EEGM2Config.from_dict({"mixer": f"{module}:Good", "width": 4, "n_chans": 3})
    WindowConfig(dataset=f"{module}:Good")
    PretrainConfig(objective=f"{module}:Vector", mixer=f"{module}:Good", preset=f"{module}:Good")
    with pytest.raises(CheckpointError, match=f"--trust {module}"):
        EEGM2(config)
    for given in (module[:-1], f"{module}.deeper", f"{module}:Goo", "os"):
        with eegm2.trusting(given), pytest.raises(CheckpointError, match="is not eegm2's"):
            EEGM2(config)
    assert not trace.exists()
    assert module not in sys.modules
    with eegm2.trusting(module):
        EEGM2(config)
    assert trace.exists()


def test_consent_ends_with_its_block() -> None:
    assert not trusted("package.module:Name")
    for given in ("package", "package.module", "package.module:Name"):
        with eegm2.trusting(given):
            assert trusted("package.module:Name")
            assert not trusted("packages.module:Name")
        assert not trusted("package.module:Name")
    with eegm2.trusting("package"), eegm2.trusting("package"):
        pass
    assert not trusted("package.module:Name")
    with (
        pytest.raises(ConfigError, match=r"trust: got '\.\./package', expected a package"),
        eegm2.trusting("../package"),
    ):
        pass


def test_a_header_is_asked_about_though_the_code_is_known(module: str, tmp_path: Path) -> None:
    config = PretrainConfig(mixer=f"{module}:Good", width=4)
    consent(config)
    model = EEGM2(config.network_config(3, 64.0))
    eegm2.save_pretrained(model, tmp_path / "kept")
    with pytest.raises(CheckpointError, match=rf"names the mixer {module}:Good"):
        eegm2.from_pretrained(tmp_path / "kept")
    kept = eegm2.from_pretrained(tmp_path / "kept", trust=module)
    assert kept.config == model.config
    assert kept.light().config.mixer == f"{module}:Good"  # derived networks ask no more


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            "Vector",
            r"objective Vector: forward gave a tuple of shapes \[\(\d+, \d+\)\], expected a tuple of 1",
        ),
        ("Many", r"expected a tuple of 2 numbers: loss, more"),
    ],
)
def test_an_objective_that_gives_something_else(module: str, tmp_path: Path, part: str, message: str) -> None:
    labelled_store(tmp_path / "store", subjects=2)
    words = ["pretrain", "store", "--out", "run", "--objective", f"{module}:{part}", "--width", "4"]
    words += ["--window-s", "1", "--val", "0", "--test", "0", "--epochs", "1", "--accelerator", "cpu"]
    assert re.search(message, run_command(app, words, fails=True))


def test_options_of_the_command_line_are_read_as_toml_has_them() -> None:
    texts = ["a=3", "b=0.5", "c=true", "d=word", 'e="3"', "f=[1, 2]", "g=two words", "h=a=b", "i=1979-05-27"]
    assert pairs(texts, "--x") == {
        "a": 3, "b": 0.5, "c": True, "d": "word", "e": "3", "f": [1, 2], "g": "two words", "h": "a=b",
        "i": "1979-05-27",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="--x: got 'a', expected name=value"):
        pairs(["a"], "--x")
    with pytest.raises(ConfigError, match="--x: a is given twice"):
        pairs(["a=1", "a=2"], "--x")


def test_options_that_came_later_leave_older_records_as_they_are() -> None:
    for config in (PretrainConfig(), WindowConfig(), EEGM2Config()):
        plain = to_dict(config)
        assert not {"mixer_options", "dataset", "dataset_options", "objective_options"} & set(plain)
        assert conflicts(plain, config) == []
    changed = PretrainConfig(d_state=8)
    assert to_dict(changed)["d_state"] == 8
    assert conflicts(to_dict(changed), PretrainConfig()) == ["d_state"]
    assert conflicts(to_dict(PretrainConfig()), changed) == ["d_state"]


def test_sizes_of_the_mixer_are_options_of_their_own() -> None:
    shape = PretrainConfig(d_state=8, expand=2, headdim=16, width=4).network_config(3, 64.0)
    assert (shape.d_state, shape.expand, shape.headdim) == (8, 2, 16)
    assert shape == PretrainConfig(network=("d_state=8", "expand=2", "headdim=16"), width=4).network_config(
        3, 64.0
    )
    assert PretrainConfig(mixer="mamba1").network_config(3, 64.0).mixer == "mamba1"
    with pytest.raises(ConfigError, match="d_state: given by itself and in network"):
        PretrainConfig(d_state=8, network=("d_state=8",)).network_config(3, 64.0)
    with pytest.raises(ConfigError, match="expand: got -1, expected at least 1, or 0"):
        PretrainConfig(expand=-1)
    with pytest.raises(ConfigError, match="mixer mamba2: takes no options, got speed"):
        EEGM2(PretrainConfig(mixer_options={"speed": 3}, width=4).network_config(3, 64.0))


def test_a_preset_is_declared_in_one_place() -> None:
    assert set(TRAINED.names) == set(ALL_PRESETS) - {"light"}
    for name in TRAINED.names:
        assert PretrainConfig(preset=name).network_config(8, 64.0).preset_name in (name, "light")


def test_an_objective_is_declared_in_its_module(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text('import nothing\n\nOBJECTIVES = {\n    "first": "First",\n}\n')
    (tmp_path / "two.py").write_text('OBJECTIVES = {"second": "Second"}\n')
    assert declared("p.q", tmp_path, "OBJECTIVES") == {"first": "p.q.one:First", "second": "p.q.two:Second"}
    (tmp_path / "two.py").write_text('OBJECTIVES = {"first": "Second"}\n')
    with pytest.raises(ConfigError, match=r"first is declared twice, again in two\.py"):
        declared("p.q", tmp_path, "OBJECTIVES")
