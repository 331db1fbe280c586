"""Names and montages: every spelling met in the archives, and nothing silently missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eegm2.data.channels import (
    MONTAGES,
    Montage,
    canonical,
    eeg_channels,
    is_known,
    load_montage,
    looks_like_eeg,
)
from eegm2.data.positions import positions
from eegm2.data.signal.mixing import mixing_matrix
from eegm2.errors import ConfigError, DataError

NAMES = "FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T3 T4 T5 T6 A1 A2 FZ CZ PZ"
TUH = [f"EEG {name}-REF" for name in NAMES.split()]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("EEG FP1-REF", "Fp1"),
        ("EEG T3-LE", "T7"),
        ("t4", "T8"),
        ("T5", "P7"),
        ("EEG T6-AR", "P8"),
        ("Fc5.", "FC5"),
        ("Cz..", "Cz"),
        ("T10.", "T10"),
        ("FPz", "Fpz"),
        ("EEG AF3", "AF3"),
        ("eeg-O1", "O1"),
        ("EEG Fpz-Cz", "Fpz-Cz"),
        ("FP1-F7", "Fp1-F7"),
        ("F7-T3", "F7-T7"),
        ("EEG 26-REF", "26"),
        ("C3-A2", "C3-A2"),
    ],
)
def test_canonical(written: str, name: str) -> None:
    assert canonical(written) == name
    assert canonical(canonical(written)) == name


def test_what_may_be_eeg() -> None:
    eeg = ["Fp1", "EEG 26-REF", "A7", "F7-T3"]
    other = [
        "EOG1",
        "EEG EKG1-REF",
        "EMG-REF",
        "Status",
        "PHOTIC-REF",
        "DC1",
        "EEG LOC-REF",
        "Trigger",
        "BATTERY",
    ]
    assert [looks_like_eeg(canonical(name)) for name in eeg + other] == [True] * 4 + [False] * 9
    assert is_known("EEG T3-REF")
    assert not is_known("EEG 26-REF")
    assert eeg_channels(["Fc5.", "EOG1", "T3"]) == ("FC5", "T7")


def test_montages_are_the_papers() -> None:
    pairs = (
        "FP1-F7 F7-T3 T3-T5 T5-O1 FP2-F8 F8-T4 T4-T6 T6-O2 FP1-F3 F3-C3 C3-P3 P3-O1 FP2-F4 F4-C4 C4-P4 P4-O2"
    )
    assert MONTAGES["tcp16"] == tuple(canonical(pair) for pair in pairs.split())
    assert " ".join(MONTAGES["epoc14"]) == "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4"
    assert len(set(MONTAGES["1020_19"])) == 19


def test_bipolar_from_tuh_names() -> None:
    matrix, interpolated = mixing_matrix(TUH, load_montage("tcp16"), where="x.edf")
    x = np.random.default_rng(0).normal(size=(len(TUH), 50))
    at = {name: x[row] for row, name in enumerate(TUH)}
    expected = at["EEG T3-REF"] - at["EEG T5-REF"]
    np.testing.assert_allclose((matrix @ x)[2], expected, rtol=1e-12)
    assert not np.allclose((matrix @ x)[2], 1.01 * expected)
    assert interpolated == ()


def test_a_pair_that_the_file_has_is_taken_as_it_is() -> None:
    matrix, _ = mixing_matrix(["FP1-F7", "F7-T3"], Montage("", ("F7-T7", "Fp1-F7")), where="x.edf")
    np.testing.assert_array_equal(matrix, [[0, 1], [1, 0]])


def test_all_missing_channels_are_named() -> None:
    names = [name for name in TUH if name not in ("EEG T3-REF", "EEG O2-REF", "EEG FP1-REF")]
    with pytest.raises(DataError, match=r"x\.edf: missing 3 of 16 channels: Fp1 T7 O2 "):
        mixing_matrix(names, load_montage("tcp16"), where="x.edf")


def test_interpolation_only_where_asked_and_of_smooth_fields() -> None:
    names = list(MONTAGES["1020_19"])
    field = positions(names) @ [1.0, 2.0, -0.5]  # a plane through the head is smooth
    have = [name for name in names if name not in ("C3", "Pz")]
    matrix, interpolated = mixing_matrix(have, load_montage("1020_19"), where="x", interpolate=True)
    assert interpolated == ("C3", "Pz")
    found = matrix @ field[[names.index(name) for name in have]]
    np.testing.assert_allclose(found, field, atol=0.15 * np.ptp(field))
    with pytest.raises(DataError, match="cannot interpolate X99: no known position for X99"):
        mixing_matrix(have, Montage("", ("X99",)), where="x", interpolate=True)


@pytest.mark.parametrize("names", [["T3", "T7", "Cz"], ["T7-0", "T7-1", "Cz"], ["T7", "EEG t7-REF", "Cz"]])
def test_duplicates_are_refused_if_wanted(names: list[str]) -> None:
    with pytest.raises(DataError, match=rf"duplicate channels: T7 as '{names[0]}', '{names[1]}'"):
        mixing_matrix(names, Montage("", ("T7",)), where="x", repeated=("T7",))
    matrix, _ = mixing_matrix(names, Montage("", ("Cz",)), where="x")
    np.testing.assert_array_equal(matrix, [[0, 0, 1]])


def test_average_reference() -> None:
    matrix, _ = mixing_matrix(
        ["Cz", "Pz", "Oz"], Montage("", ("Cz", "Pz")), where="x", average_reference=True
    )
    np.testing.assert_allclose(matrix, [[0.5, -0.5, 0], [-0.5, 0.5, 0]])
    with pytest.raises(ConfigError, match="average does not fit differences such as Cz-Pz"):
        mixing_matrix(["Cz", "Pz"], Montage("", ("Cz-Pz",)), where="x", average_reference=True)


def test_own_montage(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('channels = ["fz", "T3-Cz"]\n[aliases]\n"ch 1" = "Fz"\n')
    montage = load_montage(str(file))
    assert montage == Montage("mine", ("Fz", "T7-Cz"), {"ch 1": "Fz"})
    matrix, _ = mixing_matrix(["ch 1", "T7", "Cz"], montage, where="x")
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 1, -1]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("chanels = ['Fz']", "unknown key 'chanels'; known keys: name, channels, aliases"),
        ("channels = 'Fz'", "channels: got 'Fz', expected a list of names"),
        ("channels = ['T3', 'T7']", "channels wanted more than once: T7"),
        ("channels = ['Fz']\naliases = 3", "aliases: got 3, expected a table"),
    ],
)
def test_a_wrong_montage_file_is_refused(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_montage(str(file))


def test_unknown_montage() -> None:
    with pytest.raises(ConfigError, match="montage: got 'tcp17', expected one of tcp16, epoc14, 1020_19"):
        load_montage("tcp17")


def test_positions() -> None:
    found = positions(["T3", "T7", "C3", "C4", "C3-C4", "X1"])
    np.testing.assert_array_equal(found[0], found[1])
    assert found[2][0] < -0.05 < 0.05 < found[3][0]  # left is negative x
    np.testing.assert_allclose(found[4], (found[2] + found[3]) / 2)
    assert np.isnan(found[5]).all()
