"""Labelled windows as every protocol takes them, and how they come from a store."""
