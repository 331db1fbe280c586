"""Band-wise covariances inside the network: electrodes, filter bank, matrix logarithm, tokens and trunk."""
