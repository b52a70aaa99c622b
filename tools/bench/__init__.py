"""Comparisons for the workbench: other forms of the shipped network, and other systems beside this one."""
