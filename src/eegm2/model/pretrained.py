"""Saving, loading and sharing as methods of the networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol


class Sharing(Protocol):
    """What keeps networks and finds them again; it lies above them and is given to them."""

    def save_pretrained(self, model: Any, folder: str | Path, **about: Any) -> Path:
        """Write a network into a folder."""

    def from_pretrained(self, name_or_folder: str | Path, **download: Any) -> Any:
        """Return a network by its name."""

    def push_to_hub(self, model: Any, name: str, **upload: Any) -> str:
        """Upload a network."""


class Pretrained:
    """Adds ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` to a network.

    The checkpoint format that these need lies above the networks: `shared_by` gives them what does the work.

    Attributes
    ----------
    header : mapping
        What is known about the weights (channels, rate, preprocessing, data, training); empty for fresh ones.
    """

    header: Mapping[str, Any] = {}

    def save_pretrained(self, folder: str | Path, **about: Any) -> Path:
        """Write weights, header and a model card into a folder; see :func:`eegm2.save_pretrained`.

        ``card``, ``ch_names``, ``sfreq_hz``, ``preprocessing`` and ``windows`` say what the input must be.
        """
        return _sharing().save_pretrained(self, folder, **about)

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, *, revision: str | None = None, **download: Any
    ) -> Any:
        """Return the network of a model, named in any way; see :func:`eegm2.from_pretrained`.

        An EEGM2 or a UNet, as the weights say, of whichever class this is called.
        """
        return _sharing().from_pretrained(name_or_folder, revision=revision, **download)

    def push_to_hub(self, name: str, *, card: str | None = None, **upload: Any) -> str:
        """Upload weights, header and model card to the Hugging Face hub; see :func:`eegm2.push_to_hub`."""
        return _sharing().push_to_hub(self, name, card=card, **upload)


_sharing: Callable[[], Sharing]


def shared_by(sharing: Callable[[], Sharing]) -> None:
    """Let `sharing()`, asked when first needed, do the work of the three methods of every network."""
    global _sharing
    _sharing = sharing
