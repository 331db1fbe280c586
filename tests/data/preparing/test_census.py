"""Nothing vanishes: whatever looks like EEG is prepared or named, with a reason, wherever people look."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.config import PrepareConfig
from eegm2.data.files.tree import walk
from eegm2.data.preparing.finding import find_recordings, summary
from eegm2.data.preparing.prepare import prepare
from eegm2.data.signal.quality import read_quality
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import ConfigError, DataError
from tests.data.samples import eeg, write_edf

NAMES = ["Fz", "Cz", "Pz", "Oz"]
ALONE = PrepareConfig(jobs=1)
EDF = b"0       " + b" " * 300


def edf(path: Path, seed: int = 0) -> Path:
    return write_edf(path, eeg(4, 1280, seed=seed), NAMES)


def written(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


#: What a file may be: its ending → how it is made. All of these look like EEG.
LOOKS_LIKE_EEG: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys((".edf", ".EDF", ".bdf", ".gdf", ".set", ".fif", ".fif.gz", ".vhdr"), written(EDF)),
    **dict.fromkeys((".cnt", ".xdf", ".nwb", ".mef", ".lay", ".trc", ".cdt", ".E"), written(b"x")),
    **dict.fromkeys(
        (".edf.gz", ".bdf.bz2", ".edf.bak", ".edf~", ".edf.part", ".edf (1)", ".set.old"), written(EDF)
    ),
    **dict.fromkeys((".zip", ".tar.gz", ".mat", ".npy", ".h5"), written(b"x")),
    **dict.fromkeys((".eeg", ".vmrk", ".fdt"), written(b"x")),
    **dict.fromkeys(("", ".dat", ".rec"), written(EDF)),
    ".raw": written(b"Brain Vision Data Exchange Header File"),
    ".txt": written(b"%OpenBCI Raw EXG Data\n"),
    ".csv": written(b"timestamps,TP9,AF7,AF8,TP10\n0,1,2,3,4\n"),
    ".mff": lambda path: path.mkdir(),
    ".ds": lambda path: path.mkdir(),
    ".link.edf": lambda path: path.symlink_to("../.git/annex/objects/x.edf"),
    ".gone": lambda path: path.symlink_to("nowhere"),
    ".loop": lambda path: path.symlink_to(path.name),
}
OTHER: dict[str, Callable[[Path], None]] = dict.fromkeys(
    (".json", ".tsv", ".md", ".png", ".py", ".edf.md5"), written(b"x")
)
ENTRIES = st.tuples(
    st.lists(st.sampled_from(["a", "S01", ".hidden", "sub-1", "Müller", "b c"]), max_size=3),
    st.sampled_from(["one", "S001R01", "sub-1_task-x_eeg", "._rest", "labels"]),
    st.sampled_from([*LOOKS_LIKE_EEG, *OTHER]),
)


def plant(root: Path, entries: list[tuple[list[str], str, str]]) -> set[str]:
    """Make a tree; return the paths of what looks like EEG."""
    expected = set()
    for folders, name, ending in entries:
        path = root.joinpath(*folders, name + ending)
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if os.path.lexists(path) or any(part.suffix in (".mff", ".ds") for part in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        (LOOKS_LIKE_EEG | OTHER)[ending](path)
        if ending in LOOKS_LIKE_EEG and not (
            hidden and not ending.lower().endswith((".edf", ".bdf", ".set", ".fif"))
        ):
            expected.add(path.relative_to(root).as_posix())
    return expected


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(ENTRIES, min_size=1, max_size=12), bids=st.booleans())
def test_every_file_that_looks_like_eeg_is_found_or_named(
    entries: list[tuple[list[str], str, str]], bids: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("tree")
    expected = plant(root, entries)
    if bids:
        (root / "dataset_description.json").write_text("{}")
    found, problem = None, ""
    with contextlib.suppress(DataError):
        found = find_recordings(root, ALONE)
    if found is None:
        with pytest.raises(DataError) as error:
            find_recordings(root, ALONE)
        problem = str(error.value)
        assert bids or not walk(root).recordings()
        named = [name for name in expected if name in problem or f"{name.split('/')[0]}" in problem]
        assert not expected or named or " more: " in problem, problem
        return
    claimed = {path for source in found.sources for path in (source.path, *source.files, *source.claims)}
    named = {left.path for left in found.left_out}
    for name in expected:
        assert root / name in claimed or name in named, name
    assert all(left.reason for left in found.left_out)


def test_screen_report_and_table_name_what_is_not_taken(tmp_path: Path) -> None:
    root = tmp_path / "in"
    edf(root / "S1" / "rest.edf")
    for number in range(5):
        (root / f"n{number}.cnt").write_bytes(b"x")
    (root / "S1" / "late.edf").symlink_to("../.git/annex/objects/late.edf")
    (root / "S2").symlink_to(tmp_path / "archive")
    edf(tmp_path / "archive" / "rest.edf", 1)
    (root / "again").symlink_to(root / "S1")
    (root / "up").symlink_to(tmp_path)
    (root / "notes.txt").write_text("nothing")
    arguments = ["prepare", str(root), "--out", str(tmp_path / "out"), "--jobs", "1"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    store = RecordingStore(tmp_path / "out")
    assert [info.id for info in store.recordings] == ["S1/rest", "S2/rest"]
    assert (
        "not taken   5: n0.cnt, n1.cnt, n2.cnt and 2 more: .cnt (Neuroscan or ANT) is not read" in done.output
    )
    report = json.loads((tmp_path / "out" / "prepare_report.json").read_text())["left_out"]
    reasons = {left["path"]: left["reason"] for left in report["files"]}
    assert report["count"] == len(reasons) == 8
    assert "leads nowhere; fetch the content (datalad get" in reasons["S1/late.edf"]
    assert reasons["again"] == "a link to a folder that is read already; remove it"
    assert reasons["up"] == "a link to a folder that holds this one; remove it"
    rows = {row["recording"]: row for row in read_quality(store.storage) if row["status"] == "left out"}
    assert {name: row["reason"] for name, row in rows.items()} == reasons
    assert "S1/late.edf" in (tmp_path / "out" / "quality.csv").read_text()


def test_a_folder_with_nothing_to_read_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.cnt").write_bytes(b"x")
    (tmp_path / "b.edf.gz").write_bytes(gzip.compress(EDF))
    with pytest.raises(DataError, match=r"no EEG files .*\(there is 1: a\.cnt: \.cnt \(Neuroscan or ANT\)"):
        prepare(tmp_path, tmp_path.parent / "out", ALONE)


def test_summaries_give_counts_and_first_names(tmp_path: Path) -> None:
    for name in ("a.cnt", "b.cnt"):
        (tmp_path / name).write_bytes(b"x")
    assert summary(walk(tmp_path).unclaimed((), ""))[0].startswith(
        "2: a.cnt, b.cnt: .cnt (Neuroscan or ANT) is not read"
    )


@pytest.mark.parametrize(("others", "recipe"), [(1, "eegmmidb"), (3, "folder")])
def test_names_of_a_few_files_do_not_choose_a_recipe(others: int, recipe: str, tmp_path: Path) -> None:
    for run in (1, 2):
        edf(tmp_path / f"S001R0{run}.edf", run)
    for number in range(others):
        edf(tmp_path / f"mine{number}.edf", 10 + number)
    found = find_recordings(tmp_path, ALONE)
    assert found.recipe.name == recipe
    if recipe == "eegmmidb":
        assert [left.path for left in found.left_out] == ["mine0.edf"]
        assert "--recipe folder takes all" in found.left_out[0].reason
    else:
        assert len(found.sources) == 5
        assert "--recipe eegmmidb takes the first alone" in found.messages[0]


def raw(seed: int = 0, seconds: float = 20.0, rate: float = 128.0) -> mne.io.RawArray:
    x = eeg(4, round(seconds * rate), rate, seed) * 1e-6
    return mne.io.RawArray(x, mne.create_info(NAMES, rate, "eeg"), verbose="error")


@pytest.mark.parametrize("naming", ["bids", "neuromag"])
def test_a_split_fif_is_one_recording(naming: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    whole = raw(3, 600.0, 256.0)
    whole.save(tmp_path / "in" / "night_raw.fif", split_size="2MB", split_naming=naming, verbose="error")
    parts = sorted((tmp_path / "in").iterdir())
    assert len(parts) > 1
    result = prepare(tmp_path / "in", tmp_path / "out", ALONE)
    assert result.counts == {"prepared": 1}
    assert result.left_out == ()
    (info,) = RecordingStore(tmp_path / "out").recordings
    assert info.subject == "night_raw"
    assert info.duration_s == pytest.approx(600, abs=0.01)
    first = "night_raw.fif" if naming == "neuromag" else "night_split-01_raw.fif"
    (tmp_path / "in" / first).unlink()
    reasons = [source.problem for source in find_recordings(tmp_path / "in", ALONE).sources]
    assert reasons
    assert "a later part of a split recording, without the part before it" in str(reasons[0])


def test_a_split_fif_without_its_second_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    raw(3, 400.0, 256.0).save(tmp_path / "in" / "n_raw.fif", split_size="2MB", verbose="error")
    (tmp_path / "in" / "n_raw-1.fif").unlink()
    with pytest.raises(DataError, match=r"n_raw\.fif: is split and its next part \S*n_raw-1\.fif is missing"):
        prepare(tmp_path / "in" / "n_raw.fif", tmp_path / "out", ALONE)


def test_a_dash_and_a_number_make_no_part(tmp_path: Path) -> None:
    for seed, name in enumerate(("S1_raw.fif", "S1_raw-2.fif")):
        raw(seed).save(tmp_path / name, verbose="error")
    found = find_recordings(tmp_path, ALONE).sources
    assert [source.recording_id for source in found] == ["S1_raw", "S1_raw-2"]
    assert all(source.problem is None and not source.files for source in found)


def test_what_went_away_is_told_and_removed_on_request(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    for number in range(4):
        edf(root / f"S{number}" / "rest.edf", number)
    prepare(root, out, ALONE)
    shutil.rmtree(root / "S2")
    (root / "S1" / "rest.edf").rename(root / "S1" / "again.edf")
    (root / "S3" / "rest.edf").unlink()
    (root / "S3" / "rest.edf").symlink_to("../.git/annex/x.edf")  # there, but not fetched
    result = prepare(root, out, ALONE)
    (gone,) = [message for message in result.messages if "the store keeps" in message]
    assert "the store keeps 2 recordings that the source does not have: S1/rest, S2/rest" in gone
    (twice,) = [message for message in result.messages if "the same samples" in message]
    assert twice == "the same samples under 2 names: S1/again, S1/rest; keep one of them"
    result = prepare(root, out, PrepareConfig(jobs=1, remove_gone=True))
    assert result.counts == {"removed": 2, "unchanged": 2}
    assert [info.id for info in RecordingStore(out).recordings] == ["S0/rest", "S1/again", "S3/rest"]
    assert not list((out / "recordings").glob("S2*"))
    rows = read_quality(RecordingStore(out).storage)
    stored = [row["recording"] for row in rows if row["status"] == "in store"]
    assert stored == ["S0/rest", "S1/again", "S3/rest"]


def test_the_same_data_of_two_people_is_told(tmp_path: Path) -> None:
    edf(tmp_path / "in" / "anna" / "one.edf", 1)
    shutil.copy(edf(tmp_path / "in" / "bert" / "one.edf", 1), tmp_path / "in" / "bert" / "two.edf")
    edf(tmp_path / "in" / "Anna" / "three.edf", 2)
    messages = prepare(tmp_path / "in", tmp_path / "out", ALONE).messages
    assert any(
        "under 3 names of different subjects (anna, bert): anna/one, bert/one, bert/two" in m
        for m in messages
    )
    assert any("differ in case or spaces only: Anna and anna" in m for m in messages)


def test_a_folder_that_is_no_store_is_not_filled(tmp_path: Path) -> None:
    edf(tmp_path / "in" / "a.edf")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match=r"home: is no store and not empty \(it has thesis\.tex\)"):
        prepare(tmp_path / "in", tmp_path / "home", ALONE)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.tex"]


def test_names_that_are_no_utf8_are_shown_and_kept(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    content = edf(tmp_path / "plain.edf").read_bytes()
    with open(os.fsencode(tmp_path / "in") + b"/M\xfcller.edf", "wb") as file:  # noqa: PTH123 (bytes)
        file.write(content)
    result = prepare(tmp_path / "in", tmp_path / "out", ALONE)
    (outcome,) = result.outcomes
    assert (outcome.status, outcome.recording, outcome.subject) == ("prepared", r"M\xfcller", r"M\xfcller")
    assert RecordingStore(tmp_path / "out")[r"M\xfcller"].source == r"M\xfcller.edf"
    assert prepare(tmp_path / "in", tmp_path / "out", ALONE).counts == {"unchanged": 1}
    assert np.isfinite(RecordingStore(tmp_path / "out").read(r"M\xfcller")).all()


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "git lfs pull"),
        (b"/annex/objects/SHA256E-s1--a.edf\n", "datalad get"),
        (b"../../.git/annex/objects/0a/1b/SHA256E-s1/SHA256E-s1.edf", "git annex get"),
    ],
)
def test_pointers_are_named_as_such(content: bytes, remedy: str, tmp_path: Path) -> None:
    edf(tmp_path / "in" / "a.edf")
    for suffix in ("edf", "set", "fif", "vhdr"):
        (tmp_path / "in" / f"late.{suffix}").write_bytes(content)
    skipped = [
        o.reason for o in prepare(tmp_path / "in", tmp_path / "out", ALONE).outcomes if o.status == "skipped"
    ]
    assert any(remedy in reason and "pointer" in reason for reason in skipped)
    assert all("damaged" not in reason for reason in skipped)
