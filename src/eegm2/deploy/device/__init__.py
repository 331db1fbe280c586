"""What a device computes: NumPy alone, used by the live stream and written beside exported bundles."""
