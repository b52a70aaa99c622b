"""Set a device up over one USB cable: framing, session, messages (sans-IO), and the two ends.

The protocol: docs/provisioning.md.
"""
