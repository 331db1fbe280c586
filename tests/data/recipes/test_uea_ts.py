"""uea_ts: the text format, official parts, shifted dimensions, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eegm2.data.config import PrepareConfig, SplitConfig, WindowConfig
from eegm2.data.files.ts_text import read_ts
from eegm2.data.preparing.prepare import prepare
from eegm2.data.recipes import uea_ts
from eegm2.data.recipes.base import all_recipes, detect_recipe
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.splits import split_subjects
from eegm2.errors import DataError

HEADER = "#about\n@problemName Trial\n@timeStamps false\n@missing false\n@univariate false\n"


def line(values: np.ndarray, target: str) -> str:
    """Return one case as text."""
    return ":".join(",".join(f"{v:.2f}" for v in row) for row in values) + f":{target}"


def write(
    path: Path, cases: list[str], *, dims: int = 2, target: str = "@classLabel true left right"
) -> None:
    """Write a file of cases."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEADER}@dimensions {dims}\n@equalLength true\n{target}\n@data\n" + "\n".join(cases))


def trials(n: int, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Return trials in microvolts that two decimals hold."""
    return np.random.default_rng(seed).integers(-4000, 4000, (n, *shape)) / 100


def problem(
    root: Path, name: str = "Trial", shape: tuple[int, int] = (2, 40), toml: str = "sfreq_hz = 100\n"
) -> tuple[np.ndarray, np.ndarray]:
    """Write a whole problem of 6 and 4 trials and return their values."""
    train, test = trials(6, shape, 0), trials(4, shape, 1)
    for part, values in (("TRAIN", train), ("TEST", test)):
        cases = [line(v, ("left", "right")[i % 2]) for i, v in enumerate(values)]
        write(root / f"{name}_{part}.ts", cases, dims=shape[0])
    if toml:
        (root / f"{name}.toml").write_text(toml)
    return train, test


def shift(channels: np.ndarray) -> np.ndarray:
    """Return channels (n, n_chans, n_times) as the archive's conversion lays them out."""
    n, n_chans, n_times = channels.shape
    end_to_end = channels.reshape(n, -1)
    return np.stack([end_to_end[:, k * n_chans : k * n_chans + n_times] for k in range(n_chans)], axis=1)


def test_a_problem_becomes_trials_with_labels_and_official_parts(tmp_path: Path) -> None:
    problem(tmp_path)
    found = uea_ts.discover(tmp_path)
    assert [r.split for r in found] == ["train"] * 6 + ["test"] * 4
    assert [r.labels[0].label for r in found[:3]] == ["left", "right", "left"]
    assert {r.subject for r in found} == {"Trial"}
    assert found[6].recording_id == "Trial_test-0000"
    assert detect_recipe(tmp_path).name == "uea_ts"


def test_the_store_has_the_values_unchanged_at_their_own_rate(tmp_path: Path) -> None:
    train, test = problem(tmp_path / "raw")
    result = prepare(tmp_path / "raw", tmp_path / "store", PrepareConfig(jobs=1))
    assert result.recipe == "uea_ts"
    assert result.counts == {"prepared": 10}
    store = RecordingStore(tmp_path / "store")
    assert (store.sfreq_hz, store.ch_names) == (100.0, ("dim1", "dim2"))
    for part, values in (("train", train), ("test", test)):
        for i, trial in enumerate(values):
            read = store.read(f"Trial_{part}-{i:04d}", 0, 40)
            np.testing.assert_allclose(read, trial, atol=1e-5)
    windows = WindowDataset(store, WindowConfig(window_s=0.4, scaling="none"), labelled=True)
    assert len(windows) == 10, "one window per trial"
    assert windows.classes == ("left", "right")
    manifest = split_subjects(store, SplitConfig(by="recording", val=0.3))
    assert manifest.test == tuple(f"Trial_test-{i:04d}" for i in range(4)), "the official test part is kept"
    assert all(name.startswith("Trial_train") for name in (*manifest.train, *manifest.val))
    with pytest.raises(DataError, match=r"own split divides these subjects: Trial"):
        split_subjects(store, SplitConfig(by="subject"))
    again = prepare(tmp_path / "raw", tmp_path / "store", PrepareConfig(jobs=1))
    assert again.counts == {"unchanged": 10}


def test_known_problems_have_rates_and_names(tmp_path: Path) -> None:
    problem(tmp_path, "SelfRegulationSCP2", (7, 20), toml="")
    raw = uea_ts.discover(tmp_path)[0].load()
    assert raw.info["sfreq"] == 256
    assert raw.ch_names == ["A1-Cz", "A2-Cz", "C3f", "C3p", "vEOG", "C4f", "C4p"]
    assert raw.get_data().std() == pytest.approx(trials(6, (7, 20), 0)[0].std() * 1e-6, rel=1e-6)
    sizes = {name: len(about.ch_names) for name, about in uea_ts.KNOWN.items()}
    assert sizes == {"SelfRegulationSCP1": 6, "SelfRegulationSCP2": 7, "FingerMovements": 28}


def test_another_problem_of_a_known_name_is_refused(tmp_path: Path) -> None:
    problem(tmp_path, "SelfRegulationSCP1", (4, 20), toml="")
    with pytest.raises(DataError, match=r"4 dimensions, but 6 channels are declared"):
        uea_ts.discover(tmp_path)[0].load()


def test_a_sidecar_gives_names(tmp_path: Path) -> None:
    problem(tmp_path, toml='sfreq_hz = 64.5\nch_names = ["C3", "C4"]\n')
    raw = uea_ts.discover(tmp_path)[0].load()
    assert (raw.ch_names, raw.info["sfreq"]) == (["C3", "C4"], 64.5)
    assert uea_ts.own_preprocessing(tmp_path) == {"sfreq_hz": 64.5}


def test_shifted_dimensions_are_noticed_and_put_back(tmp_path: Path) -> None:
    channels = {"TRAIN": trials(6, (3, 40), 5), "TEST": trials(4, (3, 40), 6)}
    for part, values in channels.items():
        cases = [line(v, "left") for v in shift(values)]
        write(tmp_path / f"Trial_{part}.ts", cases, dims=3)
    (tmp_path / "Trial.toml").write_text('sfreq_hz = 100\nch_names = ["F3", "Fz", "F4"]\n')
    kept = uea_ts.discover(tmp_path)[7]
    assert kept.attributes["dimensions"] == "shifted copies"
    assert kept.load().ch_names == ["dim1", "dim2", "dim3"], "they are not the channels of those names"
    back = uea_ts.discover(tmp_path, channels=True)[7]
    raw = back.load()
    assert raw.ch_names == ["F3"], "46 of 120 samples hold one whole channel"
    np.testing.assert_allclose(raw.get_data() * 1e6, channels["TEST"][1, :1], atol=1e-9)
    assert all_recipes()["uea_ts_channels"].discover(tmp_path)[7].attributes["dimensions"] == "channels"


def test_as_many_channels_come_back_as_are_whole() -> None:
    channels = trials(1, (28, 50), 7)
    shifted = shift(channels)[0]
    assert uea_ts.is_shifted(shifted)
    np.testing.assert_array_equal(uea_ts.whole_channels(shifted), channels[0, :16])
    shifted[3, 10] += 0.01
    assert not uea_ts.is_shifted(shifted)
    assert not uea_ts.is_shifted(trials(1, (1, 50), 7)[0])


def test_true_channels_are_not_put_back(tmp_path: Path) -> None:
    problem(tmp_path)
    with pytest.raises(DataError, match=r"not shifted copies of each other; use --recipe uea_ts"):
        uea_ts.discover(tmp_path, channels=True)


def test_missing_values_and_unequal_trials(tmp_path: Path) -> None:
    problem(tmp_path)
    cases = ["1,2,?,4:5,NaN,7,8:left", "1,2,3:4,5,6:right", "1,2,3:4,5:left", "1,2,3:left", "1,x:2,3:left"]
    write(tmp_path / "Trial_TEST.ts", [*cases, "1,2:3,4:middle"])
    found = uea_ts.discover(tmp_path)[6:]
    first = found[0].load().get_data()
    assert np.isnan(first[0, 2])
    assert np.isnan(first[1, 1])
    assert found[1].load().n_times == 3
    reasons = [r.problem for r in found[2:]]
    for reason, text in zip(
        reasons,
        [
            "dimensions of 2 to 3 values",
            "1 dimensions, the header says 2",
            "could not convert string to float: 'x'",
            "class 'middle' is none of the header's (left, right)",
        ],
    ):
        assert text in reason
        assert "Trial_TEST.ts: line " in reason
    result = prepare(tmp_path, tmp_path / "store", PrepareConfig(jobs=1))
    assert result.counts["skipped"] >= 5, "a missing value is refused unless --nan interpolate"


def test_values_instead_of_classes(tmp_path: Path) -> None:
    for part in ("TRAIN", "TEST"):
        cases = [line(v, str(i / 4)) for i, v in enumerate(trials(3, (2, 40), 0))]
        write(tmp_path / f"Trial_{part}.ts", cases, target="@targetLabel true")
    (tmp_path / "Trial.toml").write_text("sfreq_hz = 100\n")
    found = uea_ts.discover(tmp_path)
    assert found[1].attributes["target"] == "0.25"
    assert found[1].labels == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"Trial_TEST\.ts: no @data line"),
        ("@classLabel true a\n@data\n", r"no case after @data"),
        ("@timeStamps true\n@classLabel true a\n@data\n1:a", r"@timeStamps is true"),
        ("@classLabel false\n@data\n1,2", r"neither @classLabel nor @targetLabel is true"),
        ("1,2:a\n@data\n", r"line 1: got '1,2:a', expected an @-line"),
    ],
)
def test_files_that_are_not_of_the_format(tmp_path: Path, text: str, message: str) -> None:
    problem(tmp_path)
    (tmp_path / "Trial_TEST.ts").write_text(text)
    with pytest.raises(DataError, match=message):
        uea_ts.discover(tmp_path)


