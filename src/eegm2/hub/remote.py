"""Upload to the Hugging Face hub, only when asked for, through huggingface_hub's mixin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eegm2.errors import CheckpointError
from eegm2.model.network import EEGM2
from eegm2.model.unet import UNet
from eegm2.zoo.download import hub_library, reason, remedy


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
    hub = hub_library(name)

    class Shared(hub.ModelHubMixin):  # type: ignore[name-defined]
        """Lets the mixin find our folder format."""

        def _save_pretrained(self, save_directory: Path) -> None:
            model.save_pretrained(save_directory, card=card)

    upload.setdefault("commit_message", "Upload an EEGM2 model")
    try:
        return str(Shared().push_to_hub(name, **upload))
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise CheckpointError(
            f"{name}: the hub did not take the model ({reason(error)}); {remedy(error)}"
        ) from error
