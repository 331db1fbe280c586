"""Every recipe is declared in full, found by name, and shown by ``eegm2 datasets``."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import eegm2
from eegm2.cli.main import app
from eegm2.data.recipes import authors_npy, base, tuab
from eegm2.errors import ConfigError, DataError

EVERY = tuple(base.all_recipes())
#: Layouts of anybody's data: no page, no citation, no labels of their own.
GENERAL = ("bids", "folder", "folder_csv")


@pytest.mark.parametrize("name", EVERY)
def test_declared_in_full(name):
    recipe = base.get_recipe(name)
    for part in ("description", "tree", "licence", "subjects"):
        assert getattr(recipe, part).strip(), part
    if name not in GENERAL:
        for part in ("labels", "notes", "citation"):
            assert getattr(recipe, part).strip(), part
        assert recipe.url.startswith("https://")


@pytest.mark.parametrize("name", EVERY)
def test_a_folder_of_something_else_is_refused_or_empty(name, tmp_path):
    """The contract of ``discover``: recordings, or a DataError that names the folder; never another error."""
    (tmp_path / "notes.txt").write_text("nothing that a recipe knows")
    recipe = base.get_recipe(name)
    assert recipe.matches(tmp_path) is False
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        recipe.discover(tmp_path)


@pytest.mark.parametrize("name", EVERY)
def test_presets_are_fields_of_the_preprocessing(name):
    from eegm2.config import from_dict
    from eegm2.data.config import PreprocessingConfig

    from_dict(PreprocessingConfig, dict(base.get_recipe(name).preprocessing))


def test_command_lists_and_shows(capsys):
    listed = CliRunner().invoke(app, ["datasets"])
    assert listed.exit_code == 0
    for name in EVERY:
        assert f"\n{name} " in listed.output
    assert max(len(line) for line in listed.output.splitlines()) <= 110
    assert all(recipe.subjects for recipe in base.all_recipes().values())
    shown = CliRunner().invoke(app, ["datasets", "tuab"])
    for text in (
        "01_tcp_ar",
        "https://isip.piconepress.com",
        "abnormal",
        "TUH data use agreement",
        "Obeid",
        "prepare",
    ):
        assert text in shown.output


def test_unknown_name_lists_what_there_is():
    with pytest.raises(ConfigError, match=r"recipe: got 'tuabb', expected auto or one of .*tuab.*tuev"):
        base.get_recipe("tuabb")


def test_command_is_light():
    code = (
        "import sys; from typer.testing import CliRunner; from eegm2.cli.main import app; "
        "assert CliRunner().invoke(app, ['datasets']).exit_code == 0; "
        "print([m for m in ('torch', 'mne', 'scipy', 'moabb') if m in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(eegm2.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "[]"


def test_a_tree_is_recognised(tuab_tree):
    assert base.detect_recipe(tuab_tree).name == "tuab"


def test_recordings_travel_to_worker_processes(tuab_tree, tmp_path):
    import numpy as np

    np.save(tmp_path / "a.npy", {"train_data": np.zeros((2, 14, 256)), "train_label": [0, 1]})
    for recording in (*tuab.discover(tuab_tree), *authors_npy.discover(tmp_path)):
        copy = pickle.loads(pickle.dumps(recording))  # noqa: S301 (our own object)
        assert (copy.recording_id, copy.labels, copy.path) == (
            recording.recording_id,
            recording.labels,
            recording.path,
        )
    assert copy.load().n_times == 2 * 256
