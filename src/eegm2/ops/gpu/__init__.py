"""Optional GPU kernels of other libraries behind our own operator; nothing here imports them until used."""