def test_incomplete_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0 files \*_TRAIN\.ts \(none\), expected one"):
        uea_ts.discover(tmp_path)
    problem(tmp_path / "a")
    assert len(uea_ts.discover(tmp_path)) == 10, "the only problem one level below"
    problem(tmp_path / "b", "Other")
    with pytest.raises(DataError, match=r"2 files \*_TRAIN\.ts \(Trial, Other\)"):
        uea_ts.discover(tmp_path)
    (tmp_path / "a" / "Trial_TEST.ts").unlink()
    with pytest.raises(DataError, match=r"Trial_TEST\.ts is not beside it"):
        uea_ts.discover(tmp_path / "a")
    assert not uea_ts.matches(tmp_path / "a")


def test_an_unknown_rate_asks_for_the_sidecar(tmp_path: Path) -> None:
    problem(tmp_path, toml="")
    with pytest.raises(
        DataError, match=r"sampling rate of Trial is not in its \.ts files; write Trial\.toml"
    ):
        uea_ts.discover(tmp_path)


def test_bytes_that_are_not_utf8_do_not_matter_in_comments(tmp_path: Path) -> None:
    path = tmp_path / "x.ts"
    path.write_bytes(b"#\xb5Volt\n@classLabel true a b\n@data\n1,2,3:4,5,6:b\n\n")
    file = read_ts(path)
    assert len(file.cases) == 1
    np.testing.assert_array_equal(file.cases[0].values, [[1, 2, 3], [4, 5, 6]])
    assert file.cases[0].target == "b"
