"""State-space scans and the causal convolution: one call each, the fastest form for the device behind it."""

from eegm2.ops.conv import causal_conv1d
from eegm2.ops.dispatch import backend_report, selective_scan, ssd

__all__ = ["backend_report", "causal_conv1d", "selective_scan", "ssd"]
