"""Set a device up over one USB cable: the protocol, the device's end, the owner's end.

The protocol: docs/provisioning.md.
"""
