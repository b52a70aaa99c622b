"""Comparisons that need no device: other forms of the shipped network, and other face recognition systems."""
