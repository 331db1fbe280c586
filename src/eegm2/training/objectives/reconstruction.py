"""Reconstruction: Eq. 1 and its ablations, on whole, masked or noisy windows.

The transform and the sums run in float32 or better whatever the autocast.

References
----------
Hong, Mackellar, Ghane, "EEGM2", arXiv 2502.17873, Eq. 1 and section 5.6 (S2 is the L1 term alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eegm2.training.objectives.augment import Augment
from eegm2.training.objectives.base import Objective, Origin, Setting, refuse_network
from eegm2.training.objectives.options import Loss, Norm, ObjectiveOptions, Spectrum

OBJECTIVES = {"reconstruction": "Reconstruction", "masked": "Reconstruction", "denoising": "Reconstruction"}


class Losses(NamedTuple):
    """One batch's loss, and its parts for the log (detached)."""

    loss: Tensor
    l1: Tensor
    spectral: Tensor


def spectral_distance(
    y: Tensor, x: Tensor, *, spectrum: Spectrum = "complex", norm: Norm = "backward"
) -> Tensor:
    """Return the mean squared distance of two spectra over time.

    ``complex``: ``mean |rfft(x) - rfft(y)|²``, which by Parseval is a scaled mean squared error over time.
    ``amplitude``: ``mean (|rfft(x)| - |rfft(y)|)²``, which does not see the phase.

    Parameters
    ----------
    y, x : Tensor, shape (..., n_times)
        Reconstruction and target.
    spectrum : {"complex", "amplitude"}
        What is compared.
    norm : {"backward", "ortho", "forward"}
        Normalisation of the transform: none (the paper's; the term grows with n_times), ``1/√n_times``,
        ``1/n_times``.

    References
    ----------
    EEGM2, arXiv 2502.17873, Eq. 1: its text says amplitude, the formula and the authors' code are complex.
    """
    if spectrum == "complex":
        difference = torch.fft.rfft(x - y, norm=norm)
        return (difference.real.square() + difference.imag.square()).mean()
    return (torch.fft.rfft(x, norm=norm).abs() - torch.fft.rfft(y, norm=norm).abs()).square().mean()


def reconstruction_loss(
    y: Tensor,
    x: Tensor,
    *,
    loss: Loss = "l1+spectral",
    spectrum: Spectrum = "complex",
    norm: Norm = "backward",
    alpha: float = 1.0,
    beta: float = 1.0,
    hidden: Tensor | None = None,
) -> Losses:
    """Return Eq. 1, ``alpha * mean|x - y| + beta * mean|rfft(x) - rfft(y)|²``, or one of its ablations.

    Parameters
    ----------
    y : Tensor, shape (batch, n_chans, n_times)
        Reconstruction; any floating type.
    x : Tensor, shape (batch, n_chans, n_times)
        Target.
    loss : {"l1+spectral", "l1", "mse+spectral"}
        Eq. 1; ``alpha * mean|x - y|`` alone (S2); squares in place of absolute values in Eq. 1.
    spectrum, norm
        See :func:`spectral_distance`.
    alpha, beta : float
        Weights of the time and the spectral term.
    hidden : Tensor of bool, shape (batch, n_chans, n_times), optional
        Only these samples count: the others are taken as equal, and means are over the hidden share.

    Raises
    ------
    ValueError
        If the shapes differ; the message gives both.
    """
    if y.shape != x.shape:
        raise ValueError(f"reconstruction {tuple(y.shape)} and target {tuple(x.shape)} differ in shape")
    dtype = torch.promote_types(torch.promote_types(y.dtype, x.dtype), torch.float32)
    with torch.autocast(device_type=x.device.type, enabled=False):
        y, x = y.to(dtype), x.to(dtype)
        share: Tensor | float = 1.0
        if hidden is not None:
            share = hidden.to(dtype).mean().clamp_min(1.0 / hidden.numel())
            y, x = y * hidden, x * hidden
        l1 = (x - y).abs().mean() / share
        with torch.set_grad_enabled(torch.is_grad_enabled() and loss != "l1"):
            spectral = spectral_distance(y, x, spectrum=spectrum, norm=norm) / share
        if loss == "l1":
            total = alpha * l1
        else:
            time = l1 if loss == "l1+spectral" else (x - y).square().mean() / share
            total = alpha * time + beta * spectral
    return Losses(total, l1.detach(), spectral.detach())


