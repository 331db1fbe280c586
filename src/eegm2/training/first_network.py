"""The network that a pretraining begins with."""

from __future__ import annotations

from eegm2.data.electrodes import for_electrodes
from eegm2.data.windows.pool import StorePool
from eegm2.model.network import EEGM2, build_model
from eegm2.model.unet import UNet
from eegm2.training.config import PretrainConfig
from eegm2.training.continued import Beginning, take_weights


def first_network(
    pool: StorePool, config: PretrainConfig, beginning: Beginning | None = None
) -> EEGM2 | UNet:
    """Return a run's network for the electrodes of the first store.

    Parameters
    ----------
    pool : StorePool
    config : PretrainConfig
        With the shape of `beginning`, where that is given.
    beginning : Beginning, optional
        Whose weights it takes; random ones by default.
    """
    model = build_model(config.network_config(len(pool.montages[0]), pool.sfreq_hz))
    if isinstance(model, EEGM2) and model.config.any_electrodes:
        model = for_electrodes(model, pool.montages[0], config.read_positions())
    if beginning is not None:
        take_weights(model, beginning, config.init)
    if isinstance(model, EEGM2) and config.checkpoint_blocks:
        model.checkpoint_blocks(windows=config.checkpoint_windows)
    return model
