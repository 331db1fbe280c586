"""Recordings written byte by byte, so that every number in them can be wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.hostile.seeds import CH_NAMES, SFREQ_HZ, signal_uv

RATE = int(SFREQ_HZ)


def edf(
    *,
    units: Sequence[str] = (),
    scales: Sequence[float] = (),
    stamps: Sequence[float] | None = None,
    texts: bytes = b"",
    n_records: int | None = None,
) -> bytes:
    """Return EDF of 8 records of 1 s; with `stamps` EDF+C, whose first record also holds the lists `texts`.

    `scales` are microvolts per unit: a channel in mV has 1000.
    """
    rows = signal_uv()
    units, scales = units or ["uV"] * len(rows), scales or [1.0] * len(rows)
    plus = stamps is not None
    n_signals, columns = len(rows) + plus, []
    for values, more, width in (
        (CH_NAMES, "EDF Annotations", 16),
        ([""] * len(rows), "", 80),
        (units, "", 8),
        ([f"{-500 / s:g}" for s in scales], "-1", 8),
        ([f"{500 / s:g}" for s in scales], "1", 8),
        (["-32768"] * len(rows), "-32768", 8),
        (["32767"] * len(rows), "32767", 8),
        ([""] * len(rows), "", 80),
        ([str(RATE)] * len(rows), "60", 8),
        ([""] * len(rows), "", 32),
    ):
        columns += [text.encode("latin-1").ljust(width) for text in [*values, *([more] if plus else [])]]
    fixed = [
        (b"0", 8), (b"X X X X", 80), (b"Startdate X X X X", 80), (b"01.01.20", 8), (b"00.00.00", 8),
        (b"%d" % (256 * (n_signals + 1)), 8), (b"EDF+C" if plus else b"", 44),
        (b"%d" % (8 if n_records is None else n_records), 8), (b"1", 8), (b"%d" % n_signals, 4),
    ]  # fmt: skip
    content = [text.ljust(width) for text, width in fixed] + columns
    digital = np.round((rows + 500) / 1000 * 65535 - 32768).astype("<i2")
    for record in range(8):
        content.append(digital[:, record * RATE : (record + 1) * RATE].tobytes())
        if stamps is not None:
            lists = b"%+g\x14\x14\0" % stamps[record] + (texts if record == 0 else b"")
            content.append(lists.ljust(120, b"\0"))
    return b"".join(content)


def gdf(
    *,
    version: str = "2.20",
    rates: Sequence[int] = (),
    codes: Sequence[int] = (),
    events: Sequence[tuple[int, int, int]] = (),
    event_hz: float = SFREQ_HZ,
    n_records: int = 8,
) -> bytes:
    """Return GDF 2 of 8 records of 1 s; `events` are (position from 1, type, length in samples)."""
    rows, n = signal_uv(), len(CH_NAMES)
    rates, codes = rates or [RATE] * n, codes or [4275] * n
    head = f"GDF {version}".encode() + bytes(176) + struct.pack("<H", n + 1) + bytes(50)
    head += struct.pack("<qII", n_records, 1, 1) + struct.pack("<HH", n, 0)
    assert len(head) == 256
    head += b"".join(name.encode().ljust(16, b"\0") for name in CH_NAMES) + bytes(86 * n)
    head += struct.pack(f"<{n}H", *codes)
    for value in (-500.0, 500.0, -32768.0, 32767.0):
        head += struct.pack("<d", value) * n
    head += bytes(80 * n) + struct.pack(f"<{n}i", *rates) + struct.pack("<i", 3) * n + bytes(32 * n)
    body = b""
    for record in range(8):
        for row, rate in zip(rows, rates):
            piece = row[record * RATE : (record + 1) * RATE : RATE // rate]
            body += np.round((piece + 500) / 1000 * 65535 - 32768).astype("<i2").tobytes()
    if not events:
        return head + body
    positions, kinds, lengths = zip(*events)
    count = len(events)
    table = b"\x03" + struct.pack("<I", count)[:3] + struct.pack("<f", event_hz)
    table += struct.pack(f"<{count}I", *positions) + struct.pack(f"<{count}H", *kinds) + bytes(2 * count)
    return head + body + table + struct.pack(f"<{count}I", *lengths)


def brainvision(folder: Path, *, changes: Sequence[tuple[str, str]] = (), markers: str | None = "") -> Path:
    """Write BrainVision with texts of the header replaced; `markers` are its lines, None: no file."""
    from tests.hostile.seeds import write_brainvision

    folder.mkdir(parents=True, exist_ok=True)
    path = write_brainvision(folder / "three.vhdr", signal_uv()).main
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    if markers is None:
        path.with_suffix(".vmrk").unlink()
    elif markers:
        head = "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        path.with_suffix(".vmrk").write_text(f"{head}DataFile=three.eeg\n\n[Marker Infos]\n{markers}\n")
    return path


def eeglab(path: Path, *, beside: bool = False, **fields: object) -> Path:
    """Write an EEGLAB set with fields changed."""
    from scipy.io import loadmat, savemat

    from tests.hostile.seeds import write_set

    write_set(path, signal_uv(), beside=beside)
    content = loadmat(path, simplify_cells=False)
    record = content["EEG"]
    for name, value in fields.items():
        record[name][0, 0] = np.array([[value]]) if not isinstance(value, str) else value
    savemat(path, {"EEG": record}, appendmat=False)
    return path


def fif(path: Path, *, first_sample: int = 0, marks: Sequence[tuple[float, float, str]] = ()) -> Path:
    """Write FIF that begins at a sample of its own."""
    import mne

    info = mne.create_info(list(CH_NAMES), SFREQ_HZ, "eeg")
    raw = mne.io.RawArray(signal_uv() * 1e-6, info, first_samp=first_sample, verbose="error")
    raw.set_annotations(mne.Annotations(*zip(*marks)), verbose="error")
    raw.save(path, verbose="error")
    return path


def fif_in_parts(folder: Path, seconds: int = 400, scale: float = 1.0) -> list[Path]:
    """Write FIF that goes on in a second file."""
    import mne

    folder.mkdir(parents=True, exist_ok=True)
    rows = np.tile(signal_uv(), (1, seconds // 8)) * scale
    raw = mne.io.RawArray(rows * 1e-6, mne.create_info(list(CH_NAMES), SFREQ_HZ, "eeg"), verbose="error")
    raw.save(folder / "m_raw.fif", split_size=2 * 2**20, buffer_size_sec=1, verbose="error", overwrite=True)
    return [folder / "m_raw.fif", folder / "m_raw-1.fif"]


def renamed_next_part(content: bytes, old: bytes, new: bytes) -> bytes:
    """Return a FIF file that names another file as its next part."""
    place = content.find(old)
    assert place > 16
    kind, values, size, following = struct.unpack(">iiii", content[place - 16 : place])
    tag = struct.pack(">iiii", kind, values, len(new), following)
    return content[: place - 16] + tag + new + content[place + size :]
