"""Orders and draws against NumPy's and torch's."""
