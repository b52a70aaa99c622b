"""The control socket: strict messages, our user only, answers between frames, not needed for recognition."""

from __future__ import annotations

import itertools
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edge.errors import ProvisionError
from edge.processes.control_server import ControlServer
from edge.provision.device import control_socket
from edge.provision.device.control_socket import (
    ControlClient,
    ControlReply,
    ControlRequest,
    Status,
    VisionStatus,
    WholePhoto,
)
from edge.provision.protocol import messages
from edge.provision.protocol.replies import Done, Failed
from tools.rig.brokers import until

STATUS = VisionStatus(model="m", slot="built-in", people=0, camera="normal")


class Vision:
    """A loop that polls as vision does, and records the requests."""

    def __init__(self, path: Path) -> None:
        self.asked: list[ControlRequest | None] = []
        self.server = ControlServer(path)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.001):
            self.server.poll(self._handle)

    def _handle(self, request: ControlRequest | None) -> ControlReply:
        self.asked.append(request)
        if isinstance(request, messages.Renew):
            raise ProvisionError("no store", "make one")
        return Done() if request is None else STATUS

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self.server.close()


@contextmanager
def vision(path: Path) -> Iterator[Vision]:
    made = Vision(path)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control" / "vision.sock"


@pytest.fixture
def ours(path: Path) -> Iterator[ControlClient]:
    """The client of provisioning."""
    made = ControlClient(path, time.monotonic, time.sleep)
    yield made
    made.close()


def test_a_request_is_answered_and_an_error_has_a_message(path: Path, ours: ControlClient) -> None:
    with vision(path) as seen:
        assert ours.call(Status()) == STATUS
        assert ours.call(messages.Renew()) == Failed(what="no store", remedy="make one")
        assert ours.call(messages.Rename(person="p-abcdefgh", name="Anna")) == STATUS
        ours.close()
        assert None not in seen.asked


def test_an_enrolment_ends_when_its_own_client_disconnects(path: Path, ours: ControlClient) -> None:
    other = ControlClient(path, time.monotonic, time.sleep)
    with vision(path) as seen:
        ours.call(messages.EnrolBegin(name="Anna", source="photos"))
        other.call(Status())
        other.close()
        ours.call(messages.EnrolLook())
        assert None not in seen.asked
        ours.close()
        until(lambda: None in seen.asked, "vision hears that the other end has gone")


def test_silent_clients_do_not_block_others(path: Path, ours: ControlClient) -> None:
    with vision(path), ExitStack() as silent:
        for _ in range(20):
            client = silent.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(path))
        assert ours.call(Status()) == STATUS
        assert threading.active_count() < 12
        for _ in range(20):  # an active client is not disconnected to make room
            client = silent.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(path))
            assert ours.call(Status()) == STATUS


def test_an_incomplete_message_ends_the_connection(path: Path) -> None:
    server = ControlServer(path, message_s=0.2)
    with server, socket.socket(socket.AF_UNIX) as slow:
        slow.settimeout(10.0)
        slow.connect(str(path))
        slow.sendall(b"\x10")
        assert slow.recv(1) == b""  # disconnected


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: being another user needs root")
def test_the_user_of_provisioning_is_let_in_where_the_folder_is_shared(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o2750)
    with vision(path) as seen:
        assert path.stat().st_mode & 0o777 == 0o660
        assert seen.server._allowed == {os.geteuid(), 0}
    with ControlServer(path, allowed=[65534]) as server:
        assert server._allowed == {os.geteuid(), 0, 65534}


def test_the_socket_and_its_folder_are_for_our_user_alone(path: Path) -> None:
    with vision(path):
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: being another user needs root")
def test_another_user_is_refused_even_where_the_files_would_let_them_in(path: Path, ours: ControlClient) -> None:
    with vision(path) as seen:
        for part in (path, path.parent):
            part.chmod(0o777)
        code = (
            "import os, socket, sys; os.chdir(sys.argv[1]); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
            "s.connect('vision.sock'); s.sendall(bytes.fromhex(sys.argv[2])); sys.exit(len(s.recv(100)))"
        )
        raw = bytearray(4)
        control_socket._encoder.encode_into(Status(), raw, 4)
        raw[:4] = (len(raw) - 4).to_bytes(4, "little")
        done = subprocess.run(
            [sys.executable, "-c", code, str(path.parent), raw.hex()], capture_output=True, text=True, check=False
        )
        hung_up = ("ConnectionResetError", "BrokenPipeError")
        assert done.returncode == 0 or any(error in done.stderr for error in hung_up), done.stderr  # no answer
        assert ours.call(Status()) == STATUS
        assert len(seen.asked) == 1


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xc1", b"\x81\xa1t\xa5frame", b"\x82\xa1t\xa6status\xa1x\x01", b"\x81\xa1t\xa4info"],
)
def test_what_is_no_control_request_is_refused_and_the_next_one_is_answered(path: Path, raw: bytes) -> None:
    with vision(path) as seen, socket.socket(socket.AF_UNIX) as rude:
        rude.connect(str(path))
        rude.settimeout(10)
        rude.sendall(struct.pack("<I", len(raw)) + raw)
        answer = control_socket.receive(rude)
        assert answer is not None
        assert b"not a control request" in bytes(answer)
        control_socket.send(rude, Status())
        assert control_socket.receive(rude) is not None
        assert [type(r) for r in seen.asked] == [Status]


