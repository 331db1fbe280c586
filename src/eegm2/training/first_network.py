"""The network that a pretraining begins with."""

from __future__ import annotations

from eegm2.data.electrodes import for_electrodes
from eegm2.data.windows.pool import StorePool
from eegm2.model.network import EEGM2, build_model
from eegm2.model.unet import UNet
from eegm2.training.config import PretrainConfig


def first_network(pool: StorePool, config: PretrainConfig) -> EEGM2 | UNet:
    """Return a run's network with its first weights, for the electrodes of the first store."""
    model = build_model(config.network_config(len(pool.montages[0]), pool.sfreq_hz))
    if isinstance(model, EEGM2):
        if model.config.any_electrodes:
            model = for_electrodes(model, pool.montages[0])
        if config.checkpoint_blocks:
            model.checkpoint_blocks(windows=config.checkpoint_windows)
    return model
