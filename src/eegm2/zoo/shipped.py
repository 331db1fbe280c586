"""The models that ship with the package: a folder each, as ``eegm2 share`` writes them."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = "model.safetensors"
"""Name of the weights in a shared or shipped folder."""

SHIPPED = Path(__file__).parent / "weights"
"""Drop a shared folder in here, and its name is known everywhere."""

#: Names that begin so are controls: their weights were drawn and not learnt.
CONTROL = "untrained-"


def shipped_models() -> dict[str, Path]:
    """Return the folder of every shipped model by its name, trained ones first."""
    folders = [path.parent for path in SHIPPED.glob(f"*/{WEIGHTS}")]
    folders.sort(key=lambda folder: (folder.name.startswith(CONTROL), folder.name))
    return {folder.name: folder for folder in folders}


def default_model() -> str:
    """Return the name of the model that examples and the demo use: the first that is shipped."""
    return next(iter(shipped_models()))
