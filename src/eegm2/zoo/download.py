"""One file of a model on the Hugging Face hub, only when a name of the hub was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eegm2.errors import CheckpointError

TIMEOUT_S = 10.0


def download(name: str, file: str, **options: Any) -> Path:
    """Return the local copy of one file of a model on the hub.

    Raises
    ------
    CheckpointError
        If huggingface_hub is not installed, or the file cannot be had; the message gives name and reason.
    """
    hub = hub_library(name)
    options.setdefault("etag_timeout", TIMEOUT_S)
    try:
        return Path(hub.hf_hub_download(name, file, library_name="eegm2", **options))
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise CheckpointError(
            f"{name}: no such folder here, nor to be had from the hub ({reason(error)}); {remedy(error)}"
        ) from error


def hub_library(name: str) -> Any:
    """Return huggingface_hub, or raise a CheckpointError that says how to get it."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise CheckpointError(
            f"{name}: the hub needs huggingface_hub, which is not installed; pip install 'eegm2[hub]'"
        ) from error
    return huggingface_hub


def reason(error: Exception) -> str:
    """Return what went wrong, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def remedy(error: Exception) -> str:
    """Return what to do about an error of the hub."""
    kind = type(error).__name__
    if "Offline" in kind or "LocalEntry" in kind or isinstance(error, ConnectionError):
        return "go online, or give a local folder"
    return "check the name and your access token"
