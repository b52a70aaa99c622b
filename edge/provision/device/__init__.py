"""The device's end of the cable: who may speak, and what each request does."""
