"""Build what is measured, and check that it computes the right thing before it is timed."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from eegm2.benchmark.config import PEERS
from eegm2.benchmark.peers import build_peer
from eegm2.benchmark.plain import PlainEEGM2, ssd_plain
from eegm2.benchmark.suites import Measurement
from eegm2.deploy.long import encode_long, reconstruct_long
from eegm2.model.config import EEGM2Config
from eegm2.model.network import EEGM2
from eegm2.ops import ssd
from eegm2.training.objectives.reconstruction import reconstruction_loss
from eegm2.training.optimiser import adamw

HEADS, HEADDIM, D_STATE = 8, 64, 16  # of the scan alone: the paper's first block
GATE_TIMES = 96
WARM_TIMES = 400
#: Largest error against float64 recurrences, relative to the largest value; half precision is only recorded.
TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 5e-3
#: Gradients below this share of the largest one are sums that cancel; their errors count against the share.
SMALL = 1e-3


class GateError(Exception):
    """What was to be measured computes something else."""


@dataclass
class Subject:
    """What one process measures.

    Attributes
    ----------
    step : callable
        One forward pass or training step on `inputs`.
    inputs : list of Tensor
        At the full size.
    warm_up : callable
        Does the same with a short input on a copy: compiles, and loads what is loaded once.
    facts : dict
        Parameters, errors of the gate, what had to be changed.
    plain : callable
        Builds the plain form of the network for the bound, where it has one.
    """

    step: Callable[..., object]
    inputs: list[Tensor]
    warm_up: Callable[[], object]
    facts: dict[str, Any] = field(default_factory=dict)
    plain: Callable[[], PlainEEGM2] | None = None


@contextlib.contextmanager
def recurrence() -> Iterator[None]:
    """Let every scan run as its step-by-step oracle."""
    before = os.environ.get("EEGM2_BACKEND")
    os.environ["EEGM2_BACKEND"] = "recurrence"
    try:
        yield
    finally:
        os.environ.pop("EEGM2_BACKEND")
        if before is not None:
            os.environ["EEGM2_BACKEND"] = before


def build_subject(m: Measurement) -> Subject:
    """Build what `m` asks for from seed 0, checked against its oracle.

    Raises
    ------
    GateError
        If an error is above the tolerance; the message gives both.
    """
    torch.manual_seed(0)
    if m.work in ("scan", "scan-train"):
        return _scan(m)
    return _peer(m) if m.model in PEERS else _network(m)


def _network(m: Measurement) -> Subject:
    preset = "eegm2" if m.model == "plain" else m.model
    model = EEGM2(EEGM2Config.preset(preset, n_chans=m.n_chans, width=m.width)).eval()
    x = torch.randn(2, m.n_chans, GATE_TIMES)
    checked = awake(model)
    facts: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    facts["error"] = gate(form(checked, m), copy.deepcopy(checked).double(), x, m)
    if m.work == "train":
        facts["gradient_error"] = gradient_gate(form(checked, m), copy.deepcopy(checked).double(), x)
    network = form(model, m)
    inputs = [torch.randn(m.batch, m.n_chans, m.n_times)]
    small = torch.randn(1, m.n_chans, min(WARM_TIMES, m.n_times))

    def warm_up() -> object:
        return _work(copy.deepcopy(network), m)(small)

    mamba2 = (
        model.config.mixer == "mamba2"
        and model.trunk is None
        and m.precision == "float32"
        and m.work != "blocks"
    )
    plain = (lambda: PlainEEGM2(copy.deepcopy(model))) if mamba2 else None
    return Subject(_work(network, m), inputs, warm_up, facts, plain)


def form(model: EEGM2, m: Measurement) -> nn.Module:
    """Return a copy of the network in the form that `m` measures."""
    network: nn.Module = copy.deepcopy(model)
    if m.model == "plain":
        network = PlainEEGM2(copy.deepcopy(model))
    if m.precision == "int8":
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        mixers = {name for name in linear if ".mixer." in name}
        network = torch.ao.quantization.quantize_dynamic(network, mixers, dtype=torch.qint8)
    return network


def awake(model: EEGM2) -> EEGM2:
    """Return a copy whose scans take larger steps: fresh ones hardly move their states, and hide errors."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            if name.endswith(("mixer.dt_bias", "mixer.dt_proj.bias")):
                parameter.add_(3.0)
    return copied


