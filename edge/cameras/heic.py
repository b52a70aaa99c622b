"""HEIC pictures, where the extra `heic` is installed; called in the process that decodes foreign pictures.

pi-heif brings libheif and libde265. They decode with a thread of their own, in the memory and time of the whole child.
"""

from __future__ import annotations

import base64
import importlib
import io
from functools import cache
from types import ModuleType

import cv2
import numpy as np
from numpy.typing import NDArray

from edge import MAX_IMAGE_PIXELS
from edge.content import HEIC_REMEDY
from edge.errors import SourceError

_FAULTS = (ValueError, RuntimeError, OSError, EOFError, SyntaxError, LookupError, TypeError)  # what pi-heif raises
# A gray square of 16×16, made with pillow-heif: what decoding loads, it loads before the process is confined.
SAMPLE = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJp"
    "bG9jAAAAAERAAAEAAQAAAAABoAABAAAAAAAAABwAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAAB"
    "AAAA/GlwcnAAAADcaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEA"
    "AQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAU"
    "aXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAEAAAAAEAAAAQAAAAAf///9AAAAAC////0AAAAAIAAAAQcGl4aQAAAAADCAgIAAAAGGlw"
    "bWEAAAAAAAAAAQABBYECAwWEAAAAJG1kYXQAAAAYKAGvBBI43PiVoJIwrOcvPKFe3uCR8IqA"
)


def available() -> bool:
    """Whether HEIC can be decoded here."""
    return _library() is not None


def decode_heic(data: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Decode the primary picture of a HEIC file to (H, W, 3) uint8 BGR, upright; raises SourceError.

    More than 8 bits a channel become 8, gray is expanded, alpha is dropped.
    """
    library = _library()
    if library is None:
        raise SourceError(f"{name}: HEIC pictures need the extra 'heic'", HEIC_REMEDY)
    try:
        picture = library.open_heif(io.BytesIO(data.tobytes()), convert_hdr_to_8bit=True, bgr_mode=True)
        width, height = picture.size  # as the file says; nothing is decoded yet
        if width * height > MAX_IMAGE_PIXELS:
            limit = f"{MAX_IMAGE_PIXELS // 10**6} megapixels"
            raise SourceError(f"{name}: has too many pixels", f"give one of at most {limit}, or a JPEG")
        image = np.array(picture)  # a copy: the memory behind it goes with `picture`
    except _FAULTS as e:
        raise SourceError(f"{name}: not a HEIC picture that can be decoded: {e}", "save it again as JPEG") from None
    if image.dtype != np.uint8 or image.size == 0:
        raise SourceError(f"{name}: a HEIC picture of an unknown form", "save it again as JPEG")
    if image.ndim == 2:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    return image if image.shape[2] == 3 else np.ascontiguousarray(image[:, :, :3])


@cache
def _library() -> ModuleType | None:
    try:
        library = importlib.import_module("pi_heif")
    except ImportError:
        return None
    library.options.THUMBNAILS = library.options.DEPTH_IMAGES = library.options.AUX_IMAGES = False
    library.options.DECODE_THREADS = 1
    return library
