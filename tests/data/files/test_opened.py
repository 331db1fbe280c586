"""Only files of the recording's folder are opened, whatever a reader does, and they are remembered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eegm2.data.files.opened import MISSING, depends_on, stat_of, watch
from eegm2.errors import DataError


def made(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_of_the_folder_are_remembered(tmp_path: Path) -> None:
    inside, below = made(tmp_path / "data" / "a"), made(tmp_path / "data" / "sub" / "b")
    np.save(tmp_path / "data" / "c.npy", np.ones(3))
    with watch(tmp_path / "data") as opened:
        inside.read_text()
        below.read_bytes()
        np.load(tmp_path / "data" / "c.npy", mmap_mode="r", allow_pickle=False)
        depends_on(tmp_path / "data" / "missing")
    assert opened.files == {
        str(inside): stat_of(inside),
        str(below): stat_of(below),
        str(tmp_path / "data" / "c.npy"): stat_of(tmp_path / "data" / "c.npy"),
        str(tmp_path / "data" / "missing"): MISSING,
    }
    inside.read_text()  # nobody watches


@pytest.mark.parametrize("caught", [False, True])
def test_a_file_elsewhere_is_refused_even_where_the_reader_goes_on(caught: bool, tmp_path: Path) -> None:
    secret = made(tmp_path / "elsewhere" / "secret")
    (tmp_path / "data").mkdir()
    seen = []

    def read() -> None:
        try:
            seen.append(secret.read_text())
        except DataError:
            if not caught:
                raise

    with pytest.raises(DataError, match="secret: "), watch(tmp_path / "data"):
        read()
    assert seen == []


def test_a_name_that_only_begins_like_the_folder_is_elsewhere(tmp_path: Path) -> None:
    other = made(tmp_path / "data2" / "a")
    with pytest.raises(DataError, match="data2"), watch(tmp_path / "data"):
        other.read_text()


def test_links_of_the_folder_are_followed_and_writing_is_free(tmp_path: Path) -> None:
    target = made(tmp_path / "objects" / "a")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(target)
    with watch(tmp_path / "data") as opened:
        (tmp_path / "data" / "a").read_text()
        made(tmp_path / "out")
    assert list(opened.files) == [str(tmp_path / "data" / "a")]
