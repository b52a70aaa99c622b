"""Research: comparisons and sweeps behind choices in docs/lab.md and docs/adr. Making the shipped model needs none."""
