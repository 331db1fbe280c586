"""Units of voltage as files spell them, in one table; whatever is not in it is asked for, never guessed."""

from __future__ import annotations

import re

_SYMBOLS = {"v": 1e6, "mv": 1e3, "uv": 1.0, "nv": 1e-3, "pv": 1e-6}
_WORDS = {"volt": 1e6, "millivolt": 1e3, "microvolt": 1.0, "nanovolt": 1e-3}
_WORDS |= {"microv": 1.0, "microvol": 1.0, "millivol": 1e3}  # an EDF header has room for eight letters
#: The micro sign, the Greek letter, how old devices of Japan and a wrong code page write them.
_MICRO = ("\u00c2\u00b5", "\u00ce\u00bc", "\u00b5", "\u03bc", "\x83\xca")


def microvolts_per(unit: str) -> float | None:
    """Return how many microvolts one of `unit` is, or None if the text is no unit of voltage.

    Case, blanks and both micro signs are alike. ``MV`` is millivolts: no EEG is in megavolts.

    Parameters
    ----------
    unit : str
        As in the file.
    """
    text = unit.strip()
    for sign in _MICRO:
        text = text.replace(sign, "u")
    text = re.sub(r"[\s\x00.\[\]()-]+", "", text).lower()
    text = text.replace("uvolt", "microvolt").replace("mvolt", "millivolt")
    if text in _SYMBOLS:
        return _SYMBOLS[text]
    return _WORDS.get(text.removesuffix("s"))


def biosig_microvolts_per(code: int) -> float | None:
    """Return microvolts per unit of a dimension code of GDF (ISO/IEEE 11073-10101), None if no voltage."""
    factors = {0: 1.0, 18: 1e-3, 19: 1e-6, 20: 1e-9, 21: 1e-12}
    factor = factors.get(code & 0x1F)
    return None if code & ~0x1F != 4256 or factor is None else 1e6 * factor
