"""XDF files as LabRecorder writes them, byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np


def chunk(tag: int, content: bytes) -> bytes:
    """One chunk: the length of what follows, a tag, the content."""
    return b"\x04" + struct.pack("<I", len(content) + 2) + struct.pack("<H", tag) + content


def xdf(
    streams: Sequence[tuple[str, str, float, Sequence[str], np.ndarray, list, float]],
    per_chunk: int = 10**9,
) -> bytes:
    """An XDF file of (name, type, rate, labels, stamps, samples, clock offset).

    Its samples are in chunks of `per_chunk`.
    """
    out = b"XDF:" + chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")
    for number, (name, kind, rate, names, stamps, samples, offset) in enumerate(streams, 1):
        text = kind == "Markers"
        described = "".join(f"<channel><label>{n}</label><unit>microvolts</unit></channel>" for n in names)
        form = "string" if text else "float32"
        header = (
            f"<?xml version='1.0'?><info><name>{name}</name><type>{kind}</type>"
            f"<channel_count>{len(names)}</channel_count><nominal_srate>{rate}</nominal_srate>"
            f"<channel_format>{form}</channel_format><source_id>{name}</source_id>"
            f"<desc><channels>{described}</channels></desc></info>"
        )
        ident = struct.pack("<I", number)
        out += chunk(2, ident + header.encode())
        for at in (0.0, stamps[-1]):
            out += chunk(4, ident + struct.pack("<dd", at, offset))
        for first in range(0, len(stamps), per_chunk):
            some = range(first, min(first + per_chunk, len(stamps)))
            body = b"\x04" + struct.pack("<I", len(some))
            for i in some:
                body += b"\x08" + struct.pack("<d", stamps[i])
                if text:
                    body += b"\x01" + bytes([len(samples[i])]) + samples[i].encode()
                else:
                    body += np.asarray(samples[i], "<f4").tobytes()
            out += chunk(3, ident + body)
        footer = f"<?xml version='1.0'?><info><first_timestamp>{stamps[0]}</first_timestamp>"
        footer += f"<sample_count>{len(stamps)}</sample_count></info>"
        out += chunk(6, ident + footer.encode())
    return out
