"""Classifier heads of a stream: fitted, kept as plain arrays, and deciding."""
