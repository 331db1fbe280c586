"""How a task is learnt: frozen features with a probe, or a network fitted whole."""
