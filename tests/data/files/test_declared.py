"""What a file declares is what is read: times, counts, sizes, units and parts, or it is refused."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.data.files.brainvision import mne_reads_without_markers
from eegm2.data.files.readers import annotation_labels, read_raw
from eegm2.data.files.telling import ReadingWarning
from eegm2.data.files.units import biosig_microvolts_per, microvolts_per
from eegm2.errors import DataError
from tests.hostile import writers
from tests.hostile.seeds import signal_uv


def labels(path: Path) -> list[tuple[float, float, str]]:
    return [(span.onset_s, span.duration_s, span.label) for span in annotation_labels(read_raw(path))]


def saved(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


STAMPS = [float(r) for r in range(8)]


# Times


@pytest.mark.parametrize("first_sample", [0, 384, 100_000])
def test_labels_of_fif_count_from_its_first_sample(first_sample: int, tmp_path: Path) -> None:
    path = writers.fif(tmp_path / "m_raw.fif", first_sample=first_sample, marks=[(1.0, 2.0, "a")])
    assert labels(path) == [(1.0, 2.0, "a")]


@pytest.mark.parametrize(("event_hz", "onset_s"), [(128.0, 2.0), (256.0, 1.0), (64.0, 4.0), (0.0, 2.0)])
def test_events_of_gdf_are_on_the_clock_of_their_table(
    event_hz: float, onset_s: float, tmp_path: Path
) -> None:
    path = saved(tmp_path, "m.gdf", writers.gdf(events=[(257, 769, 64)], event_hz=event_hz))
    assert labels(path) == [(onset_s, 64 / (event_hz or 128.0), "769")]


def test_texts_of_edf_may_have_lines(tmp_path: Path) -> None:
    texts = b"+1\x152\x14eyes\nopen\x14\0+4\x152\x14eyes closed\x14again\x14\0"
    path = saved(tmp_path, "m.edf", writers.edf(stamps=STAMPS, texts=texts))
    assert labels(path) == [(1.0, 2.0, "eyes open"), (4.0, 2.0, "again"), (4.0, 2.0, "eyes closed")]


def test_texts_of_edf_count_from_the_first_record(tmp_path: Path) -> None:
    content = writers.edf(stamps=[r + 0.25 for r in STAMPS], texts=b"+2.25\x151\x14a\x14\0")
    assert labels(saved(tmp_path, "m.edf", content)) == [(2.0, 1.0, "a")]


def test_what_is_no_list_of_texts_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path, "m.edf", writers.edf(stamps=STAMPS, texts=b"1.0 open\0+2\x151\x14a\x14\0"))
    with pytest.warns(ReadingWarning, match="1 annotations are not written as the format has it"):
        assert labels(path) == [(2.0, 1.0, "a")]


def test_records_that_jump_in_time_are_refused_in_edf_c_too(tmp_path: Path) -> None:
    stamps = [r + (100 if r > 3 else 0) for r in STAMPS]
    with pytest.raises(DataError, match=r"EDF\+C with 1 gaps, the first from 4 s to 104 s"):
        read_raw(saved(tmp_path, "m.edf", writers.edf(stamps=stamps)))


@pytest.mark.parametrize("line", ["Mk 1=Stimulus,S1,9,1,0", "mk1=Stimulus,S1,9,1,0", "Mk1=Stimulus,S1,x,1,0"])
def test_markers_that_a_reader_would_pass_over_are_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"three\.vmrk: a marker is not written as the format has it"):
        read_raw(writers.brainvision(tmp_path, markers=line))


# Rows, counts and sizes


def test_bytes_behind_the_records_are_no_eeg(tmp_path: Path) -> None:
    whole = writers.edf()
    with pytest.raises(DataError, match="but its header counts 8 records, which are 14080 bytes"):
        read_raw(saved(tmp_path, "m.edf", whole + whole[3000:7001]))
    with pytest.raises(DataError, match="but its header counts 4 records"):
        read_raw(saved(tmp_path, "n.edf", writers.edf(n_records=4)))
    with pytest.warns(ReadingWarning, match="100 bytes behind the last record left out"):
        assert read_raw(saved(tmp_path, "o.edf", whole + bytes(100))).n_times == 1024


def test_a_file_of_another_kind_than_its_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its header is that of a \.edf file .*rename it to m\.edf"):
        read_raw(saved(tmp_path, "m.bdf", writers.edf()))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("NumberOfChannels=6", "NumberOfChannels=5", "NumberOfChannels is 5, and 6 channels are described"),
        ("NumberOfChannels=6", "NumberOfChannels=6\nDataPoints=512", "12288 bytes, the header promises 6144"),
        ("NumberOfChannels=6", "NumberOfChannels=6\nDataPoints=2048", "truncated: 12288 bytes"),
        ("NumberOfChannels=6", "NumberOfChannels=six", "NumberOfChannels is 'six', expected a whole number"),
        ("BinaryFormat=INT_16\n", "BinaryFormat=INT_16\n[Binary Infos]\n", "cannot be read"),
    ],
)
def test_brainvision_headers_that_contradict_their_data(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read_raw(writers.brainvision(tmp_path, changes=[(old, new)]))


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("field", ["nbchan", "pnts"])
def test_sets_that_contradict_their_samples(field: str, beside: bool, tmp_path: Path) -> None:
    wrong = {"nbchan": 7.0, "pnts": 512.0}[field]
    path = writers.eeglab(tmp_path / "m.set", beside=beside, **{field: wrong})
    with pytest.raises(DataError, match=rf"{wrong:g}|24576 bytes, m\.set promises 12288"):
        read_raw(path)


def test_a_set_whose_clock_contradicts_itself_is_said(tmp_path: Path) -> None:
    with pytest.warns(ReadingWarning, match=r"xmin and xmax say 100 s, 1024 samples at 128 Hz are"):
        read_raw(writers.eeglab(tmp_path / "m.set", xmax=100.0))


def test_differing_rates_within_gdf_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"differing sampling rates \(64 Hz: O2; 128 Hz: Fp1"):
        read_raw(saved(tmp_path, "m.gdf", writers.gdf(rates=[128] * 5 + [64])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (writers.gdf(n_records=16), "truncated: 14080 bytes, the header promises 26368"),
        (writers.gdf() + b"\x07junk" * 40, "header and 8 records are 14080, and what follows is no table"),
        (writers.gdf(events=[(1, 2, 3)])[:-4], "truncated: a table of 1 events"),
        (writers.gdf(events=[(1, 2, 3)], event_hz=float("nan")), "events at nan Hz"),
    ],
)
def test_gdf_that_contradicts_itself(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_raw(saved(tmp_path, "m.gdf", content))


# Units


@pytest.mark.parametrize(
    ("text", "microvolts"),
    [
        ("uV", 1.0), ("µV", 1.0), ("μV", 1.0), ("UV", 1.0), (" u V ", 1.0), ("microvolts", 1.0),
        ("microvol", 1.0), ("Âµv", 1.0), ("mV", 1e3), ("mv", 1e3), ("MV", 1e3), ("Volt", 1e6),
        ("v", 1e6), ("nV", 1e-3),
        ("", None), ("mmHg", None), ("uA", None), ("%", None), ("uV/Hz", None), ("V^2", None),
    ],
)  # fmt: skip
def test_units_are_known_by_a_table(text: str, microvolts: float | None) -> None:
    assert microvolts_per(text) == microvolts


def test_codes_of_units() -> None:
    assert [biosig_microvolts_per(code) for code in (4256, 4274, 4275, 4276)] == [
        1e6,
        1e3,
        1.0,
        pytest.approx(1e-3),
    ]
    assert [biosig_microvolts_per(code) for code in (0, 512, 6528)] == [None] * 3


@pytest.mark.parametrize(("unit", "scale"), [("mv", 1000.0), ("UV", 1.0), ("nV", 1e-3), ("V", 1e6)])
@pytest.mark.parametrize("kind", ["edf", "vhdr"])
def test_spellings_that_mne_does_not_know_give_the_same_volts(
    kind: str, unit: str, scale: float, tmp_path: Path
) -> None:
    if kind == "edf":
        content = writers.edf(units=["uV"] * 5 + [unit], scales=[1.0] * 5 + [scale])
        raw = read_raw(saved(tmp_path, "m.edf", content))
    else:
        raw = read_raw(writers.brainvision(tmp_path, changes=[("O2,,0.1,µV", f"O2,,{0.1 / scale:g},{unit}")]))
    assert raw.get_channel_types() == ["eeg"] * 6
    np.testing.assert_allclose(raw.get_data() * 1e6, signal_uv(), atol=0.06)


def test_the_factor_of_a_gdf_code(tmp_path: Path) -> None:
    raw = read_raw(saved(tmp_path, "m.gdf", writers.gdf(codes=[4275] * 5 + [4276])))
    np.testing.assert_allclose(raw.get_data()[5] * 1e9, signal_uv()[5], atol=0.02)


@pytest.mark.parametrize("kind", ["edf", "gdf", "vhdr"])
def test_an_unknown_unit_is_asked_for(kind: str, tmp_path: Path) -> None:
    from eegm2.data.config import PreprocessingConfig
    from eegm2.data.signal.preprocessing import preprocess

    if kind == "edf":
        path = saved(tmp_path, "m.edf", writers.edf(units=["uV"] * 5 + ["counts"]))
    elif kind == "gdf":
        path = saved(tmp_path, "m.gdf", writers.gdf(codes=[4275] * 5 + [0]))
    else:
        path = writers.brainvision(tmp_path, changes=[("O2,,0.1,µV", "O2,,0.1,counts")])
    config = PreprocessingConfig(channels=("Fp1", "O2"), amplitude="any")
    with pytest.raises(DataError, match="the unit of O2 is not stated, or none of V, mV, µV and nV"):
        preprocess(read_raw(path), config, where="m")
    other = PreprocessingConfig(channels=("Fp1", "C3"), amplitude="any")
    assert preprocess(read_raw(path), other, where="m").array.shape[0] == 2
    scaled = PreprocessingConfig(channels=("Fp1", "O2"), amplitude="any", scale=1e-6, flat="keep")
    assert preprocess(read_raw(path), scaled, where="m").array.shape[0] == 2


def test_a_channel_far_out_of_line_is_named(tmp_path: Path) -> None:
    from eegm2.data.config import PreprocessingConfig
    from eegm2.data.signal.preprocessing import preprocess

    raw = read_raw(saved(tmp_path, "m.edf", writers.edf(units=["uV"] * 5 + ["mV"])))
    with pytest.raises(DataError, match=r"scale is far from the others' \(typically .*\): O2 \("):
        preprocess(raw, PreprocessingConfig(), where="m")
    made = preprocess(raw, PreprocessingConfig(amplitude="any"), where="m")
    assert re.search(r"scale is far from the others' .*: O2 \(", made.quality["notes"])


# What vanishes


@contextlib.contextmanager
def said_or_refused(match: str) -> Iterator[None]:
    """Expect the words; MNE before 1.13 reads no BrainVision without markers, which is refused by name."""
    if mne_reads_without_markers():
        with pytest.warns(ReadingWarning, match=match):
            yield
    else:
        with pytest.raises(DataError, match=rf"three\.vhdr: {re.split('[,;]', match)[0]}, .*mne>=1\.13"):
            yield


def test_a_missing_marker_file_is_said(tmp_path: Path) -> None:
    with said_or_refused(r"the marker file three\.vmrk is missing, its labels are unknown"):
        read_raw(writers.brainvision(tmp_path, markers=None))


def test_a_marker_file_that_no_header_names_is_said(tmp_path: Path) -> None:
    path = writers.brainvision(tmp_path, changes=[("MarkerFile=three.vmrk\n", "")])
    with said_or_refused(r"names no marker file; three\.vmrk beside it was not read"):
        assert labels(path) == []


# Out of the folder, and without end


@pytest.mark.parametrize(
    "line",
    ["markerfile={}", "MarkerFile: {}", "MARKERFILE = {}"],
)
def test_a_key_in_another_spelling_leads_nowhere(line: str, tmp_path: Path) -> None:
    secret = writers.brainvision(tmp_path / "outside", markers="Mk1=Comment,secret,129,1,0").with_suffix(
        ".vmrk"
    )
    path = writers.brainvision(tmp_path / "inside", changes=[("MarkerFile=three.vmrk", line.format(secret))])
    with pytest.raises(DataError, match="as its MarkerFile, which is not beside it"):
        read_raw(path)


@pytest.mark.parametrize("name", [".", "..", "x" * 300 + ".eeg", "a\x00b", "a\tb"])
def test_a_name_that_is_none_is_refused_by_itself(name: str, tmp_path: Path) -> None:
    path = writers.brainvision(tmp_path, changes=[("DataFile=three.eeg", f"DataFile={name}")])
    with pytest.raises(DataError, match=r"as its DataFile, which|cannot be read") as error:
        read_raw(path)
    assert "unexpected" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"m_raw.fif", "names m_raw.fif as a later part of itself"),
        (b"../other/m_raw-1.fif", "as its next part, which is not beside it"),
        (b"/dev/zero", "as its next part, which is not beside it"),
        (b"gone_raw-1.fif", "is split and its next part gone_raw-1.fif is missing"),
    ],
)
def test_parts_of_fif(name: bytes, message: str, tmp_path: Path) -> None:
    first, second = writers.fif_in_parts(tmp_path)
    assert read_raw(first).n_times == 400 * 128
    first.write_bytes(writers.renamed_next_part(first.read_bytes(), second.name.encode(), name))
    with pytest.raises(DataError, match=re.escape(message)):
        read_raw(first)


def test_compressed_fif_that_expands_without_measure_is_refused(tmp_path: Path) -> None:
    import gzip

    content = writers.fif(tmp_path / "m_raw.fif", marks=[(1.0, 1.0, "a")]).read_bytes()
    path = tmp_path / "m_raw.fif.gz"
    path.write_bytes(gzip.compress(content))
    assert read_raw(path).n_times == 1024
    path.write_bytes(gzip.compress(content + bytes(40 * 2**20)))
    with pytest.raises(DataError, match=r"damaged FIF file \(more than \d+ bytes from \d+\)"):
        read_raw(path)


@pytest.mark.parametrize("what", ["external link", "external storage", "virtual", "circle", "bomb", "many"])
def test_hdf5_that_leads_out_of_itself_or_has_no_end(what: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="MAT files of version 7.3")
    pytest.importorskip("pymatreader", reason="MAT files of version 7.3")
    from eegm2.data.files.hdf5 import check_hdf5file

    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.ones((8, 2), "f4")
    (tmp_path / "raw").write_bytes(bytes(64))
    path = tmp_path / "m.set"
    with h5py.File(path, "w") as file:
        eeg = file.create_group("EEG")
        eeg["nbchan"] = np.array([[2.0]])
        if what == "external link":
            eeg["data"] = h5py.ExternalLink(str(other), "/x")
        elif what == "external storage":
            eeg.create_dataset("data", shape=(8, 2), dtype="f4", external=[(str(tmp_path / "raw"), 0, 64)])
        elif what == "virtual":
            layout = h5py.VirtualLayout(shape=(8, 2), dtype="f4")
            layout[:] = h5py.VirtualSource(str(other), "x", shape=(8, 2))
            eeg.create_virtual_dataset("data", layout)
        elif what == "circle":
            eeg["data"] = eeg
        elif what == "bomb":
            eeg.create_dataset("data", shape=(10**9, 6), dtype="f4", chunks=(10**5, 6), compression="gzip")
        else:
            inner = file.create_dataset("d0", data=np.ones((1, 1)))
            for level in range(1, 30):  # each refers twice to the one before: 2^30 in all
                refs = np.array([[inner.ref, inner.ref]], dtype=h5py.ref_dtype)
                inner = file.create_dataset(f"d{level}", data=refs, dtype=h5py.ref_dtype)
    with pytest.raises(DataError, match=r"m\.set: damaged MAT file \("):
        check_hdf5file(path)
    with h5py.File(path, "w") as file:
        file.create_group("EEG")["nbchan"] = np.array([[2.0]])
    facts: dict[str, Any] = check_hdf5file(path)
    assert facts["nbchan"] == 2.0


@pytest.mark.parametrize(("suffix", "name"), [(".eeg", "Git LFS"), (".vmrk", "git-annex")])
def test_a_pointer_in_place_of_a_companion_is_called_that(suffix: str, name: str, tmp_path: Path) -> None:
    path = writers.brainvision(tmp_path / "in")
    lfs, annex = "version https://git-lfs.github.com/spec/v1\nsize 9\n", "/annex/objects/MD5E-s1--a.eeg\n"
    path.with_suffix(suffix).write_text(lfs if name == "Git LFS" else annex)
    with pytest.raises(DataError, match=rf"three{suffix}: a pointer of {name}"):
        read_raw(path)


def test_brainvision_channels_of_one_name_and_a_lost_fdt(tmp_path: Path) -> None:
    path = writers.brainvision(tmp_path / "in", changes=[("Ch2=Fp2", "Ch2=Fp1")])
    with pytest.raises(DataError, match="describes channel Fp1 twice"):
        read_raw(path)
    made = writers.eeglab(tmp_path / "x.set", beside=True)
    made.with_suffix(".fdt").unlink()
    with pytest.raises(DataError, match=r"x.set: its data file \(.fdt\) is missing"):
        read_raw(made)
