"""What another reader makes of a damaged file: samples that we read otherwise were wrong in silence.

EDF and BDF are judged by edfio, BrainVision by a few lines of NumPy, XDF and tables as in
`headset_judges`, the others by MNE itself, whose reading ours must not bend. Where the judge cannot read
the file, nobody is judged.
"""

from __future__ import annotations

import configparser
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.hostile.headset_judges import BrokenError, by_chunks, by_csv

Signals = dict[str, np.ndarray]
TOLERANCE = 1e-3


def by_edfio(path: Path) -> Signals:
    """Return the signals in the file's own units, but for those whose range edfio cannot read (``1,5``)."""
    import edfio

    read = edfio.read_bdf if path.suffix == ".bdf" else edfio.read_edf
    found = {signal.label: (np.asarray(signal.data), signal.digital) for signal in read(path).signals}
    return {label: data for label, (data, stored) in found.items() if not np.array_equal(data, stored)}


def by_numpy(path: Path) -> Signals:
    """Return the channels of a BrainVision recording as its header has them, in its own units."""
    lines = path.read_bytes().split(b"\n", 1)[1].decode("utf-8")
    header = configparser.ConfigParser(interpolation=None)
    header.read_string(lines)
    common, channels = header["Common Infos"], header["Channel Infos"]
    kinds = {"INT_16": "<i2", "INT_32": "<i4", "IEEE_FLOAT_32": "<f4"}
    samples = np.fromfile(path.with_name(common["DataFile"]), kinds[header["Binary Infos"]["BinaryFormat"]])
    n = int(common["NumberOfChannels"])
    rows = samples.reshape(n, -1) if common["DataOrientation"] == "VECTORIZED" else samples.reshape(-1, n).T
    found = {}
    for number, row in enumerate(rows, start=1):
        name, _, resolution, *_ = channels[f"ch{number}"].split(",")
        found[name] = row * float(resolution or 1)
    return found


def by_mne(path: Path) -> Signals:
    """Return the channels as MNE reads them, in volts."""
    import mne

    from eegm2.data.files.readers import READERS

    suffix = ".fif.gz" if path.name.endswith(".fif.gz") else path.suffix
    raw = getattr(mne.io, READERS[suffix])(path, preload=False, verbose="error")
    return dict(zip(raw.ch_names, raw.get_data()))


JUDGES: dict[str, Callable[[Path], Signals]] = {
    **dict.fromkeys((".edf", ".bdf"), by_edfio),
    **dict.fromkeys((".gdf", ".set", ".fif", ".gz"), by_mne),
    ".vhdr": by_numpy,
    ".xdf": by_chunks,
    ".csv": by_csv,
}
#: Judges that know the unit, too.
IN_VOLTS = (".xdf", ".csv")


def judged(path: Path) -> str:
    """Return ``equal``, ``differs`` or ``unjudged``.

    Units are left aside: a channel may differ by a power of ten from what the judge has.
    """
    from eegm2.data.files.readers import read_raw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = read_raw(path)
        ours = dict(zip(raw.ch_names, raw.get_data()))
        try:
            theirs = JUDGES[path.suffix](path)
        except BrokenError:
            return "differs"
        except Exception:
            return "unjudged"
    common = [name for name in ours if name in theirs]
    if not common:
        return "unjudged"
    alike = _same if path.suffix in IN_VOLTS else _alike
    return "equal" if all(alike(ours[name], theirs[name]) for name in common) else "differs"


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=1e-12, equal_nan=True)


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    if len(a) != len(b):
        return False
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return bool((np.isfinite(a) == np.isfinite(b)).all())
    largest = np.abs(a).max(), np.abs(b).max()
    if 0 in largest:
        return largest[0] == largest[1]
    power = 10.0 ** round(float(np.log10(largest[1] / largest[0])))
    return bool(np.abs(a * power - b).max() <= TOLERANCE * largest[1])
