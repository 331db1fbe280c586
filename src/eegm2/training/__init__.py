"""Pretraining: objectives, the loop, its checkpoints, and runs that go on bit for bit."""
