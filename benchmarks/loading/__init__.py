"""Batches against NumPy's and torch's."""
