"""Models to keep and to share: a folder with weights, header and model card, and the Hugging Face hub."""

from __future__ import annotations

from eegm2.hub.card import model_card
from eegm2.hub.folder import from_pretrained, save_pretrained, share_run
from eegm2.hub.remote import push_to_hub

__all__ = ["from_pretrained", "model_card", "push_to_hub", "save_pretrained", "share_run"]
