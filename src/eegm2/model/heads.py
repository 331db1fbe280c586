"""What turns a network of the family into a classifier or a regressor.

References
----------
EEGM2, arXiv 2502.17873, section 4.3 (Light and Fine).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.errors import ConfigError
from eegm2.model.config import EEGM2Config
from eegm2.model.features import window_features
from eegm2.model.network import EEGM2
from eegm2.model.statistics import time_statistics
from eegm2.model.unet import UNet

HeadName = Literal["flatten", "statistics", "attention"]
HEADS = ("flatten", "statistics", "attention")

FINE_HIDDEN = 128
LIGHT_HIDDEN = (128, 32)


def light_head(n_features: int, n_outputs: int, dropout: float = 0.5) -> nn.Sequential:
    """Return the Light protocol's perceptron: features → 128 → 32 → n_outputs, ReLU and dropout between."""
    layers: list[nn.Module] = []
    for size in LIGHT_HIDDEN:
        layers += [nn.Linear(n_features, size), nn.ReLU(), nn.Dropout(dropout)]
        n_features = size
    return nn.Sequential(*layers, nn.Linear(n_features, n_outputs))


class FlattenHead(nn.Module):
    """The paper's Fine head: the reconstruction flattened → 128 → ReLU → n_outputs; tied to one length.

    Parameters
    ----------
    n_chans, n_times : int
        Shape of the reconstruction.
    n_outputs : int
        Classes, or 1 for a value.
    dropout : float
        Before the last layer; the paper has none.
    """

    def __init__(self, n_chans: int, n_times: int, n_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = (n_chans, n_times)
        self.hidden = nn.Linear(n_chans * n_times, FINE_HIDDEN)
        self.drop = nn.Dropout(dropout)
        self.out: nn.Module = nn.Linear(FINE_HIDDEN, n_outputs)

    def pooled(self, reconstruction: Tensor) -> Tensor:
        """Map (batch, n_chans, n_times) to (batch, n_chans * n_times)."""
        if tuple(reconstruction.shape[1:]) != self.shape:
            raise ConfigError(
                f"head 'flatten' is tied to (n_chans, n_times) = {self.shape}, got "
                f"{tuple(reconstruction.shape[1:])}; "
                "use head 'statistics' or 'attention' for other lengths"
            )
        return reconstruction.flatten(1)

    def forward(self, features: Tensor) -> Tensor:
        """Map what :meth:`pooled` returns to (batch, n_outputs)."""
        return self.out(self.drop(torch.relu(self.hidden(features))))


class PooledHead(nn.Module):
    """A head for any length: the mediator's output pooled over time, normalised, then a perceptron.

    Parameters
    ----------
    channels : int
        Channels of the pooled sequence, 4w.
    n_outputs : int
        Classes, or 1 for a value.
    pooling : {"statistics", "attention"}
        Nine time statistics per channel, or their mean under learnt softmax weights, one set for each of
        four queries.
    dropout : float
        Before both linear layers.
    """

    QUERIES = 4

    def __init__(
        self, channels: int, n_outputs: int, pooling: str = "statistics", dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.queries = nn.Linear(channels, self.QUERIES) if pooling == "attention" else None
        n_features = channels * (self.QUERIES if self.queries is not None else 9)
        self.mlp = nn.Sequential(
            nn.LayerNorm(n_features),
            nn.Dropout(dropout),
            nn.Linear(n_features, FINE_HIDDEN),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.out: nn.Module = nn.Linear(FINE_HIDDEN, n_outputs)

    def pooled(self, sequence: Tensor) -> Tensor:
        """Map (batch, channels, steps) to (batch, n_features)."""
        if self.queries is None:
            return time_statistics(sequence)
        weights = self.queries(sequence.transpose(1, 2)).softmax(dim=1)
        return (sequence @ weights).flatten(1)

    def forward(self, features: Tensor) -> Tensor:
        """Map what :meth:`pooled` returns to (batch, n_outputs)."""
        return self.out(self.mlp(features))


class TokensHead(nn.Module):
    """A linear head on mean tangent vector and mean trunk state, standardised by running means.

    Parameters
    ----------
    config : EEGM2Config
        Of a network with the covariance embedding.
    n_outputs : int
        Classes, or 1 for a value.
    dropout : float
        Before the linear layer.
    """

    #: Of the features.
    KIND = "tangent_state"

    def __init__(self, config: EEGM2Config, n_outputs: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.BatchNorm1d(config.representation_channels)
        self.drop = nn.Dropout(dropout)
        self.out: nn.Module = nn.Linear(config.representation_channels, n_outputs)
        self.begun = False

    @torch.no_grad()
    def begin_with(self, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Take over a linear model of standardised features; their standardisation then stays as it is.

        Parameters
        ----------
        mean, scale : Tensor, shape (n_features,)
        weight : Tensor, shape (n_outputs, n_features)
        bias : Tensor, shape (n_outputs,)
        """
        assert isinstance(self.out, nn.Linear)
        self.norm.get_buffer("running_mean").copy_(mean)
        self.norm.get_buffer("running_var").copy_((scale.square() - self.norm.eps).clamp_min(0))
        self.out.weight.copy_(weight)
        self.out.bias.copy_(bias)
        self.begun = True

    def pooled(self, representation: Tensor) -> Tensor:
        """Map (batch, representation_channels, n_tokens) to (batch, n_features)."""
        return window_features(representation, self.KIND, self.config)

    def forward(self, features: Tensor) -> Tensor:
        """Map what :meth:`pooled` returns to (batch, n_outputs)."""
        learning = self.training and len(features) > 1 and not self.begun  # one window has no spread
        norm = self.norm
        scaled = F.batch_norm(
            features, norm.running_mean, norm.running_var, norm.weight, norm.bias, learning, 0.1, norm.eps
        )
        return self.out(self.drop(scaled))


class Downstream(nn.Module):
    """A network and a head on it.

    Parameters
    ----------
    network : EEGM2 or UNet
        Pretrained or fresh.
    n_outputs : int
        Classes, or 1 for a value.
    n_times : int
        Samples of a window; binding for ``head="flatten"`` only.
    head : {"flatten", "statistics", "attention"}
        The paper's Fine head, or one for any length. The pooled heads read the mediator (for Light and
        U-Net: the representation), so the decoder is dropped from them. With the covariance embedding they
        read the tokens, and statistics is :class:`TokensHead`.
    dropout : float
        Of the head.

    Raises
    ------
    ConfigError
        If the head is unknown, or "flatten" meets a network without decoder.
    """

    def __init__(
        self,
        network: EEGM2 | UNet,
        n_outputs: int,
        n_times: int,
        head: HeadName = "flatten",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        config = network.config
        if head not in ("flatten", "statistics", "attention"):
            raise ConfigError(f"head: got '{head}', expected flatten, statistics or attention")
        if head == "flatten" and not config.decoder:
            raise ConfigError(
                "head 'flatten' needs a reconstruction, and Light has none; use head 'statistics' or "
                "'attention'"
            )
        self.network = network
        self.head_name = head
        self.n_outputs = n_outputs
        self.head: FlattenHead | PooledHead | TokensHead
        if head == "flatten":
            self.head = FlattenHead(config.n_chans, n_times, n_outputs, dropout)
        elif head == "statistics" and config.embedding == "covariance":
            self.head = TokensHead(config, n_outputs, dropout)
            _drop_what_pooled_heads_do_not_read(network)
        else:
            self.head = PooledHead(config.representation_channels, n_outputs, head, dropout)
            _drop_what_pooled_heads_do_not_read(network)

    @torch.no_grad()
    def in_units(self, mean: float, scale: float) -> None:
        """Let a network that was fitted to ``(value - mean) / scale`` give the value itself."""
        assert isinstance(self.head.out, nn.Linear)
        self.head.out.weight *= scale
        self.head.out.bias.mul_(scale).add_(mean)

    def pooled(self, x: Tensor) -> Tensor:
        """Return what the head decides on, (batch, n_features), of windows (batch, n_chans, n_times)."""
        if self.head_name == "flatten":
            return self.head.pooled(self.network(x))
        sequence = self.network.encode(x)
        mediator = getattr(self.network, "mediator", None)
        return self.head.pooled(sequence if mediator is None else mediator(sequence))

    def answer(self, features: Tensor) -> Tensor:
        """Return logits or values, (batch, n_outputs), of what :meth:`pooled` returns."""
        return self.head(features)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or values, (batch, n_outputs), of windows (batch, n_chans, n_times)."""
        return self.answer(self.pooled(x))


class FeatureDownstream(nn.Module):
    """A network and the Light perceptron on its standardised features: what is tuned streams as it is.

    Parameters
    ----------
    network : EEGM2 or UNet
        Pretrained or fresh; its decoder is not used.
    kind : str
        Features, see :func:`eegm2.model.features.window_features`.
    mean, scale : Tensor, shape (n_features,)
        Standardisation, of the features before tuning; kept as it is.
    n_outputs : int
        Classes, or 1 for a value.
    dropout : float
        Of the perceptron.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        network: EEGM2 | UNet,
        kind: str,
        mean: Tensor,
        scale: Tensor,
        n_outputs: int,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.network, self.kind, self.n_outputs = network, kind, n_outputs
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", scale.float())
        self.head = light_head(len(mean), n_outputs, dropout)
        if isinstance(network, EEGM2):
            for unused in (network.mediator, network.decoder):
                if unused is not None:
                    unused.requires_grad_(False)

    def pooled(self, x: Tensor) -> Tensor:
        """Return features, (batch, n_features), of windows (batch, n_chans, n_times)."""
        return window_features(self.network.encode(x), self.kind, self.network.config)

    def answer(self, features: Tensor) -> Tensor:
        """Return logits or values, (batch, n_outputs), of what :meth:`pooled` returns."""
        return self.head((features - self.mean) / self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or values, (batch, n_outputs), of windows (batch, n_chans, n_times)."""
        return self.answer(self.pooled(x))


def _drop_what_pooled_heads_do_not_read(network: EEGM2 | UNet) -> None:
    """Remove the decoder (U-Net: freeze everything below the third level), which would get no gradient."""
    if isinstance(network, EEGM2):
        network.decoder = None
        if network.trunk is not None:
            network.mediator = network.trunk.rise = None
        return
    read = {id(parameter) for parameter in network.down[:3].parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in read)
