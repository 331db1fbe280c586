"""State-space scans and what surrounds them: one call each, the fastest form for the device behind it."""

from eegm2.ops.allocator import keep_freed_memory
from eegm2.ops.backends import backend_report, choose_backend
from eegm2.ops.checks import compute_dtype, needs_gradient
from eegm2.ops.conv import causal_conv1d
from eegm2.ops.dispatch import selective_scan, ssd
from eegm2.ops.eigen import symmetric_eigen
from eegm2.ops.kept import Kept, as_made, compiled_inference, compiled_products
from eegm2.ops.mix import mamba2_mix

__all__ = [
    "Kept",
    "as_made",
    "backend_report",
    "causal_conv1d",
    "choose_backend",
    "compiled_inference",
    "compiled_products",
    "compute_dtype",
    "keep_freed_memory",
    "mamba2_mix",
    "needs_gradient",
    "selective_scan",
    "ssd",
    "symmetric_eigen",
]
