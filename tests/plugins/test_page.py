"""docs/plugins.md does what it says: its parts are written into a module and used through the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import eegm2
from eegm2.cli.main import app
from eegm2.errors import CheckpointError, ConfigError
from eegm2.training.checkpoint import read_header
from tests.evaluation.helpers import labelled_store
from tests.plugins.helpers import run_command
from tests.test_docs import ROOT, blocks, commands

PAGE = ROOT / "docs" / "plugins.md"
SMALL = ["--window-s", "1", "--batch-size", "8", "--val", "0.25", "--test", "0", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with the page's module and a store."""
    here = tmp_path_factory.mktemp("page")
    code = [block for block in blocks(PAGE, "python") if "from_pretrained" not in block]
    (here / "my_eeg.py").write_text("\n\n".join(code))
    labelled_store(here / "store", seconds=12.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr(sys, "path", list(sys.path))
        yield here
    sys.modules.pop("my_eeg", None)


@pytest.fixture(scope="module")
def runs(folder: Path) -> Path:
    """The page's pretrainings."""
    for words in commands(PAGE):
        if words[1] == "pretrain":
            run_command(app, [*words[1:], *SMALL])
    return folder


def test_the_parts_are_kept_in_the_header(runs: Path) -> None:
    header = read_header(runs / "run")
    assert header["pretrain"]["objective"] == "my_eeg:Inpaint"
    assert header["pretrain"]["objective_options"] == {"channels": 2}
    header = read_header(runs / "leaky")
    assert (header["model"]["mixer"], header["model"]["mixer_options"]) == ("my_eeg:Leaky", {"memory": 3})
    assert header["model"]["expand"] == 2
    header = read_header(runs / "clean")
    assert (header["windows"]["dataset"], header["windows"]["dataset_options"]) == (
        "my_eeg:Rereferenced",
        {"share": 0.5},
    )
    rows = (runs / "run" / "logs" / "metrics.csv").read_text().splitlines()
    assert "train_hidden_error" in rows[0]


def test_a_model_of_such_a_mixer_is_loaded_with_consent_alone(runs: Path) -> None:
    for load in (eegm2.from_pretrained, eegm2.load_checkpoint):
        with pytest.raises(CheckpointError, match=r"names the mixer my_eeg:Leaky.*--trust my_eeg"):
            load(runs / "leaky")
        with pytest.raises(CheckpointError, match="names the mixer"):
            load(runs / "leaky", trust="my_ee")
    model = eegm2.from_pretrained(runs / "leaky", trust="my_eeg")
    assert type(model.encoder.block1.mixer).__name__ == "Leaky"
    with eegm2.trusting("my_eeg:Leaky"):
        eegm2.load_checkpoint(runs / "leaky")
    eegm2.from_pretrained(runs / "run")  # its objective takes no part in the network


def test_commands_take_it_with_consent(runs: Path) -> None:
    refused = run_command(app, ["probe", "leaky", "store", "--out", "probe"], fails=True)
    assert "--trust my_eeg" in refused
    assert not (runs / "probe").exists()
    trust = ["--trust", "my_eeg"]
    run_command(app, ["probe", "leaky", "store", "--out", "probe", "--protocols", "linear", *trust])
    run_command(app, ["embed", "leaky", "store", "--out", "embedded.npz", *trust])
    run_command(app, ["share", "leaky", "--out", "shared", *trust])
    assert "my_eeg" in (runs / "shared" / "README.md").read_text()
    assert "not imported" in run_command(app, ["info", "shared"])
    eegm2.from_pretrained(runs / "shared", trust="my_eeg")
    refused = run_command(app, ["export", "leaky", "--out", "exported", *trust], fails=True)
    assert "mixer my_eeg:Leaky is not supported" in refused


def test_a_causal_one_is_streamed_exactly(runs: Path) -> None:
    model = eegm2.from_pretrained(runs / "leaky", trust="my_eeg")
    x = torch.randn(1, 3, 128)
    stream = eegm2.StreamingEEGM2(model, output="representation")
    parts = [stream.push(part) for part in x.split(16, dim=-1)]
    state = stream.state_dict()
    with torch.no_grad():
        whole = model.encode(x)
    made = torch.cat([*parts, stream.flush()], dim=-1)
    torch.testing.assert_close(made, whole, rtol=1e-4, atol=1e-5)
    assert any(name.endswith("block1.state0") for name in state)
    again = eegm2.StreamingEEGM2(model, output="representation")
    again.load_state_dict(state)


def test_the_data_set_is_used_wherever_a_store_is_read(runs: Path) -> None:
    read = sys.modules["my_eeg"].Rereferenced.read
    seen = []

    def counted(self: object, *where: object) -> None:
        seen.append(where)
        read(self, *where)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["my_eeg"].Rereferenced, "read", counted)
        refused = run_command(app, ["embed", "clean", "store", "--out", "clean.npz"], fails=True)
        assert "names the dataset my_eeg:Rereferenced" in refused
        assert not seen
        run_command(app, ["embed", "clean", "store", "--out", "clean.npz", "--trust", "my_eeg"])
        assert len(seen) == len(np.load("clean.npz")["start_s"])
    with pytest.raises(ConfigError, match="trained on windows of dataset my_eeg:Rereferenced"):
        eegm2.load_checkpoint(runs / "clean").plain_windows("a stream")


def test_the_experiment_runs(folder: Path) -> None:
    (text,) = blocks(PAGE, "toml")
    data = '[data]\nstore = "store"\nclasses = ["open", "shut"]\nwindow_s = 1.0\n[splits]\nn_folds = 2\n'
    text = text.replace("epochs = 1\n", "epochs = 1\nbatch_size = 8\n")
    (folder / "evaluate.toml").write_text(data + text)
    run_command(app, ["evaluate", "evaluate.toml", "--out", "results"])
    rows = json.loads((folder / "results" / "results.json").read_bytes())
    assert {row["model"] for row in rows} == {"linear", "random", "spread"}


def test_the_promises_hold(folder: Path) -> None:
    eegm2.check_objective("my_eeg:Inpaint", {"channels": 2})
    sys.modules["my_eeg"].test_parts(str(folder / "store"))
