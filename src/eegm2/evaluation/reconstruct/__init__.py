"""Whole recordings through a network and back, in microvolts."""
