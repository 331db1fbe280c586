"""What files are by name and beginning: recordings that are read, their parts, and EEG that is not read."""

from __future__ import annotations

import re
from pathlib import Path

from eegm2.data.channels import is_known

READERS = {
    ".edf": "read_raw_edf",
    ".bdf": "read_raw_bdf",
    ".gdf": "read_raw_gdf",
    ".vhdr": "read_raw_brainvision",
    ".set": "read_raw_eeglab",
    ".fif": "read_raw_fif",
    ".fif.gz": "read_raw_fif",
}
"""File suffix → function of `mne.io`."""

PARTS = {".eeg": ".vhdr", ".vmrk": ".vhdr", ".fdt": ".set"}
"""Files that are nothing without their header, and the header's suffix."""

FOLDERS = {".mff": "EGI", ".ds": "CTF", ".mefd": "MEF3", ".zarr": "Zarr"}
"""Recordings that are folders, none of which is read."""

_UNREAD = {
    ".cnt": "Neuroscan or ANT", ".avg": "Neuroscan", ".cdt": "Curry", ".dap": "Curry",
    ".nwb": "Neurodata Without Borders", ".mef": "MEF", ".egi": "EGI",
    ".lay": "Persyst",
    ".nxe": "Nexstim", ".e": "Nicolet", ".trc": "Micromed", ".21e": "Nihon Kohden", ".sef": "Cartool",
    ".eph": "Cartool", ".easy": "Neuroelectrics", ".nedf": "Neuroelectrics", ".bci2000": "BCI2000",
    ".smr": "Spike2", ".smrx": "Spike2", ".ncs": "Neuralynx", ".snirf": "NIRS", ".erd": "Natus",
    ".sig": "Brainlab or Stellate", ".bka": "BESA", ".besa": "BESA", ".poly5": "TMSi",
    ".xltek": "Natus", ".ebm": "Embla", ".acq": "Biopac", ".adicht": "LabChart", ".hea": "WFDB",
    ".set.mat": "EEGLAB",
}  # fmt: skip
"""Formats of EEG that are not read."""

_ARRAYS = (".mat", ".npy", ".npz", ".h5", ".hdf5", ".hdf", ".pkl", ".pickle", ".parquet", ".feather")
_ARCHIVES = (
    *(".zip", ".7z", ".rar", ".tar", ".tgz", ".tbz2", ".txz"),
    *(".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"),
)
_SPOILT = re.compile(
    r"(?P<inner>\.[a-z0-9]+)(?:\.(?P<packed>gz|bz2|xz|zst|z|lz4)|"
    r"(?:\.(?:bak|backup|old|orig|tmp|temp|part|partial|crdownload|download|copy|save|sav|swp|\d+)|~|"
    r"[ _-]?\(\d+\)|[ _-]copy))$"
)
_OTHER_NAMES = """
.json .tsv .md .rst .pdf .png .jpg .jpeg .svg .html .htm .xml .yaml .yml .toml .ini .cfg .py .m .r .sh .ipynb
.log .docx .xlsx .lab .htk .elp .sfp .elc .ced .locs .loc .bvef .event .seizures .md5 .sha256
"""
_OTHER = frozenset(_OTHER_NAMES.split())
"""What lies beside recordings and is none; not even looked into."""


def file_suffix(path: Path) -> str:
    """Return the suffix that decides the reader, lower case; ``.fif.gz`` counts as one."""
    return ".fif.gz" if path.name.lower().endswith(".fif.gz") else path.suffix.lower()


def has_reader(path: Path) -> bool:
    """Return whether a file is one that `eegm2.data.files.readers.read_raw` opens, by suffix or beginning."""
    from eegm2.data.files.headsets.read import is_headset_file

    return file_suffix(path) in READERS or (path.is_file() and is_headset_file(path))


def stem(path: Path) -> str:
    """Return a file's name without the suffix that decides the reader."""
    return path.name[: len(path.name) - len(file_suffix(path))]


def why_unread(path: Path) -> str | None:
    """Return why a file that looks like EEG is none that is read by itself; None if it does not look like it.

    Parameters
    ----------
    path : Path
        A file that no recipe has claimed and whose suffix is not one of `READERS`.
    """
    name, suffix = path.name.lower(), file_suffix(path)
    if suffix in PARTS:
        return f"a part of a recording without its header ({PARTS[suffix]}); copy the header beside it"
    if suffix in _UNREAD:
        return f"{suffix} ({_UNREAD[suffix]}) is not read; export it as EDF, BDF, BrainVision or FIF"
    if name.endswith(_ARCHIVES):
        return "an archive, which may hold recordings; unpack it"
    if suffix in _ARRAYS:
        return f"{suffix} may hold EEG as arrays, which only some recipes read (eegm2 datasets)"
    spoilt = _SPOILT.search(name)
    if spoilt and (spoilt["inner"] in READERS or spoilt["inner"] in _UNREAD or spoilt["inner"] in PARTS):
        if spoilt["packed"]:
            return f"a compressed recording ({spoilt['inner']}.{spoilt['packed']}); unpack it"
        return "a copy or a part of a recording by its name; rename it if it is one"
    return None if suffix in _OTHER else _by_content(path)


def _by_content(path: Path) -> str | None:
    """Return why a file is left out whose name says nothing but whose beginning is that of EEG."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return None
    signs = {
        b"0       ": ".edf", b"\xffBIOSEMI": ".bdf", b"GDF ": ".gdf", b"Brain Vision Data": ".vhdr",
        b"Brain Vision V-Amp": ".vhdr", b"\x00\x00\x00\x64\x00\x00\x00\x1f\x00\x00\x00\x14": ".fif",
        b"XDF:": ".xdf",
    }  # fmt: skip
    for sign, kind in signs.items():
        if head.startswith(sign) and not (kind == ".vhdr" and b"Marker File" in head[:80]):
            return f"begins as {kind} does but is not called so; rename it to end in {kind}"
    if path.suffix.lower() in (".csv", ".txt") and _is_samples(head):
        return f"a table of samples; declare its columns in {path.stem}.toml beside it, or export it as EDF"
    return None


def _is_samples(head: bytes) -> bool:
    """Return whether a text begins as exports of headsets do: electrodes as columns."""
    if head.startswith(b"%OpenBCI"):
        return True
    first = head.partition(b"\n")[0].decode("utf-8", "replace")
    names = [part.strip(" \"'\r") for part in re.split(r"[,;\t]", first)]
    return sum(bool(part) and is_known(part.removeprefix("EEG.")) for part in names) >= 3
