"""The processes: each module builds the parts of one process and connects them."""
