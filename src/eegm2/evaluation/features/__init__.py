"""What a frozen network says of windows, and a network made to fit other channels."""
