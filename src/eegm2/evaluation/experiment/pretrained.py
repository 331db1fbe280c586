"""Folders of an experiment's pretrainings: named by what differs from the defaults, matched by all of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from eegm2.config import conflicts, non_defaults
from eegm2.data.config import sha256_json
from eegm2.data.windows.splits import SplitManifest
from eegm2.records import RUN, read_record
from eegm2.training.config import FREE_ON_RESUME, PretrainConfig
from eegm2.training.run_record import RUN_FORMAT


@dataclass(frozen=True)
class Wanted:
    """A pretraining that a split asks for.

    Attributes
    ----------
    stem : str
        Start of the folder's name: the split, or ``all``.
    options : PretrainConfig
        How it is trained.
    n_chans : int
        Channels of its store.
    manifest_sha256 : str
        Its store.
    manifest : SplitManifest or None
        Who trains and who validates; None: drawn from the store by the options.
    """

    stem: str
    options: PretrainConfig
    n_chans: int
    manifest_sha256: str
    manifest: SplitManifest | None

    @property
    def name(self) -> str:
        """Name of a new folder; new options of the library leave it."""
        choices = {k: v for k, v in non_defaults(self.options).items() if k not in FREE_ON_RESUME}
        parts = [] if self.manifest is None else _parts(asdict(self.manifest))
        return f"{self.stem}-{sha256_json([RUN_FORMAT, choices, self.manifest_sha256, parts])[:8]}"

    def fits(self, run: Path) -> bool:
        """Return whether a run, finished or not, is this pretraining, by what it has recorded."""
        try:
            facts = read_record(run / "run.json", RUN)
            same = facts["run_format"] == RUN_FORMAT
            same = same and facts["data"]["manifest_sha256"] == self.manifest_sha256
            if self.manifest is not None:
                seen = SplitManifest.from_json(run / "splits.json")
                same = same and _parts(asdict(seen)) == _parts(asdict(self.manifest))
            differing = set(conflicts(facts["pretrain"], self.options)) - FREE_ON_RESUME
            shape = self.options.network_config(self.n_chans, facts["model"].get("sfreq_hz", 128.0))
            differing |= {*conflicts(facts["model"], shape)}
            differing |= {*conflicts(facts["windows"], self.options.window_config())}
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return same and not differing


def run_folder(parent: Path, wanted: Wanted) -> Path:
    """Return the folder of a pretraining: one that fits, else the first free name.

    A folder of the same name that does not fit was trained when a default was another one. It is left as it
    is, and the weights are trained again beside it.

    Parameters
    ----------
    parent : Path
        ``pretrained/NAME`` of an experiment.
    wanted : Wanted
        What is looked for.
    """
    for run in sorted(parent.glob(f"{wanted.stem}-*")):
        if wanted.fits(run):
            return run
    names = (wanted.name + (f"-{number}" if number > 1 else "") for number in count(1))
    return next(parent / name for name in names if not (parent / name / "checkpoints").exists())


def _parts(manifest: Any) -> list[Any]:
    """Return what divides the people, as JSON has it."""
    return [manifest.get("by", "subject"), *(list(manifest[part]) for part in ("train", "val"))]
