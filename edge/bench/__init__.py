"""`edge-bench`: what the runtime costs on the device in hand. Nothing here is loaded by the daemon."""
