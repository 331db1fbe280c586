"""The networks that benchmarks/gpu.py measures, their training step, and its memory by counting tensors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eegm2 import EEGM2, EEGM2Config
from eegm2.model.block import SequenceBlock
from eegm2.training.config import PretrainConfig
from eegm2.training.objectives import Objective
from eegm2.training.optimiser import parameter_groups

#: Peak memory in the authors' logs: batch 64, one RTX 6000 Ada, float32.
AUTHORS_MB = {1280: 3874, 3840: 10991, 7680: 21640, 12800: 35877}
AIM_MB = 12_000  # at 12,800 steps
SFREQ_HZ = 128.0


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    device: str
    batch: int = 64
    n_chans: int = 16
    width: int = 64
    lengths: tuple[int, ...] = tuple(AUTHORS_MB)
    forward_lengths: tuple[int, ...] = (50, 200, 800, 3000, 6000, 12_000)
    windows: int = 8
    repeats: int = 10
    pretrain_windows: int = 2048


DRY = Sizes("cpu", 3, 4, 8, (64, 96), (50, 72), 2, 1, 16)


class Peer(nn.Module):
    """mamba_ssm's module in the place of ours: the same parameters by the same names."""

    def __init__(self, ours: nn.Module, channels: int, make: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.inner = make(
            d_model=channels,
            d_state=ours.d_state,
            d_conv=ours.d_conv,
            expand=ours.d_inner // channels,
            headdim=ours.headdim,
            ngroups=ours.ngroups,
        ).to(next(ours.parameters()).device)
        self.inner.load_state_dict(ours.state_dict())

    def forward(self, u: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Mix over time, as our mixers do."""
        return self.inner(u), None


def peer_module(dry: bool) -> tuple[Callable[..., nn.Module] | None, str]:
    """Return mamba_ssm's Mamba2, or why there is none; in a dry run a stand-in that computes the same."""
    try:
        from mamba_ssm import Mamba2

        return Mamba2, "mamba_ssm.Mamba2"
    except Exception as error:
        if not dry:
            return None, f"mamba_ssm cannot be imported ({error})"

    class StandIn(nn.Module):
        def __init__(self, d_model: int, **options: int) -> None:
            super().__init__()
            from eegm2.model.mamba2 import Mamba2

            config = EEGM2Config.preset("eegm2", n_chans=4, width=8).replace(**options)
            for name, value in Mamba2(d_model, config).named_children():
                self.add_module(name, value)
            self._ours = [Mamba2(d_model, config)]
            self.dt_bias, self.A_log, self.D = (getattr(self._ours[0], n) for n in ("dt_bias", "A_log", "D"))
            for name in ("in_proj", "conv1d", "norm", "out_proj"):
                setattr(self, name, getattr(self._ours[0], name))

        def forward(self, u: Tensor) -> Tensor:
            return self._ours[0](u)[0]

    return StandIn, "a stand-in for mamba_ssm.Mamba2 (dry run)"


def network(sizes: Sizes, form: str, make_peer: Callable[..., nn.Module] | None) -> EEGM2:
    """Return ours, ours with checkpointed blocks, or the one with mamba_ssm's mixer, of equal weights."""
    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=sizes.n_chans, width=sizes.width))
    if sizes.device != "cpu":  # nor may tensors that are only counted be moved
        model = model.to(sizes.device)
    if form == "checkpointed":
        model.checkpoint_blocks(windows=sizes.windows)
    elif form == "mamba_ssm":
        assert make_peer is not None
        for block in [module for module in model.modules() if isinstance(module, SequenceBlock)]:
            block.mixer = Peer(block.mixer, block.norm.normalized_shape[0], make_peer)
    return model


class Step:
    """A training step as pretraining makes it: loss of Eq. 1, clipping, AdamW."""

    def __init__(self, model: EEGM2, sizes: Sizes, length: int, precision: str) -> None:
        self.model, self.sizes = model.train(), sizes
        torch.manual_seed(1)
        self.x = torch.randn(sizes.batch, sizes.n_chans, length, device=sizes.device)
        self.objective = Objective(PretrainConfig(), SFREQ_HZ)
        self.optimizer = torch.optim.AdamW(parameter_groups(model, 1e-2), lr=1e-4)
        self.half = precision == "bf16"

    def __call__(self) -> float:
        """Make one step; return its loss."""
        context = torch.autocast(self.sizes.device, dtype=torch.bfloat16) if self.half else nullcontext()
        with context:
            loss = self.objective(self.model, self.x, range(self.sizes.batch)).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())


def predict(sizes: Sizes) -> list[dict[str, Any]]:
    """Return the peak memory of a step by counting the tensors of the torch form; nothing is computed."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    os.environ["EEGM2_BACKEND"] = "chunked"  # as on a card without libraries
    rows = []
    for form in ("ours", "checkpointed"):
        for length in sizes.lengths:
            with FakeTensorMode():
                step = Step(network(sizes, form, None), sizes, length, "fp32")
                tracker = MemTracker()
                tracker.track_external(step.model, step.optimizer, step.x)
                with tracker:
                    loss = step.objective(step.model, step.x, range(sizes.batch)).loss
                    loss.backward()
                    step.optimizer.step()
            peak = sum(place["Total"] for place in tracker.get_tracker_snapshot("peak").values()) / 2**20
            rows.append({"form": form, "length": length, "predicted_peak_mb": round(peak)})
            print(rows[-1], file=sys.stderr, flush=True)
    return rows
