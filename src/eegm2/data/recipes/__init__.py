"""Recipes: how the recordings, subjects and labels of a published data set are found in its folder."""
