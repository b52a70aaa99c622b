"""Edge Face Runtime: face recognition that lives on the device. Read `edge/pipeline.py` first."""

import os

__version__ = "0.1.0"

# OpenCV reads this once, when it is loaded, and whichever module loads it first has passed here before: a hostile
# picture must not ask for gigabytes. 64 megapixels are enough for any camera that a wearer's photos come from.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(64_000_000))
