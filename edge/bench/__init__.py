"""`edge-bench`: the cost of the runtime on this device. The daemon loads nothing from here."""
