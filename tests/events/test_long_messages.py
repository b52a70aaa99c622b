"""A message too long for the device's memory is refused before it is read, and delivery continues."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import BinaryIO, Self

import pytest

from tools.rig.brokers import until
from tools.rig.publishing import add, configured, depth, publishing, vision

MESSAGE_BYTES = 200 << 20
V311_ONLY = b"\x20\x03\x00\x84\x00"
WELCOME = b"\x20\x02\x00\x00"
SUBSCRIBE, PUBLISH, DISCONNECT = 8, 3, 14


def varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


class Broker:
    """Implements the part of MQTT 3.1.1 that the publisher needs, and sends `retained` on `topic`."""

    def __init__(self, topic: str) -> None:
        self.topic = topic.encode()
        self.subscriptions: list[list[str]] = []
        self.sent_bytes = 0  # of the long message
        self.events = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._server.accept()
                with peer, contextlib.suppress(OSError, EOFError):
                    self._talk(peer)

    def _talk(self, peer: socket.socket) -> None:
        stream: BinaryIO = peer.makefile("rb")
        _, greeting = self._packet(stream)
        peer.sendall(WELCOME if greeting[6] == 4 else V311_ONLY)
        while greeting[6] == 4:
            kind, body = self._packet(stream)
            if kind >> 4 == PUBLISH:
                end = 2 + int.from_bytes(body[:2], "big")
                self.events += body[2:end].endswith(b"/event")
                peer.sendall(b"\x40\x02" + body[end : end + 2])
            elif kind >> 4 == SUBSCRIBE:
                self._subscribe(peer, body)

    @staticmethod
    def _packet(stream: BinaryIO) -> tuple[int, bytes]:
        read = stream.read
        kind, length, shift = read(1), 0, 0
        if not kind or kind[0] >> 4 == DISCONNECT:
            raise EOFError
        while True:
            byte = read(1)[0]
            length, shift = length | (byte & 127) << shift, shift + 7
            if byte < 128:
                return kind[0], read(length)

    def _subscribe(self, peer: socket.socket, body: bytes) -> None:
        topics, place = [], 2
        while place < len(body):
            end = place + 2 + int.from_bytes(body[place : place + 2], "big")
            topics.append(body[place + 2 : end].decode())
            place = end + 1
        self.subscriptions.append(topics)
        peer.sendall(b"\x90" + varint(2 + len(topics)) + body[:2] + b"\x01" * len(topics))
        if self.topic.decode() in topics or any("+" in topic for topic in topics):
            head = len(self.topic).to_bytes(2, "big") + self.topic
            peer.sendall(b"\x31" + varint(len(head) + MESSAGE_BYTES) + head)
            while self.sent_bytes < MESSAGE_BYTES:
                self.sent_bytes += peer.send(bytes(1 << 16))


def test_a_retained_message_that_is_too_long_is_not_read_and_events_are_delivered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Broker("edge/glasses/x/set") as broker:
        settings = configured(tmp_path, broker.port, "discovery = false")
        with vision(settings) as backlog, publishing(settings):
            until(lambda: len(broker.subscriptions) == 2, "a second connection")
            add(backlog, 3)
            until(lambda: depth(settings) == 0, "all delivered")
        assert broker.events == 3
    assert broker.subscriptions == [["edge/glasses/+/set"], ["edge/glasses/recognition/set"]]
    assert broker.sent_bytes < MESSAGE_BYTES // 4, "no more than the kernel's buffers hold"
    assert "bytes on 'edge/glasses/x/set', the limit is 4096" in caplog.text
    assert "empty the retained message" in caplog.text
    assert caplog.text.count("not subscribed to for an hour") == 1


def test_a_topic_that_can_be_set_is_left_out_as_well_and_acks_are_not(tmp_path: Path) -> None:
    with Broker("edge/glasses/recognition/set") as broker:
        settings = configured(tmp_path, broker.port, "acks = true\ndiscovery = false")
        with publishing(settings):
            until(lambda: len(broker.subscriptions) == 2, "a second connection")
    assert broker.subscriptions[1] == ["edge/glasses/ack"]
