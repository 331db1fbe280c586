"""The EEGM2 network: encoder, mediator and decoder in a U over time.

Convolutions keep (batch, channels, time), sequence blocks (batch, time, channels).

References
----------
Hong, Mackellar, Ghane, "EEGM2", arXiv 2502.17873, section 3 and Fig. 2.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.errors import ConfigError
from eegm2.model.block import SequenceBlock
from eegm2.model.config import MIXERS, EEGM2Config
from eegm2.model.covariance.trunk import CovarianceTrunk, Tokens
from eegm2.model.features import usual_kind, window_features
from eegm2.model.fused import embedding_weights, is_one_convolution, join_and_convolve, pointwise
from eegm2.model.inputs import check_input
from eegm2.model.layers import MultiBranchEmbedding, TimeConv, convolve_with_gradient, pool
from eegm2.model.pieces import in_pieces
from eegm2.model.pretrained import Pretrained
from eegm2.model.shapes import without_memory
from eegm2.model.unet import UNet
from eegm2.ops import Kept, compiled_products, needs_gradient


def over_time(block: SequenceBlock, x: Tensor) -> Tensor:
    """Apply a sequence block to (batch, channels, time)."""
    return block(x.transpose(1, 2))[0].transpose(1, 2)


class Encoder(nn.Module):
    """Input embedding and three levels, each followed by a halving of time."""

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        w = config.width
        multi, n_chans = config.embedding != "conv3", config.inner_chans
        self.embedding = MultiBranchEmbedding(n_chans, w) if multi else TimeConv(n_chans, w, 3)
        self.linear1 = nn.Linear(w, w)
        self.block1 = SequenceBlock(w, config)
        self.conv2 = TimeConv(w, 2 * w, 3)
        self.conv3 = TimeConv(2 * w, 4 * w, 3)
        self.kept = Kept()

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return the representation (batch, 4w, T // 8) and the skips (T; w), (T // 2; 2w), (T // 4; 4w)."""
        x1 = self.block1(self.embed(x))[0].transpose(1, 2)
        x2 = self.conv2(x1, pooled=True)
        x3 = self.conv3(x2, pooled=True)
        return pool(x3), (x1, x2, x3)

    def embed(self, x: Tensor) -> Tensor:
        """Return embedding and first linear layer of (batch, n_chans, T) as (batch, T, w).

        Where compiled products can, both are one convolution: nothing stands between them.
        """
        weights = (*self.embedding.parameters(), *self.linear1.parameters())
        if not is_one_convolution(self) or not compiled_products(x, weights):
            return self.linear1(self.embedding(x).transpose(1, 2))
        if needs_gradient(x, *weights):
            return convolve_with_gradient(x, *embedding_weights(self)).transpose(1, 2)
        from eegm2.ops.cpu.conv import ConvWeights, convolved

        laid_out = self.kept.of(weights, lambda: ConvWeights.of(*embedding_weights(self)))
        return convolved(x.transpose(1, 2), laid_out)


class Mediator(nn.Module):
    """Linear, sequence block, linear at an eighth of the time resolution."""

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        channels = 4 * config.width
        self.linear_in = nn.Linear(channels, channels)
        self.block = SequenceBlock(channels, config)
        self.linear_out = nn.Linear(channels, channels)
        self.kept_in, self.kept_out = Kept(), Kept()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 4w, steps) to the same shape."""
        y, _ = self.block(pointwise(self.linear_in, x.transpose(1, 2), self.kept_in))
        return pointwise(self.linear_out, y, self.kept_out).transpose(1, 2)


class Decoder(nn.Module):
    """Three levels of interpolation, skip connection and convolution, and the output projection."""

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        w = config.width
        self.conv3 = TimeConv(8 * w, 4 * w, 3)
        self.block3 = SequenceBlock(4 * w, config)
        self.conv2 = TimeConv(6 * w, 2 * w, 3)
        self.block2 = SequenceBlock(2 * w, config)
        self.conv1 = TimeConv(3 * w, w, 3)
        self.output = TimeConv(w, config.n_chans, 1)
        self.kept = (Kept(), Kept(), Kept())

    def forward(self, x: Tensor, skips: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Map the mediator's output and the encoder's skips to (batch, n_chans, T)."""
        (x1, x2, x3), (kept1, kept2, kept3) = skips, self.kept
        x = over_time(self.block3, join_and_convolve(x3, x, kept3, self.conv3))
        x = over_time(self.block2, join_and_convolve(x2, x, kept2, self.conv2))
        return join_and_convolve(x1, x, kept1, self.conv1, self.output)


