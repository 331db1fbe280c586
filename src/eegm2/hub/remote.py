"""The Hugging Face hub, only when asked for: download by name, upload through huggingface_hub's mixin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eegm2.errors import CheckpointError
from eegm2.model.network import EEGM2
from eegm2.model.unet import UNet


def download(name: str, file: str, **options: Any) -> Path:
    """Return the local copy of one file of a model on the hub.

    Raises
    ------
    CheckpointError
        If huggingface_hub is not installed, or the file cannot be had; the message gives name and reason.
    """
    hub = _library(name)
    try:
        return Path(hub.hf_hub_download(name, file, library_name="eegm2", **options))
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise CheckpointError(
            f"{name}: no such folder here, nor to be had from the hub ({_reason(error)}); {_remedy(error)}"
        ) from error


def push_to_hub(model: EEGM2 | UNet, name: str, *, card: str | None = None, **upload: Any) -> str:
    """Upload a model's folder to the hub.

    Parameters
    ----------
    model : EEGM2 or UNet
        See `eegm2.hub.save_pretrained`.
    name : str
        ``owner/name`` on the hub; made if needed.
    card : str, optional
        Text of the model card; generated if not given.
    **upload
        As in `huggingface_hub.ModelHubMixin.push_to_hub`: private, token, branch, create_pr, commit_message.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    CheckpointError
        If huggingface_hub is not installed or the upload fails.
    """
    hub = _library(name)

    class Shared(hub.ModelHubMixin):  # type: ignore[name-defined]
        """Lets the mixin find our folder format."""

        def _save_pretrained(self, save_directory: Path) -> None:
            model.save_pretrained(save_directory, card=card)

    upload.setdefault("commit_message", "Upload an EEGM2 model")
    try:
        return str(Shared().push_to_hub(name, **upload))
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise CheckpointError(
            f"{name}: the hub did not take the model ({_reason(error)}); {_remedy(error)}"
        ) from error


def _library(name: str) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise CheckpointError(
            f"{name}: the hub needs huggingface_hub, which is not installed; pip install 'eegm2[hub]'"
        ) from error
    return huggingface_hub


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _remedy(error: Exception) -> str:
    kind = type(error).__name__
    if "Offline" in kind or "LocalEntry" in kind or isinstance(error, ConnectionError):
        return "go online, or give a local folder"
    return "check the name and your access token"
