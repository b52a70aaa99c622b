"""Mutation of security code: `python -m tools.mutants`."""
