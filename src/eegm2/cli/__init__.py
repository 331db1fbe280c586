"""The ``eegm2`` command: one module per sub-command, heavy imports only inside them."""
