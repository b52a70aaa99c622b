"""The power governor: what is left, what each stage costs, and how often each may run."""
