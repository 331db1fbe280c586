"""The recording store: whole recordings in microvolts, written once, read at any window length."""