def hide(x: Tensor, seeds: Sequence[int], *, patch: int, time_share: float, channel_share: float) -> Tensor:
    """Choose what the masked objective hides.

    Parameters
    ----------
    x : Tensor, shape (batch, n_chans, n_times)
        Windows; only shape and device matter.
    seeds : sequence of int
        One per window.
    patch : int
        Length of a time patch in samples; a patch is hidden in every channel.
    time_share, channel_share : float
        Share of the patches, and of the channels (hidden whole), each rounded to a number of its own; at
        least one patch or channel is hidden where its share is above zero, and never all of them.

    Returns
    -------
    Tensor of bool, shape (batch, n_chans, n_times)
        True where hidden.
    """
    _, n_chans, n_times = x.shape
    n_patches = -(-n_times // patch)
    hidden = torch.zeros(x.shape, dtype=torch.bool)
    for window, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        for chosen in torch.randperm(n_patches, generator=generator)[
            : _count(time_share, n_patches)
        ].tolist():
            hidden[window, :, chosen * patch : (chosen + 1) * patch] = True
        channels = torch.randperm(n_chans, generator=generator)[: _count(channel_share, n_chans)]
        hidden[window, channels] = True
    return hidden.to(x.device)


def _count(share: float, total: int) -> int:
    """Return how many of `total` a share is: none for 0, else at least one, never all of several."""
    if share == 0:
        return 0
    return min(max(round(share * total), 1), max(total - 1, 1))


def add_noise(x: Tensor, seeds: Sequence[int], *, noise: float, pops: float) -> Tensor:
    """Return the windows with white noise and electrode pops, what the denoising objective removes.

    Parameters
    ----------
    x : Tensor, shape (batch, n_chans, n_times)
        Clean windows.
    seeds : sequence of int
        One per window.
    noise : float
        Standard deviation of the noise, in standard deviations of each channel.
    pops : float
        Probability, per channel, of a pop: a jump of 5 to 20 standard deviations of either sign that decays
        over a tenth of the window.
    """
    n_chans, n_times = x.shape[-2:]
    steps = torch.arange(n_times)
    added = torch.empty(x.shape, dtype=torch.float32)
    for window, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        added[window] = noise * torch.randn(n_chans, n_times, generator=generator)
        popped, size, sign, onset = torch.rand(4, n_chans, 1, generator=generator)
        height = (popped < pops) * (5 + 15 * size) * torch.where(sign < 0.5, -1.0, 1.0)
        after = steps - (onset * n_times).floor()
        added[window] += torch.where(
            after >= 0, height * torch.exp(-after.clamp_min(0) / (0.1 * n_times)), 0.0
        )
    return x + added.to(x) * x.std(dim=-1, keepdim=True, correction=0)


class Reconstruction(Objective):
    """Reconstruct the window: as it is (the paper's task), where it was hidden, or without added noise.

    Gains, signs and references that augmentation changes are to be reconstructed; channels that it leaves out
    and noise that it adds are not.

    Parameters
    ----------
    options : ObjectiveOptions
        Task, loss and their numbers.
    sfreq_hz : float
        Sampling rate of the windows, for the length of time patches.
    augment : Augment, optional
        Changes training windows.

    Examples
    --------
    >>> import torch
    >>> from eegm2.training.objectives.options import ObjectiveOptions
    >>> objective = Reconstruction(ObjectiveOptions(objective="masked"), sfreq_hz=128.0)
    >>> x = torch.ones(2, 4, 256)
    >>> float(objective(lambda seen: torch.ones_like(seen), x, seeds=[1, 2]).loss)
    0.0
    """

    terms = Losses._fields

    def __init__(self, options: ObjectiveOptions, sfreq_hz: float, augment: Augment | None = None) -> None:
        super().__init__()
        self.options: ObjectiveOptions = options
        self.augment = augment
        self.patch = max(1, round(options.mask_patch_s * sfreq_hz))

    @classmethod
    def build(cls, setting: Setting) -> Reconstruction:
        """Return the task of a run; refuse a network without decoder."""
        config, shape = setting.config, setting.network.config
        refuse_network(setting, shape.architecture == "unet" or shape.decoder, "a network with a decoder")
        return cls(config, setting.pool.sfreq_hz, Augment(config, setting.pool.sfreq_hz))

    def forward(self, model: Any, x: Tensor, seeds: Sequence[int], origin: Origin | None = None) -> Losses:
        """Return the loss of `model` on windows `x`, (batch, n_chans, n_times), with a seed for each."""
        options, kept = self.options, None
        if self.training and self.augment is not None:
            x = self.augment.changed(x, seeds)
        seen, hidden = x, None
        if options.objective == "masked":
            mask = hide(
                x, seeds, patch=self.patch, time_share=options.mask_time, channel_share=options.mask_channels
            )
            seen = x.masked_fill(mask, 0.0)
            hidden = mask if options.mask_loss == "hidden" else None
        elif options.objective == "denoising":
            seen = add_noise(x, seeds, noise=options.noise, pops=options.pops)
        if self.training and self.augment is not None:
            seen = self.augment.covered(seen, seeds)
            kept = self.augment.kept(x, seeds)
        return reconstruction_loss(
            model(seen if kept is None else seen * kept[..., None]),
            x,
            loss=options.loss,
            spectrum=options.spectrum,
            norm=options.norm,
            alpha=options.alpha,
            beta=options.beta,
            hidden=hidden,
        )
