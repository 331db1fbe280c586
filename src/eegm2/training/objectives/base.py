"""What a task of pretraining is, to the loop that trains on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor, nn

from eegm2.errors import ConfigError
from eegm2.training.objectives.options import OBJECTIVES

if TYPE_CHECKING:
    from eegm2.data.windows.pool import StorePool
    from eegm2.data.windows.pooled import PoolWindows
    from eegm2.training.config import PretrainConfig


class Origin(NamedTuple):
    """Where the windows of a batch are from.

    Attributes
    ----------
    store_number : int
        Of their store among those of the run.
    recording_numbers : sequence of int
        A number for each window's recording.
    windows : PoolWindows, optional
        The windows that the batch is taken from, and
    numbers : sequence of int
        which of them it holds, for targets that more than the batch has a part in.
    """

    store_number: int
    recording_numbers: Sequence[int]
    windows: PoolWindows | None = None
    numbers: Sequence[int] = ()

    @classmethod
    def of(cls, windows: PoolWindows, numbers: Sequence[int]) -> Origin:
        """Return where some windows are from."""
        return cls(windows.store_of(numbers[0]), windows.recordings_of(numbers), windows, numbers)


class Setting(NamedTuple):
    """What a task may know of a run when it is built.

    Attributes
    ----------
    config : PretrainConfig
    network : nn.Module
        With its first weights.
    pool : StorePool
        Montages, rate and names of the stores.
    options : dataclass, optional
        What the task itself was told (``objective_options``), where it declares `Options`.
    """

    config: PretrainConfig
    network: Any
    pool: StorePool
    options: Any = None


class Objective(nn.Module):
    """A task: what the network sees, what it should give, and how far off it is.

    Its parameters (heads) are trained with the network's and kept in the run's state, not in the weights.

    Parameters
    ----------
    setting : Setting, optional
        The run; what its ``options`` hold is kept as `options`.

    Attributes
    ----------
    terms : tuple of str
        Names of what calling it returns: ``loss`` and the parts that are logged beside it.
    decoder : bool
        Whether the network keeps its decoder; False where nothing is to be passed on at full resolution.
    Options : type, optional
        A frozen dataclass of what it can be told (``--objective-option``, ``objective_options``); its fields
        are made with `eegm2.option`.
    """

    terms: tuple[str, ...] = ("loss",)
    decoder: ClassVar[bool] = True
    Options: ClassVar[type[Any] | None] = None

    def __init__(self, setting: Setting | None = None) -> None:
        super().__init__()
        self.options: Any = None if setting is None else setting.options

    @classmethod
    def build(cls, setting: Setting) -> Objective:
        """Return the task of a run."""
        return cls(setting)

    def forward(
        self, model: Any, x: Tensor, seeds: Sequence[int], origin: Origin | None = None
    ) -> Sequence[Tensor]:
        """Return the loss, then the parts in the order of `terms` (detached).

        Parameters
        ----------
        model : nn.Module
            The network.
        x : Tensor, shape (batch, n_chans, n_times)
            Scaled windows of one store.
        seeds : sequence of int
            One per window: all that is random about it follows from its seed.
        origin : Origin, optional
            Where they are from.
        """
        raise NotImplementedError

    def losses(self, model: Any, x: Tensor, seeds: Sequence[int], origin: Origin) -> Sequence[Tensor]:
        """Return what calling the task gives, as many numbers as it has `terms`.

        Raises
        ------
        ConfigError
            If it gives something else.
        """
        found: Sequence[Tensor] = self(model, x, seeds, origin)
        if not isinstance(found, tuple | list) or len(found) != len(self.terms) or found[0].ndim:
            raise ConfigError(
                f"objective {type(self).__name__}: forward gave {_what(found)}, expected a tuple of "
                f"{len(self.terms)} numbers: {', '.join(self.terms)}"
            )
        return found

    def follow(self, model: Any, progress: float) -> None:
        """Take note of a step of the optimiser; `progress` is the share of the training that is done."""


def _what(found: Any) -> str:
    shapes = [tuple(getattr(part, "shape", ())) for part in found] if isinstance(found, tuple | list) else ""
    return f"a {type(found).__name__}" + (f" of shapes {shapes}" if shapes else "")


def make_objective(setting: Setting) -> Objective:
    """Return the task that a run's options name."""
    config = setting.config
    options = OBJECTIVES.options(config.objective, config.objective_options)
    task: type[Objective] = OBJECTIVES.find(config.objective)
    return task.build(setting._replace(options=options))


def refuse_network(setting: Setting, good: bool, needed: str) -> None:
    """Raise a ConfigError if a task cannot train a network."""
    if not good:
        raise ConfigError(
            f"objective: {setting.config.objective} needs {needed}; preset {setting.config.preset} has none"
        )


def window_seed(seed: int, epoch: int, window: int) -> int:
    """Return the random seed of one window in one epoch: no batch, process or order changes it."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{epoch}/{window}".encode(), digest_size=7).digest(), "big")
