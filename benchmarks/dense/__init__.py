"""The dense SGD step against torch's and NumPy's."""
