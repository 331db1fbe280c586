"""The scale of one person on one device, as a small JSON file."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.errors import DataError
from eegm2.records import CALIBRATION, checked, read_json

_FORMAT = 1
_REMEDY = "name a new file to measure one"
_NEEDED = ("person", "device", "method", "ch_names", "preprocessing", "baseline_s", "offset_uv", "scale_uv")


@dataclass(frozen=True)
class Calibration:
    """What a baseline showed.

    Attributes
    ----------
    person, device : str
        Whose it is and on what it was measured; empty where that is not known (a recording's file).
    method : str
        Scaling, see `window_scale`.
    ch_names : tuple of str
        The network's channels.
    preprocessing : dict
        Declared filter and rate, under which scales compare.
    baseline_s : float
        Signal that was measured; 0 for a scale that was given.
    offset_uv, scale_uv : tuple of float
        One for each channel, or one for all.
    """

    person: str
    device: str
    method: str
    ch_names: tuple[str, ...]
    preprocessing: dict[str, Any]
    baseline_s: float
    offset_uv: tuple[float, ...]
    scale_uv: tuple[float, ...]

    @property
    def id(self) -> str:
        """Twelve digits that tell calibrations apart."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return offset and scale as columns."""
        return np.array(self.offset_uv)[:, None], np.array(self.scale_uv)[:, None]

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        path = Path(path)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": _FORMAT, "id": self.id, **asdict(self)}, indent=1, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a file of :meth:`save`.

        Raises
        ------
        DataError
            If it is missing, damaged or something else.
        """
        try:
            values = checked(read_json(Path(path)), CALIBRATION, path, DataError, _REMEDY)
            if values["format"] != _FORMAT:
                raise ValueError(f"format {values['format']!r}")
            kept = {name: values[name] for name in _NEEDED}
            for name in ("offset_uv", "scale_uv"):
                kept[name] = tuple(float(value) for value in kept[name])
            kept["ch_names"] = tuple(map(str, kept["ch_names"]))
            size = {len(kept["offset_uv"]), len(kept["scale_uv"])}
            if not size <= {1, len(kept["ch_names"])} or not min(kept["scale_uv"]) > 0:
                raise ValueError(f"{len(kept['scale_uv'])} scales for {len(kept['ch_names'])} channels")
            return cls(**kept)
        except DataError:
            raise
        except OSError as error:
            raise DataError(f"{path}: cannot be read as a calibration ({error.strerror})") from error
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"{path}: is not a calibration written by eegm2 ({error}); name a new file to measure one"
            ) from error

    def refuse_other(
        self, path: str | Path, *, person: str, device: str, method: str, ch_names: Any, preprocessing: Any
    ) -> None:
        """Raise a DataError where the calibration is of another person, device, montage or scaling."""
        remedy = "name another file to measure a new one"
        for what, mine, asked in (("person", self.person, person), ("device", self.device, device)):
            if mine and asked and mine != asked:
                raise DataError(f"{path}: is of {what} '{mine}', not of '{asked}'; {remedy}")
        if self.method != method:
            raise DataError(f"{path}: was measured for scaling {self.method}, not {method}; {remedy}")
        if self.ch_names != tuple(ch_names):
            raise DataError(
                f"{path}: is of channels {' '.join(self.ch_names)}, not of {' '.join(ch_names)}; {remedy}"
            )
        other = [name for name, value in preprocessing.items() if self.preprocessing.get(name) != value]
        if other:
            raise DataError(
                f"{path}: was measured with {other[0]} = {self.preprocessing.get(other[0])}, the model has "
                f"{preprocessing[other[0]]}; {remedy}"
            )
