"""Edge Face Runtime: face recognition that lives on the device. Read `edge/pipeline.py` first."""

import os

__version__ = "0.1.0"

# OpenCV and OpenBLAS read these once, when they are loaded. Every module that loads them imports this package first.
# A picture is decoded completely, and copied to turn it upright: this number of pixels fits into the memory of vision's
# unit. A larger JPEG is decoded smaller (`edge.cameras.picture`).
MAX_IMAGE_PIXELS = 12_600_000
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_IMAGE_PIXELS))
# One thread for matrices of 256: waiting for each other costs several threads five times the work (opening a store).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# OpenCV and its FFmpeg write lines of their own to stderr, with addresses in them. The errors of this project say
# what is wrong with a camera or a file. For a look inside: OPENCV_LOG_LEVEL=DEBUG OPENCV_FFMPEG_LOGLEVEL=40.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# onnxruntime reports to its maker since 1.29: over the network where there is one, and with an id of this device that
# it keeps in the home folder. This is its full opt-out; it too is read once. Nobody may undo it by the environment.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
