"""Benchmarks of the library against its peers, to be run from a checkout."""
