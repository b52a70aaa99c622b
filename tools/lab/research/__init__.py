"""Comparisons and sweeps behind choices in docs/lab.md and docs/adr. Making the shipped model does not need them."""
