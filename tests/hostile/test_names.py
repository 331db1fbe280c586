"""Names and references from files: they stay inside their folder and are text wherever they are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eegm2.data.files.readers import ReadingWarning, read_raw
from eegm2.data.store.facts import file_stem
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore
from eegm2.errors import DataError
from tests.data.samples import write_store
from tests.hostile.seeds import signal_uv, write_brainvision, write_edf, write_set

NAMES = [
    "../../outside", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:\\x", "nul\0byte", "new\nline", "~root",
    "-rf", "x" * 400, "µ Ä 漢字", "<script>alert(1)</script>", "%2e%2e%2f", "con", "a\u202eb",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_of_any_name_stays_in_the_store(name: str, tmp_path: Path) -> None:
    url = tmp_path / "inner" / "store"
    store = write_store(url, 1)
    before = {path for path in tmp_path.rglob("*") if url not in path.parents}
    from eegm2.data.store.recording_store import StoreWriter

    writer = StoreWriter(url, store.preprocessing, store.ch_names, dtype="float32")
    array = np.ones((len(store.ch_names), 64), np.float32)
    writer.write(RecordingInfo(name, "someone", "", 0, 128.0, store.ch_names), array)
    assert {path for path in tmp_path.rglob("*") if url not in path.parents} == before
    again = RecordingStore(url)
    assert again.damaged == {}
    assert again.read(name).shape == (len(store.ch_names), 64)
    writer.remove(name)
    assert [info.id for info in RecordingStore(url).recordings] == ["r0"]


def test_names_have_different_files() -> None:
    stems = [file_stem(name) for name in NAMES]
    assert len(set(stems)) == len(NAMES)
    assert all(Path(stem).name == stem and len(stem) < 250 for stem in stems)


@pytest.mark.parametrize("key", ["DataFile", "MarkerFile"])
@pytest.mark.parametrize("target", ["../outside/one", "/dev/zero", "..\\outside\\one"])
def test_brainvision_headers_may_not_point_elsewhere(key: str, target: str, tmp_path: Path) -> None:
    outside = write_brainvision(_made(tmp_path / "outside") / "one.vhdr", signal_uv())
    header = outside.copy_to(tmp_path / "inside").main
    lines = header.read_text().splitlines()
    suffix = {"DataFile": ".eeg", "MarkerFile": ".vmrk"}[key] if "one" in target else ""
    lines = [f"{key}={target}{suffix}" if line.startswith(key + "=") else line for line in lines]
    header.write_text("\n".join(lines))
    with pytest.raises(DataError, match=f"names .* as its {key}, which is not beside it"):
        read_raw(header)


@pytest.mark.parametrize("absolute", [False, True])
def test_eeglab_sets_may_not_point_elsewhere(absolute: bool, tmp_path: Path) -> None:
    from scipy.io import loadmat, savemat

    write_set(_made(tmp_path / "outside") / "one.set", signal_uv(), beside=True)
    content = loadmat(tmp_path / "outside" / "one.set", simplify_cells=True)
    fdt = str(tmp_path / "outside" / "one.fdt") if absolute else "../outside/one.fdt"
    content["EEG"]["data"] = content["EEG"]["datfile"] = fdt
    path = _made(tmp_path / "inside") / "one.set"
    savemat(path, {"EEG": content["EEG"]}, appendmat=False)
    with pytest.raises(DataError, match="which is not beside it"):
        read_raw(path)


def test_links_to_recordings_are_followed(tmp_path: Path) -> None:
    """Data sets under version control are trees of links: the folder of the link counts, not its target."""
    seed = write_brainvision(_made(tmp_path / "objects") / "one.vhdr", signal_uv())
    for path in seed.files:
        (_made(tmp_path / "tree") / path.name).symlink_to(path)
    assert read_raw(tmp_path / "tree" / "one.vhdr").n_times == 1024


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_annotations_in_latin_1_are_read_and_said(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "one.edf", signal_uv()).main
    data = path.read_bytes()
    assert data.count(b"eyes open") == 1
    path.write_bytes(data.replace(b"eyes open", "geöffnet!".encode("latin-1")))
    with pytest.warns(ReadingWarning, match="annotations are not UTF-8, read as Latin-1"):
        raw = read_raw(path)
    assert list(raw.annotations.description) == ["geöffnet!", "eyes closed"]
    path.write_bytes(data.replace(b"eyes open", b"eye\x96\xff\x81pen"))
    with pytest.raises(DataError, match="neither UTF-8 nor Latin-1"):
        read_raw(path)
