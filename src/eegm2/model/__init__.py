"""The EEGM2 network family, its mixers and the authors' checkpoints."""