def test_a_message_above_the_limit_ends_the_connection_before_it_is_read(path: Path) -> None:
    with vision(path), socket.socket(socket.AF_UNIX) as rude:
        rude.connect(str(path))
        rude.settimeout(10)
        rude.sendall(struct.pack("<I", 1 << 31))
        assert rude.recv(1) == b""


def test_a_photo_arrives_whole(path: Path, ours: ControlClient) -> None:
    sizes: list[int] = []
    with vision(path) as seen:
        seen._handle = lambda request: sizes.append(len(request.data)) or STATUS  # type: ignore[method-assign, union-attr, func-returns-value]
        assert ours.call(WholePhoto(name="a.jpg", data=memoryview(bytes(5_000_000)))) == STATUS
    assert sizes == [5_000_000]


def test_a_request_is_repeated_after_a_restart_of_vision(path: Path, ours: ControlClient) -> None:
    for _ in range(3):
        with vision(path):
            assert ours.call(Status()) == STATUS


def test_absent_vision_is_reported_with_a_remedy(path: Path) -> None:
    hours = itertools.count(0.0, 3600.0)
    with pytest.raises(ProvisionError, match="vision process cannot be asked"):
        ControlClient(path, lambda: next(hours), lambda _: None).call(Status())


def test_a_waiting_client_is_called_back_while_vision_is_slow(path: Path) -> None:
    waited: list[float] = []
    patient = ControlClient(path, time.monotonic, waited.append)
    with ControlServer(path) as listening:
        answers: list[ControlReply] = []
        photo = WholePhoto("a.jpg", memoryview(bytes(3_000_000)))  # more than a socket holds
        asked = threading.Thread(target=lambda: answers.append(patient.call(photo)))
        asked.start()
        until(lambda: len(waited) >= 2, "two seconds of waiting")
        while not answers:
            listening.poll(lambda _: STATUS)
        asked.join(30)
    assert answers == [STATUS]
    assert not any(waited)
    patient.close()


def test_a_request_interrupted_by_a_stop_of_vision_is_not_done(path: Path, ours: ControlClient) -> None:
    listening = ControlServer(path)
    told: list[str] = []

    def ask() -> None:
        try:
            ours.call(Status())
        except ProvisionError as e:
            told.append(e.what)

    asked = threading.Thread(target=ask)
    asked.start()
    until(lambda: not listening._asked.empty(), "the request has come")
    listening.close()  # before anything polls
    asked.join(30)
    assert told == ["the vision process cannot be asked: it hung up"]


def test_a_request_queued_at_an_ending_vision_process_goes_to_the_next_one(path: Path, ours: ControlClient) -> None:
    path.parent.mkdir()
    told: list[ControlReply] = []
    asked = threading.Thread(target=lambda: told.append(ours.call(Status())))
    with socket.socket(socket.AF_UNIX) as ending:
        ending.bind(str(path))
        ending.listen(1)
        asked.start()
        assert select.select([ending], [], [], 20)[0], "somebody connects"
        path.unlink()
    with vision(path):
        asked.join(30)
    assert told == [STATUS]


def test_without_a_control_socket_recognition_continues(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "control").write_text("a file where the folder should be")
    with ControlServer(tmp_path / "control" / "vision.sock") as listening:
        listening.poll(lambda _: STATUS)
    assert "provisioning cannot ask" in caplog.text


def test_a_path_of_any_length_is_possible(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100) / ("y" * 100) / "vision.sock"
    path.parent.mkdir(parents=True)
    far = ControlClient(path, time.monotonic, time.sleep)
    with vision(path):
        assert far.call(Status()) == STATUS
    far.close()


def test_the_handler_runs_only_where_it_is_polled(path: Path, ours: ControlClient) -> None:
    with ControlServer(path) as listening:
        answers: list[ControlReply] = []
        asked = threading.Thread(target=lambda: answers.append(ours.call(Status())))
        asked.start()
        until(lambda: not listening._asked.empty(), "the request has come")
        assert not answers
        handled: list[str] = []
        listening.poll(lambda _: handled.append(threading.current_thread().name) or STATUS)  # type: ignore[func-returns-value]
        asked.join(30)
        assert answers == [STATUS]
        assert handled == [threading.current_thread().name]
