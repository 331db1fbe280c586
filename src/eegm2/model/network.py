"""The EEGM2 network: encoder, mediator and decoder in a U over time.

Convolutions keep (batch, channels, time), sequence blocks (batch, time, channels).

References
----------
Hong, Mackellar, Ghane, "EEGM2", arXiv 2502.17873, section 3 and Fig. 2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.errors import ConfigError
from eegm2.model.block import SequenceBlock
from eegm2.model.config import EEGM2Config
from eegm2.model.inputs import check_input
from eegm2.model.statistics import time_statistics
from eegm2.model.unet import UNet

BRANCH_KERNELS = (1, 3, 7)


def conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv1d:
    """Return a convolution over time that keeps the length (zero padding)."""
    return nn.Conv1d(in_channels, out_channels, kernel, padding=kernel // 2)


def pool(x: Tensor) -> Tensor:
    """Halve the time axis by the maximum of pairs; an odd last step is dropped.

    The two-dimensional form keeps the time axis dynamic in ONNX export, the one-dimensional one freezes it.
    """
    return F.max_pool2d(x.unsqueeze(2), (1, 2)).squeeze(2)


def over_time(block: SequenceBlock, x: Tensor) -> Tensor:
    """Apply a sequence block to (batch, channels, time)."""
    return block(x.transpose(1, 2))[0].transpose(1, 2)


class MultiBranchEmbedding(nn.Module):
    """Receptive fields of 1, 3 and 7 samples in parallel, fused to w channels."""

    def __init__(self, n_chans: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv(n_chans, width, kernel) for kernel in BRANCH_KERNELS)
        self.fuse = conv(len(BRANCH_KERNELS) * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Embed (batch, n_chans, time) to (batch, width, time)."""
        return self.fuse(torch.cat([branch(x) for branch in self.branches], dim=1))


class Encoder(nn.Module):
    """Input embedding and three levels, each followed by a halving of time."""

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        w = config.width
        multi = config.embedding == "branches"
        self.embedding = MultiBranchEmbedding(config.n_chans, w) if multi else conv(config.n_chans, w, 3)
        self.linear1 = nn.Linear(w, w)
        self.block1 = SequenceBlock(w, config)
        self.conv2 = conv(w, 2 * w, 3)
        self.conv3 = conv(2 * w, 4 * w, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return the representation (batch, 4w, T // 8) and the skips (T; w), (T // 2; 2w), (T // 4; 4w)."""
        x1 = self.embedding(x).transpose(1, 2)
        x1 = self.block1(self.linear1(x1))[0].transpose(1, 2)
        x2 = self.conv2(pool(x1))
        x3 = self.conv3(pool(x2))
        return pool(x3), (x1, x2, x3)


class Mediator(nn.Module):
    """Linear, sequence block, linear at an eighth of the time resolution."""

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        channels = config.representation_channels
        self.linear_in = nn.Linear(channels, channels)
        self.block = SequenceBlock(channels, config)
        self.linear_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 4w, steps) to the same shape."""
        y, _ = self.block(self.linear_in(x.transpose(1, 2)))
        return self.linear_out(y).transpose(1, 2)


class Decoder(nn.Module):
    """Three levels of interpolation, skip connection and convolution, and the output projection."""

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        w = config.width
        self.conv3 = conv(8 * w, 4 * w, 3)
        self.block3 = SequenceBlock(4 * w, config)
        self.conv2 = conv(6 * w, 2 * w, 3)
        self.block2 = SequenceBlock(2 * w, config)
        self.conv1 = conv(3 * w, w, 3)
        self.output = conv(w, config.n_chans, 1)

    def forward(self, x: Tensor, skips: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Map the mediator's output and the encoder's skips to (batch, n_chans, T)."""
        x1, x2, x3 = skips
        x = over_time(self.block3, self.conv3(self.join(x3, x)))
        x = over_time(self.block2, self.conv2(self.join(x2, x)))
        return self.output(self.conv1(self.join(x1, x)))

    @staticmethod
    def join(skip: Tensor, x: Tensor) -> Tensor:
        """Interpolate `x` to the skip's length and put it behind the skip's channels."""
        up = F.interpolate(x, size=skip.shape[-1], mode="linear", align_corners=False)
        return torch.cat([skip, up], dim=1)


class EEGM2(nn.Module):
    """EEGM2, any variant but the U-Net: reconstructs raw EEG, and encodes it.

    Parameters
    ----------
    config : EEGM2Config
        Shape of the network, see :meth:`EEGM2Config.preset`.

    Examples
    --------
    >>> import torch
    >>> from eegm2 import EEGM2, EEGM2Config
    >>> model = EEGM2(EEGM2Config.preset("eegm2", n_chans=14, width=16))
    >>> x = torch.randn(2, 14, 512)
    >>> model(x).shape, model.encode(x).shape, model.features(x).shape
    (torch.Size([2, 14, 512]), torch.Size([2, 64, 64]), torch.Size([2, 576]))
    """

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        if config.architecture != "eegm2":
            raise ConfigError(
                f"EEGM2: got architecture '{config.architecture}'; build_model(config) builds every kind"
            )
        self.config = config
        self.encoder = Encoder(config)
        self.mediator = Mediator(config) if config.decoder else None
        self.decoder = Decoder(config) if config.decoder else None

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct the input; the light preset returns the representation instead.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            EEG, scaled as in training; n_times >= 8.

        Returns
        -------
        Tensor, shape (batch, n_chans, n_times), or (batch, 4w, n_times // 8) for light.

        Raises
        ------
        ValueError
            If the shape does not fit; the message gives it and what is expected.
        """
        check_input(x, self.config.n_chans)
        representation, skips = self.encoder(x)
        if self.mediator is None or self.decoder is None:
            return representation
        return self.decoder(self.mediator(representation), skips)

    def encode(self, x: Tensor) -> Tensor:
        """Return the representation F, (batch, 4w, n_times // 8), of `x`, (batch, n_chans, n_times)."""
        check_input(x, self.config.n_chans)
        return self.encoder(x)[0]

    def features(self, x: Tensor) -> Tensor:
        """Return the nine time statistics of the representation, (batch, 9 * 4w)."""
        return time_statistics(self.encode(x))

    def light(self) -> EEGM2:
        """Return the encoder alone (EEGM2 Light), sharing this model's weights."""
        model = EEGM2(self.config.replace(decoder=False))
        model.encoder = self.encoder
        return model.train(self.training)


def build_model(config: EEGM2Config) -> EEGM2 | UNet:
    """Build any network of the family from its configuration, with fresh weights."""
    return UNet(config) if config.architecture == "unet" else EEGM2(config)
