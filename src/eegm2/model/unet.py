"""The paper's convolutional U-Net baseline.

References
----------
EEGM2, arXiv 2502.17873, Table VII ("U-Net"); Ronneberger et al., arXiv 1505.04597.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.model.config import EEGM2Config
from eegm2.model.inputs import check_input
from eegm2.model.pretrained import Pretrained
from eegm2.model.statistics import time_statistics

LEVELS = 4


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two kernel-3 convolutions over time, each followed by ReLU."""
    return nn.Sequential(
        nn.Conv1d(in_channels, out_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv1d(out_channels, out_channels, 3, padding=1),
        nn.ReLU(),
    )


class UNet(Pretrained, nn.Module):
    """Four levels of double convolutions, w to 16w channels, transposed convolutions upwards.

    Lengths that are no multiple of 16 are zero-padded at the end and cropped again.

    Parameters
    ----------
    config : EEGM2Config
        Supplies n_chans and width.
    """

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        self.config = config
        w = config.width
        widths = [w * 2**level for level in range(LEVELS + 1)]
        self.down = nn.ModuleList(
            double_conv(i, o) for i, o in zip([config.n_chans, *widths], widths[:LEVELS])
        )
        self.bottleneck = double_conv(widths[-2], widths[-1])
        self.upsample = nn.ModuleList(nn.ConvTranspose1d(2 * o, o, 2, stride=2) for o in widths[:LEVELS])
        self.up = nn.ModuleList(double_conv(2 * o, o) for o in widths[:LEVELS])
        self.output = nn.Conv1d(w, config.n_chans, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct `x`, shape (batch, n_chans, n_times)."""
        check_input(x, self.config.n_chans, weight=next(self.parameters(), None))
        n_times = x.shape[-1]
        x = self._pad(x)
        skips = []
        for stage in self.down:
            skips.append(stage(x))
            x = F.max_pool1d(skips[-1], 2)
        x = self.bottleneck(x)
        for level in reversed(range(LEVELS)):
            x = self.up[level](torch.cat([skips[level], self.upsample[level](x)], dim=1))
        return self.output(x)[..., :n_times]

    def encode(self, x: Tensor) -> Tensor:
        """Return the third level after pooling, (batch, 4w, n_times // 8), as for EEGM2."""
        check_input(x, self.config.n_chans, weight=next(self.parameters(), None))
        steps = x.shape[-1] // 8
        x = self._pad(x)
        for stage in self.down[:3]:
            x = F.max_pool1d(stage(x), 2)
        return x[..., :steps]

    def features(self, x: Tensor) -> Tensor:
        """Return the nine time statistics of the representation, (batch, 9 * 4w)."""
        return time_statistics(self.encode(x))

    @staticmethod
    def _pad(x: Tensor) -> Tensor:
        return F.pad(x, (0, -x.shape[-1] % 2**LEVELS))
