"""Files of every kind, whole and broken: read, or refused in one line that names file, finding and remedy."""

from __future__ import annotations

import warnings
from pathlib import Path

import mne
import numpy as np
import pytest

from eegm2.data.files.readers import annotation_labels, read_raw
from eegm2.data.labels import LabelSpan
from eegm2.errors import DataError
from tests.data.samples import eeg, write_edf

X = eeg(3, 640)
NAMES = ["EEG Fz", "Cz", "Pz"]


def one_line(error: pytest.ExceptionInfo[DataError]) -> None:
    assert "\n" not in str(error.value)


def raw_array(names: list[str] | None = None) -> mne.io.RawArray:
    raw = mne.io.RawArray(X * 1e-6, mne.create_info(names or NAMES, 128.0, "eeg"), verbose="error")
    return raw.set_annotations(mne.Annotations([1.0, 2.5], [0.5, 0.0], ["open", "blink"]))


def write(path: Path) -> Path:
    """Write the same recording in the format of the suffix."""
    notes = [(1.0, 0.5, "open"), (2.5, 0.0, "blink")]
    if path.suffix in (".edf", ".bdf"):
        return write_edf(path, X, NAMES, annotations=notes, bdf=path.suffix == ".bdf")
    if path.suffix == ".fif":
        raw_array().save(path, verbose="error")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw_array().export(
                path, fmt="brainvision" if path.suffix == ".vhdr" else "eeglab", verbose="error"
            )
    return path


@pytest.mark.parametrize(
    ("suffix", "quantum_uv"),
    [(".edf", 2e-3), (".bdf", 1e-5), ("_raw.fif", 1e-4), (".vhdr", 0.1), (".set", 1e-4)],
)
def test_every_format_gives_the_same_volts(suffix: str, quantum_uv: float, tmp_path: Path) -> None:
    if suffix == ".vhdr":
        pytest.importorskip("pybv", reason="writes BrainVision files")
    if suffix == ".set":
        pytest.importorskip("eeglabio", reason="writes EEGLAB files")
    raw = read_raw(write(tmp_path / f"a{suffix}"))
    assert raw.ch_names == NAMES
    assert raw.info["sfreq"] == 128.0
    np.testing.assert_allclose(raw.get_data() * 1e6, X, atol=quantum_uv)
    labels = [span for span in annotation_labels(raw) if "New Segment" not in span.label]
    assert [span.label.removeprefix("Comment/") for span in labels] == ["open", "blink"]
    np.testing.assert_allclose([span.onset_s for span in labels], [1.0, 2.5], atol=0.01)


def test_annotations_count_from_the_first_sample(tmp_path: Path) -> None:
    raw = raw_array().crop(0.5)
    raw.set_meas_date(0).save(tmp_path / "a_raw.fif", verbose="error")
    assert annotation_labels(read_raw(tmp_path / "a_raw.fif"))[0] == LabelSpan(0.5, 0.5, "open")


def test_missing_unknown_and_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.edf: no such file; check the name"):
        read_raw(tmp_path / "nothing.edf")
    (tmp_path / "a.xyz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.xyz: unknown kind of file '\.xyz'; known: \.bdf"):
        read_raw(tmp_path / "a.xyz")
    (tmp_path / "a.edf").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.edf: damaged .*copy or export the file again"):
        read_raw(tmp_path / "a.edf")


@pytest.mark.parametrize("suffix", [".edf", ".bdf", ".gdf", ".vhdr", ".set", ".fif"])
@pytest.mark.parametrize("content", [b"\x80\x04garbage" * 200, b"0       " + b" " * 400, b"GIF89a"])
def test_junk_is_one_line(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"junk\.") as error:
        read_raw(path).get_data()
    one_line(error)


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_truncated(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size - 500])
    with pytest.raises(
        DataError, match=rf"truncated: {size - 500} bytes, the header promises {size}; copy"
    ) as error:
        read_raw(path)
    one_line(error)


def test_truncated_brainvision(tmp_path: Path) -> None:
    pytest.importorskip("pybv", reason="writes BrainVision files")
    path = write(tmp_path / "a.vhdr")
    data = path.with_suffix(".eeg")
    text = path.read_text()
    points = f"DataPoints={X.shape[1]}\n"
    path.write_text(text.replace("NumberOfChannels", points + "NumberOfChannels"))
    data.write_bytes(data.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"a\.eeg: truncated: \d+ bytes, the header promises \d+; copy"):
        read_raw(path)
    data.unlink()
    with pytest.raises(DataError, match=r"its data file a\.eeg is missing"):
        read_raw(path)


def test_differing_rates_of_eeg_channels(tmp_path: Path) -> None:
    rows = [X[0], X[1], X[2][::2]]
    path = write_edf(tmp_path / "a.edf", rows, NAMES, [128, 128, 64])  # type: ignore[arg-type]
    with pytest.raises(
        DataError, match=r"differing sampling rates \(64 Hz: Pz; 128 Hz: Fz Cz\); export them"
    ):
        read_raw(path)


def test_other_signals_at_another_rate_are_left_out_not_resampled(tmp_path: Path) -> None:
    rows = [X[0], X[1], np.repeat(X[2], 2)]
    path = write_edf(tmp_path / "a.edf", rows, ["Fz", "Cz", "Resp"], [128, 128, 256])  # type: ignore[arg-type]
    raw = read_raw(path)
    assert raw.ch_names == ["Fz", "Cz"]
    assert raw.info["sfreq"] == 128.0


def discontinuous(path: Path, gap_records: int) -> Path:
    """Mark a file as EDF+D and shift the time stamps of its later records by a gap."""
    write_edf(path, X, NAMES, annotations=[(1.0, 0.5, "open")])
    content = bytearray(path.read_bytes())
    content[192:197] = b"EDF+D"
    for record in (3, 4):
        stamp = f"+{record}\x14\x14".encode()
        at = content.index(stamp)
        content[at : at + len(stamp)] = f"+{record + gap_records}\x14\x14".encode()
    path.write_bytes(content)
    return path


def test_gaps_are_refused_and_a_contiguous_edf_d_is_read(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"EDF\+D with 1 gaps, the first from 3 s to 5 s; export each"
    ) as error:
        read_raw(discontinuous(tmp_path / "a.edf", 2))
    one_line(error)
    assert read_raw(discontinuous(tmp_path / "b.edf", 0)).n_times == 640


def test_annotations_only(tmp_path: Path) -> None:
    import edfio

    edfio.Edf([], annotations=[edfio.EdfAnnotation(0, 1, "x")]).write(tmp_path / "a.edf")
    with pytest.raises(DataError, match="has no EEG channels"):
        read_raw(tmp_path / "a.edf")
