"""What a model is shown: windows, their labels, scaling, order and splits."""
