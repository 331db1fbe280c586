"""What is done to a recording's samples: filters, channel mixing, units, quality."""
