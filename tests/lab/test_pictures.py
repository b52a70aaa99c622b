"""Whole pictures of public sets are read as the product reads pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import MAX_IMAGE_PIXELS
from tools.lab import pictures
from tools.lab.data import DataError


def test_a_photo_of_too_many_pixels_is_read_smaller(tmp_path: Path) -> None:
    height, width = 3200, MAX_IMAGE_PIXELS // 6400 * 2 + 8
    cv2.imwrite(str(tmp_path / "large.jpg"), np.full((height, width, 3), 90, np.uint8))
    ((name, image),) = pictures.images(tmp_path, ["large.jpg"])
    assert (name, image.shape) == ("large.jpg", (height // 2, width // 2, 3))


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(DataError, match=r"text\.jpg: not a picture"):
        list(pictures.images(tmp_path, ["text.jpg"]))
