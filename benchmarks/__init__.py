"""Comparisons with peers, outside the package: run from the root of the repository."""
