"""The work of ``eegm2 predict``: a model with a head on new recordings."""
