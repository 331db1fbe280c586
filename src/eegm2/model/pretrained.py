"""Saving, loading and sharing as methods of the networks."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eegm2.model.network import EEGM2
    from eegm2.model.unet import UNet


class Pretrained:
    """Adds ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` to a network.

    The work is done by `eegm2.hub`, found by name when first called: it needs the checkpoint format, which
    lies above the networks. Folders need nothing but the core; the hub needs ``pip install 'eegm2[hub]'``.

    Attributes
    ----------
    header : mapping
        What is known about the weights (channels, rate, preprocessing, data, training); empty for fresh ones.
    """

    header: Mapping[str, Any] = {}

    def save_pretrained(self, folder: str | Path, **about: Any) -> Path:
        """Write weights, header and a model card into a folder; see `eegm2.hub.save_pretrained`.

        ``card``, ``ch_names``, ``sfreq_hz``, ``preprocessing`` and ``windows`` say what the input must be.
        """
        saved: Path = _hub().save_pretrained(self, folder, **about)
        return saved

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, *, revision: str | None = None, **download: Any
    ) -> EEGM2 | UNet:
        """Read a model by any of its names, that of a shipped one say; see `eegm2.hub.from_pretrained`."""
        model: EEGM2 | UNet = _hub().from_pretrained(name_or_folder, revision=revision, **download)
        return model

    def push_to_hub(self, name: str, *, card: str | None = None, **upload: Any) -> str:
        """Upload weights, header and model card to the Hugging Face hub; see `eegm2.hub.push_to_hub`."""
        address: str = _hub().push_to_hub(self, name, card=card, **upload)
        return address


def _hub() -> Any:
    return importlib.import_module("eegm2.hub")
