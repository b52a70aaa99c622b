"""Edge Face Runtime: face recognition that lives on the device. Read `edge/pipeline.py` first."""

__version__ = "0.1.0"
