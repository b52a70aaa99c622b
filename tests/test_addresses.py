"""Network addresses as shown to people."""

from __future__ import annotations

import pytest

from edge.addresses import is_address, without_login


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://anna:s3cret@10.0.0.7:81/stream", "http://10.0.0.7:81/stream"),
        ("http://anna:a@b:c@cam/stream", "http://cam/stream"),
        ("http://cam/snap.jpg?user=anna&pwd=s3cret", "http://cam/snap.jpg?…"),
        ("rtspsrc location=rtsp://anna:s3cret@cam/1 ! decodebin", "rtspsrc location=rtsp://cam/1 ! decodebin"),
        ("url = 'http://anna:s3cret@cam/' and 'http://eve:other@cam/'", "url = 'http://cam/' and 'http://cam/'"),
        ("rtsp:/anna:s3cret@cam/1", "rtsp:/cam/1"),
        ("/dev/video0", "/dev/video0"),
        ("http://cam/a@b", "http://cam/a@b"),
    ],
)
def test_login_and_query_are_removed_and_the_rest_stays(text: str, shown: str) -> None:
    assert without_login(text) == shown


def test_an_address_is_distinguished_from_a_path_even_if_pathlib_has_removed_a_slash() -> None:
    assert is_address("rtsp:/127.0.0.1:8554/a")
    assert is_address("HTTP://cam/")
    assert not is_address("/dev/video0")
    assert not is_address("clips/day:1.mp4")
