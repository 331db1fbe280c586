"""How strongly a network's first layers read each electrode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from eegm2.model.fused import embedding_weights

if TYPE_CHECKING:
    from eegm2.model.network import EEGM2
    from eegm2.model.unet import UNet


def electrode_weights(model: EEGM2 | UNet) -> dict[str, NDArray[np.float64]]:
    """Return the size of the weights by which a network reads each of its electrodes.

    The root of the sum of squares over what reads the electrode, relative to the mean over electrodes. It
    says what enters the network, not what the answer depends on: later layers may undo it.

    Parameters
    ----------
    model : EEGM2 or UNet
        For the electrodes that it is loaded for.

    Returns
    -------
    dict of str to array, shape (n_chans,)
        "first layer"; of a network for any electrodes "virtual channels" as well, from which both its paths
        read.
    """
    encoder = getattr(model, "encoder", None)
    if encoder is None:
        first = next(layer for layer in model.modules() if isinstance(layer, nn.Conv1d))
        return {"first layer": _sizes(first.weight)}
    kernel = embedding_weights(encoder)[0].detach()
    virtual = getattr(model.trunk, "electrodes", None)
    if virtual is None:
        return {"first layer": _sizes(kernel)}
    mixing = virtual.mixing().detach()
    read = (kernel.double().transpose(1, 2) @ mixing.double()).transpose(1, 2)
    return {"first layer": _sizes(read), "virtual channels": _sizes(mixing[:, :, None])}


def _sizes(kernel: Tensor) -> NDArray[np.float64]:
    """Return the root of the squares of (outputs, n_chans, taps) summed per channel, over their mean."""
    size = kernel.detach().double().square().sum((0, 2)).sqrt()
    made: NDArray[np.float64] = (size / size.mean().clamp_min(1e-30)).cpu().numpy()
    return made
