"""Signals as they arrive: the network, the preprocessing and the scale, causal."""