def _peer(m: Measurement) -> Subject:
    network, length, changes = build_peer(m.model, m.n_chans, m.n_times)
    parameters = sum(p.numel() for p in network.parameters())
    inputs = [torch.randn(m.batch, m.n_chans, length)]

    def warm_up() -> object:
        short, n_times, _ = build_peer(m.model, m.n_chans, min(WARM_TIMES, m.n_times))
        return _work(short, m)(torch.randn(1, m.n_chans, n_times))

    facts = {"parameters": parameters, "changes": changes}
    return Subject(_work(network, m), inputs, warm_up, facts)


def _work(network: nn.Module, m: Measurement) -> Callable[[Tensor], object]:
    """Return the forward pass, or the training step with an optimiser of its own."""
    if m.work == "blocks":
        whole = encode_long if m.model in ("light", "covariance") else reconstruct_long
        return lambda x: whole(network, x)
    if m.work == "forward":
        half = torch.autocast("cpu", torch.bfloat16, enabled=m.precision == "bfloat16")

        @torch.no_grad()
        def forward(x: Tensor) -> object:
            with half:
                return network(x)

        return forward
    network.train()
    optimizer = adamw([{"params": list(network.parameters()), "weight_decay": 1e-2}], 1e-4)

    def train(x: Tensor) -> object:
        optimizer.zero_grad(set_to_none=True)
        loss_of(network(x), x).backward()
        optimizer.step()
        return None

    return train


def loss_of(y: Tensor, x: Tensor) -> Tensor:
    """Return Eq. 1 where `y` reconstructs `x`, else the mean square: a stand-in of the same cost as any."""
    return reconstruction_loss(y, x).loss if y.shape == x.shape else y.float().square().mean()


def gate(network: nn.Module, oracle: nn.Module, x: Tensor, m: Measurement) -> float:
    """Return the forward pass's largest error against float64 recurrences, relative to their largest."""
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16, enabled=m.precision == "bfloat16"):
            y = network(x).double()
        with recurrence():
            expected = oracle(x.double())
    error = relative_error(y, expected)
    if m.precision == "float32" and not error < TOLERANCE:
        raise GateError(f"{m.model}: error {error:.1e} against float64, expected below {TOLERANCE:.0e}")
    return error


def gradient_gate(network: nn.Module, oracle: nn.Module, x: Tensor) -> float:
    """Return the largest error of the input's and parameters' gradients; leaves none behind."""
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    loss_of(network(ours), x).backward()
    with recurrence():
        loss_of(oracle(theirs), x.double()).backward()
    pairs = [(ours, theirs), *zip(network.parameters(), oracle.parameters(), strict=True)]
    gradients = [(a.grad.double(), b.grad) for a, b in pairs if a.grad is not None and b.grad is not None]
    floor = SMALL * max(float(expected.abs().max()) for _, expected in gradients)
    errors = [float((y - e).abs().max()) / max(float(e.abs().max()), floor) for y, e in gradients]
    network.zero_grad(set_to_none=True)
    error = max(errors)
    if not error < GRADIENT_TOLERANCE:
        raise GateError(f"gradients: error {error:.1e}, expected below {GRADIENT_TOLERANCE:.0e}")
    return error


def relative_error(y: Tensor, expected: Tensor) -> float:
    """Return the largest difference over the largest expected value."""
    return float((y - expected).abs().max() / expected.abs().max())


def scan_inputs(batch: int, length: int) -> list[Tensor]:
    """Return x, dt (log-uniform in 0.001 … 0.1), A, B, C of the scan alone."""
    dt = torch.exp(torch.empty(batch, length, HEADS).uniform_(-6.9, -2.3))
    x = torch.randn(batch, length, HEADS, HEADDIM)
    B, C = torch.randn(2, batch, length, 1, D_STATE)
    return [x, dt, -torch.linspace(1, 16, HEADS), B, C]


def _scan(m: Measurement) -> Subject:
    scan: Callable[..., tuple[Tensor, Tensor]] = ssd_plain if m.model == "plain" else ssd
    check = scan_inputs(2, 300)
    expected = ssd(*[tensor.double() for tensor in check], backend="recurrence")[0]
    error = relative_error(scan(*check)[0].double(), expected)
    if not error < TOLERANCE:
        raise GateError(f"scan {m.model}: error {error:.1e} against float64, expected below {TOLERANCE:.0e}")

    @torch.no_grad()
    def forward(*inputs: Tensor) -> object:
        return scan(*inputs)

    def train(*inputs: Tensor) -> object:
        y, state = scan(*[tensor.detach().requires_grad_() for tensor in inputs])
        (y.sum() + state.sum()).backward()
        return None

    step = forward if m.work == "scan" else train
    small = scan_inputs(1, min(WARM_TIMES, m.n_times))
    return Subject(step, scan_inputs(m.batch, m.n_times), lambda: step(*small), {"error": error})
