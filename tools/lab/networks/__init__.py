"""The shipped network for training in torch. The networks of the comparison are in `tools/lab/research/networks`."""