class EEGM2(Pretrained, nn.Module):
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
        self.trunk = CovarianceTrunk(config) if config.embedding == "covariance" else None
        self.mediator = Mediator(config) if config.decoder else None
        self.decoder = Decoder(config) if config.decoder else None

    @property
    def causal(self) -> bool:
        """Whether its mixer goes on from a state, so that the network can be streamed."""
        return bool(MIXERS.find(self.config.mixer).causal)

    def forward(self, x: Tensor, spread: Tensor | None = None) -> Tensor:
        """Reconstruct the input; networks without decoder return the representation instead.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            EEG, scaled as in training; n_times >= 8, and at least a token with the covariance embedding.
        spread : Tensor, shape (n_harmonics, n_chans) or (batch, n_harmonics, n_chans), optional
            For virtual channels: the map of another montage, see :func:`eegm2.for_electrodes`.

        Returns
        -------
        Tensor, shape (batch, n_chans, n_times), or (batch, representation_channels, steps) without decoder.

        Raises
        ------
        ValueError
            If the shape does not fit; the message gives it and what is expected.
        """
        inner = self._inner(x, spread)
        reconstruct = self.mediator is not None and self.decoder is not None
        pieces = in_pieces(self, x, spread, reconstruct=reconstruct)
        if pieces is not None:
            return pieces
        encoded, skips = self.encoder(inner)
        tokens = None if self.trunk is None else self.trunk(inner, encoded)
        if self.mediator is None or self.decoder is None:
            return encoded if tokens is None else tokens.representation
        if self.trunk is not None and tokens is not None:
            encoded = encoded + self.trunk.raised(tokens.state, encoded.shape[-1])
        return self.decoder(self.mediator(encoded), skips)

    def encode(self, x: Tensor, spread: Tensor | None = None) -> Tensor:
        """Return the representation of `x`, (batch, n_chans, n_times).

        Returns
        -------
        Tensor, shape (batch, 4w, n_times // 8)
            F of the paper. With the covariance embedding (batch, trunk_channels + tangent_size, n_tokens):
            the trunk's state and the tangent vector of every token, see :meth:`tokens`.
        """
        inner = self._inner(x, spread)
        pieces = in_pieces(self, x, spread, reconstruct=False)
        if pieces is not None:
            return pieces
        encoded, _ = self.encoder(inner)
        return encoded if self.trunk is None else self.trunk(inner, encoded).representation

    def tokens(self, x: Tensor, spread: Tensor | None = None, hidden: Tensor | None = None) -> Tokens:
        """Return tangent vectors and trunk states of a network with the covariance embedding.

        Parameters
        ----------
        x, spread
            As for :meth:`forward`.
        hidden : Tensor of bool, shape (batch, n_tokens), optional
            Token steps to hide: their samples are zero to the encoder, count in no covariance, and a learnt
            token stands in their place.

        Raises
        ------
        ConfigError
            If the network has another embedding.
        """
        if self.trunk is None:
            raise ConfigError(
                f"tokens: the embedding is '{self.config.embedding}', only 'covariance' has tokens; "
                "use preset covariance"
            )
        inner = self._inner(x, spread)
        if hidden is not None:
            shown = (~hidden).repeat_interleave(self.config.token_step, dim=1)
            shown = F.pad(shown, (0, inner.shape[-1] - shown.shape[-1]), value=True)
            inner = inner * shown[:, None]
        return self.trunk(inner, self.encoder(inner)[0], hidden)

    def features(self, x: Tensor, spread: Tensor | None = None, kind: str | None = None) -> Tensor:
        """Return features of windows, (batch, n_features).

        Parameters
        ----------
        x, spread
            As for :meth:`forward`.
        kind : str, optional
            See `eegm2.model.features.window_features`; by default the nine time statistics, (batch, 9 * 4w),
            and with the covariance embedding the mean tangent vector.
        """
        return window_features(self.encode(x, spread), kind or usual_kind(self.config), self.config)

    def _inner(self, x: Tensor, spread: Tensor | None) -> Tensor:
        """Check the input and return the channels that the network works on."""
        n_chans = self.config.n_chans if spread is None else spread.shape[-1]
        check_input(x, n_chans, self.config.step_samples, next(self.parameters(), None))
        if self.trunk is not None and self.config.any_electrodes:
            return self.trunk.virtual(x, spread)
        if spread is not None:
            raise ConfigError("spread: this network has no virtual channels; use preset covariance")
        return x

    def with_spread(self, spread: Tensor) -> EEGM2:
        """Return this network for the montage of a map (n_harmonics, n_chans), sharing its weights.

        Costs are those of a network that was made for the montage. See :func:`eegm2.for_electrodes`.

        Raises
        ------
        ConfigError
            If the network has no virtual channels.
        """
        if self.trunk is None or self.trunk.electrodes is None:
            raise ConfigError(
                "electrodes: this network takes the electrodes it was trained on; only the preset covariance "
                "with n_virtual above 0 takes any"
            )
        with without_memory():
            model = EEGM2(self.config.replace(n_chans=spread.shape[-1]))
        model.encoder, model.header = self.encoder, self.header
        model.trunk = self.trunk.lent(model.config, spread)
        return model.train(self.training)

    def checkpoint_blocks(self, on: bool = True, *, windows: int = 0) -> EEGM2:
        """Train with less memory: keep only the input of each sequence block, compute it twice.

        Gradients stay the same. Returns the model itself.

        Parameters
        ----------
        on : bool
        windows : int
            Compute so many windows of the batch at a time, for still less memory; 0: the whole batch.

        References
        ----------
        Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
        """
        for module in self.modules():
            if isinstance(module, SequenceBlock):
                module.checkpointed, module.checkpoint_windows = on, windows
        return self

    def light(self) -> EEGM2:
        """Return the encoder alone (EEGM2 Light), sharing this model's weights."""
        model = EEGM2(self.config.replace(decoder=False))
        model.encoder = self.encoder
        model.trunk = None if self.trunk is None else self.trunk.lent(model.config)
        model.header = self.header
        return model.train(self.training)


def fresh_copy(model: EEGM2 | UNet) -> EEGM2 | UNet:
    """Return a network of the same shape, and for the same electrodes, with fresh weights."""
    made = build_model(model.config)
    if isinstance(made, EEGM2) and isinstance(model, EEGM2) and model.config.any_electrodes:
        assert made.trunk is not None
        assert model.trunk is not None
        assert model.trunk.electrodes is not None
        made.trunk = made.trunk.lent(made.config, model.trunk.electrodes.get_buffer("spread"))
    return made


def build_model(config: EEGM2Config) -> EEGM2 | UNet:
    """Build any network of the family from its configuration, with fresh weights."""
    return UNet(config) if config.architecture == "unet" else EEGM2(config)
