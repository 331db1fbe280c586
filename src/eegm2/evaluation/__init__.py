"""What a pretrained model is worth: representations, probes, downstream protocols and metrics."""
