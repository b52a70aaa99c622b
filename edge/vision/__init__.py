"""What touches pixels: frame sources, gates, detector, tracker, alignment, embedder."""

import os

# OpenCV reads this once, when it is loaded: a hostile picture must not ask for gigabytes. 64 megapixels are enough for
# any camera that a wearer's photos come from.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(64_000_000))
