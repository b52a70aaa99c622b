"""The owner's end of the cable: what `edge-enroll` does on a laptop."""
