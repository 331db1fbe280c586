"""scikit-learn's face of the family: a transformer, a classifier and a regressor of windows.

All three take arrays (n, n_chans, n_times) in microvolts or MNE Epochs, scale them as in training, and can be
cloned, searched and put into pipelines.
"""

from __future__ import annotations
