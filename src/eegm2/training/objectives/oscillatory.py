"""Predict the oscillations of what is hidden: band power, covariances and a teacher's states.

Chunks of time and the electrodes around a random one are hidden. From what is left the network predicts, for
every hidden patch and (by a second head, from the pooled state alone) for the whole window, what an unmasked
view says of it. No decoder takes part, so nothing can be passed on at full resolution.

References
----------
Foumani et al., "EEG2Rep" (arXiv 2402.17772), for latents of an averaged teacher and masks in chunks.
Baevski et al., "data2vec" (arXiv 2202.03555), for normalised states of a teacher as targets.
El Ouahidi et al., "REVE" (arXiv 2510.21585), for the second head.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.errors import ConfigError
from eegm2.training.objectives.augment import FEWEST, Augment
from eegm2.training.objectives.base import Objective, Origin, Setting, refuse_network
from eegm2.training.objectives.hiding import hidden_patches, near_electrodes
from eegm2.training.objectives.neighbours import Neighbourhoods
from eegm2.training.objectives.regularise import contrast_term, covariance_term, variance_term
from eegm2.training.objectives.targets import BandPower, Standard, Tangents, covariance_tokens, less_mean
from eegm2.training.objectives.views import EncoderView, TokenView

OBJECTIVES = {"oscillatory": "Oscillatory"}
POOLED = "pooled_"
REGULAR = ("neighbours", "variance", "covariance", "contrast")
_HEAD = 256
_PROJECTION = 64


class Oscillatory(Objective):
    """Masked prediction of oscillatory targets; see the module.

    Parameters
    ----------
    config : PretrainConfig
        Its options of this task and of augmentation.
    network : EEGM2
        With its first weights, of which targets keep a copy.
    ch_names : sequence of sequence of str
        Channels of each store.
    sfreq_hz : float
        Sampling rate.

    Raises
    ------
    ConfigError
        If options do not fit one another or the network.
    """

    decoder = False

    def __init__(self, config: Any, network: Any, ch_names: Sequence[Sequence[str]], sfreq_hz: float) -> None:
        super().__init__()
        self.options = config
        tokens = network.config.embedding == "covariance"
        self.view: TokenView | EncoderView
        if tokens:
            self.view = TokenView(network, ch_names, config.read_positions())
        else:
            places = config.hide_radius > 0
            self.view = EncoderView(network, ch_names, config.read_positions(), places=places)
        self.augment = Augment(config, sfreq_hz)
        step = self.view.step
        covariances = covariance_tokens(network.config, network, sfreq_hz)
        step = math.lcm(step, covariances.config.token_step)
        self.patch = step * max(1, round(config.patch_s * sfreq_hz / step))
        sizes: dict[str, int] = {}
        if config.band_power:
            self.band_powers = BandPower(sfreq_hz, self.patch)
            sizes["band_power"] = self.band_powers.n_bands * self.view.n_chans
        if config.tangent or config.neighbours:
            self.tangents = Tangents(covariances, self.patch)
        if config.tangent:
            sizes["tangent"] = self.tangents.size
        if config.latent:
            sizes["latent"] = self.view.size
        needs_teacher = config.latent or config.contrast
        self.teacher = copy.deepcopy(network).requires_grad_(False) if needs_teacher else None
        self.sizes = sizes
        size, out = self.view.size, sum(sizes.values())
        if out:
            self.patch_head = nn.Sequential(nn.Linear(size, _HEAD), nn.GELU(), nn.Linear(_HEAD, out))
            self.pooled_head = nn.Linear(size, out) if config.pooled else None
        self.projection = nn.Linear(size, _PROJECTION) if config.contrast else None
        self.neighbourhoods: Neighbourhoods | None = None
        if config.neighbours:
            self.neighbourhoods = Neighbourhoods(self.tangents, self.view.inner, config.neighbours_s)
            self.neighbours_head = nn.Linear(size, self.tangents.size)
        named = {
            **sizes,
            **({POOLED + name: number for name, number in sizes.items()} if config.pooled else {}),
        }
        self.standards = nn.ModuleDict(
            {name: Standard(len(ch_names), number) for name, number in named.items() if "latent" not in name}
        )
        self.terms = ("loss", *named, *(name for name in REGULAR if getattr(config, name)))

    @classmethod
    def build(cls, setting: Setting) -> Oscillatory:
        """Return the task of a run; refuse what it cannot train or compare."""
        config, network = setting.config, setting.network
        refuse_network(setting, network.config.architecture == "eegm2", "a network with an encoder")
        if config.strategy == "fsdp":
            raise ConfigError("strategy: got fsdp, which shards weights that the teacher averages; use ddp")
        if config.compile:
            raise ConfigError(
                "compile: objective oscillatory runs parts of the network that are not compiled; leave it off"
            )
        return cls(config, network, setting.pool.montages, setting.pool.sfreq_hz)

    def forward(
        self, model: Any, x: Tensor, seeds: Sequence[int], origin: Origin | None = None
    ) -> tuple[Tensor, ...]:
        """Return the weighted sum of the terms, and each; an error of 1 is that of always the mean."""
        origin = origin or Origin(0, [0] * len(x))
        groups = torch.tensor(origin.recording_numbers, device=x.device)
        n_patches = x.shape[-1] // self.patch
        if n_patches < 2:
            raise ConfigError(
                f"window_s: a window holds {n_patches} patches of {self.patch} samples, expected at least 2; "
                "choose longer windows or a smaller patch_s"
            )
        hidden = hidden_patches(
            seeds, n_patches, share=self.options.hide_time, chunks=self.options.hide_chunks
        ).to(x.device)
        with torch.no_grad():
            targets = self._targets(x, origin.store_number, groups, n_patches)
            kept = self._kept(x, seeds, origin.store_number)
            seen = x
            if self.training:
                seen = self.augment.covered(self.augment.changed(x, seeds), seeds)
        steps = self.patch // self.view.step
        hidden_steps = self._steps(hidden.repeat_interleave(steps, dim=1), x.shape[-1] // self.view.step)
        states = self.view.states(model, seen, origin.store_number, kept, hidden_steps)
        pooled = self.view.pool(states, model.config)
        of_patch = states[:, : n_patches * steps].unflatten(1, (n_patches, steps)).mean(2)
        counted = hidden if bool(hidden.any()) else torch.ones_like(hidden)
        with torch.autocast(x.device.type, enabled=False):
            parts = self._predicted(of_patch.float(), pooled.float(), targets, counted)
            parts |= self._around(pooled.float(), origin)
            parts |= self._regular(pooled.float(), targets, groups)
            loss = sum(self._weight(name) * value for name, value in parts.items())
            assert isinstance(loss, Tensor)
        return loss, *(parts[name].detach() for name in self.terms[1:])

    @torch.no_grad()
    def follow(self, model: Any, progress: float) -> None:
        """Let the teacher follow the network, ever more slowly."""
        if self.teacher is None:
            return
        first, last = self.options.teacher_decay, self.options.teacher_decay_end
        decay = last - (last - first) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        for mine, theirs in zip(self.teacher.parameters(), model.parameters()):
            mine.lerp_(theirs.to(mine), 1 - decay)

    @staticmethod
    def _steps(hidden: Tensor, n_steps: int) -> Tensor:
        """Return hidden steps with those that no patch holds, which stay, (batch, n_steps)."""
        return F.pad(hidden, (0, n_steps - hidden.shape[1]))

    def _weight(self, name: str) -> float:
        weight = float(getattr(self.options, name.removeprefix(POOLED)))
        return weight * self.options.pooled if name.startswith(POOLED) else weight

    def _kept(self, x: Tensor, seeds: Sequence[int], store_number: int) -> Tensor | None:
        """Return the channels that the network sees, None for all."""
        kept = self.augment.kept(x, seeds) if self.training else None
        montages, radius = self.view.montages, self.options.hide_radius
        if montages is None or radius == 0 or x.shape[1] <= FEWEST:
            return kept
        kept = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if kept is None else kept
        return near_electrodes(seeds, montages.places(store_number).cpu(), kept, radius=radius, fewest=FEWEST)

    def _targets(self, x: Tensor, store_number: int, groups: Tensor, n_patches: int) -> dict[str, Tensor]:
        """Return the targets of patches and windows by name."""
        found: dict[str, Tensor] = {}
        inner = self.view.inner(x, store_number).float()
        if self.options.band_power:
            power = self.band_powers(inner)
            found |= {"band_power": power, "pooled_band_power": power.mean(1)}
        if self.options.tangent:
            tangent, whole = self.tangents(inner)
            if self.options.centre_targets == "recording":
                tangent, whole = less_mean(tangent, groups), less_mean(whole, groups)
            elif self.options.centre_targets == "window":
                tangent = tangent - tangent.mean(1, keepdim=True)
            found |= {"tangent": tangent, "pooled_tangent": whole}
        for name, standard in self.standards.items():  # in one order: processes add up in it
            found[name] = standard(found[name], store_number)
        if self.teacher is not None:
            states = self.view.states(self.teacher, x, store_number, None, None)
            steps = self.patch // self.view.step
            of_patch = states[:, : n_patches * steps].unflatten(1, (n_patches, steps)).mean(2).float()
            found["latent"] = F.layer_norm(of_patch, of_patch.shape[-1:])
            found["teacher"] = self.view.pool(states, self.teacher.config).float()
            found["pooled_latent"] = F.layer_norm(found["teacher"], found["teacher"].shape[-1:])
        return found

    def _predicted(
        self, of_patch: Tensor, pooled: Tensor, targets: dict[str, Tensor], counted: Tensor
    ) -> dict[str, Tensor]:
        """Return the mean squared error of each target."""
        if not self.sizes:
            return {}
        sizes, names = list(self.sizes.values()), list(self.sizes)
        share = counted.to(of_patch)[..., None] / counted.sum()
        found = {}
        for name, guess in zip(names, self.patch_head(of_patch).split(sizes, dim=-1)):
            found[name] = ((guess - targets[name]).square() * share).sum() / guess.shape[-1]
        if self.pooled_head is not None:
            for name, guess in zip(names, self.pooled_head(pooled).split(sizes, dim=-1)):
                found[POOLED + name] = (guess - targets[POOLED + name]).square().mean()
        return found

    def _around(self, pooled: Tensor, origin: Origin) -> dict[str, Tensor]:
        """Return the mean squared error of what the windows around are like, of those that have any."""
        if self.neighbourhoods is None:
            return {}
        if origin.windows is None:
            raise ConfigError("neighbours: needs to know which windows a batch holds; see Origin.of")
        target = self.neighbourhoods(origin.windows, list(origin.numbers)).to(pooled)
        known = ~target.isnan().any(-1)
        error = (self.neighbours_head(pooled) - target.nan_to_num()).square().mean(-1)
        return {"neighbours": (error * known).sum() / known.sum().clamp_min(1)}

    def _regular(self, pooled: Tensor, targets: dict[str, Tensor], groups: Tensor) -> dict[str, Tensor]:
        """Return the terms on pooled states."""
        found = {}
        if self.options.variance:
            found["variance"] = variance_term(pooled) if len(pooled) > 1 else pooled.sum() * 0
        if self.options.covariance:
            found["covariance"] = covariance_term(pooled)
        if self.projection is not None:
            z, target = self.projection(pooled), self.projection(targets["teacher"]).detach()
            found["contrast"] = contrast_term(z, target, groups, self.options.contrast_temperature)
        return found
