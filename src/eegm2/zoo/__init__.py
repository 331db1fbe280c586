"""Models by name: those that ship with the package, those in folders, those of the hub."""

from __future__ import annotations

from eegm2.zoo.find import find_weights
from eegm2.zoo.shipped import shipped_models

__all__ = ["find_weights", "shipped_models"]
