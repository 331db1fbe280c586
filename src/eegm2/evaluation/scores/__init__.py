"""How good, and how certain: metrics, intervals, comparisons, folds."""
