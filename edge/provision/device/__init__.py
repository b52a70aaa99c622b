"""The device's end of the cable: access, and the handlers of requests."""
