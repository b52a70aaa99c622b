"""The command set: strict, with limits, and without replies that could contain a face."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import click
import msgspec
import pytest

from edge.cli.enroll import cli
from edge.errors import ProvisionError
from edge.processes.owner.owner_requests import ANSWERED
from edge.provision.device import control_socket
from edge.provision.device.cable_requests import CableRequests
from edge.provision.protocol import messages, replies
from edge.provision.protocol.replies import Failed


def members(union: Any) -> tuple[type[msgspec.Struct], ...]:
    return typing.get_args(union)


def leaves(kind: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    """Yield every type that a message can contain, recursively."""
    if isinstance(kind, msgspec.inspect.StructType):
        for field in kind.fields:
            yield from leaves(field.type)
    elif isinstance(kind, msgspec.inspect.ListType):
        assert kind.max_length is not None, "a list without limit"
        yield from leaves(kind.item_type)
    elif isinstance(kind, msgspec.inspect.UnionType):
        for one in kind.types:
            yield from leaves(one)
    else:
        yield kind


@pytest.mark.parametrize("reply", members(replies.Reply), ids=lambda t: t.__name__)
def test_no_reply_can_carry_a_frame_a_crop_an_embedding_or_a_key(reply: type[msgspec.Struct]) -> None:
    for leaf in leaves(msgspec.inspect.type_info(reply)):
        allowed = (
            msgspec.inspect.StrType,
            msgspec.inspect.IntType,
            msgspec.inspect.FloatType,
            msgspec.inspect.BoolType,
            msgspec.inspect.LiteralType,
        )
        assert isinstance(leaf, allowed), f"{leaf} is not allowed in a reply"
        if isinstance(leaf, msgspec.inspect.StrType):
            assert leaf.max_length is not None or leaf.pattern, "a text without limit"
    floats = [f for f in msgspec.structs.fields(reply) if f.type is float or "float" in str(f.type)]
    assert len(floats) <= 1, "a list of numbers could be an embedding"


@pytest.mark.parametrize("request_type", [row.request for row in messages.COMMANDS], ids=lambda t: t.__name__)
def test_every_text_number_and_list_of_a_request_has_a_limit(request_type: type[msgspec.Struct]) -> None:
    for leaf in leaves(msgspec.inspect.type_info(request_type)):
        if isinstance(leaf, msgspec.inspect.StrType):
            assert leaf.max_length is not None or leaf.pattern
        if isinstance(leaf, msgspec.inspect.MemoryViewType | msgspec.inspect.BytesType):
            assert leaf.max_length is not None
        if isinstance(leaf, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            assert leaf.ge is not None
            assert leaf.le is not None


def test_the_tables_of_both_processes_and_of_the_command_line_are_those_of_the_rows() -> None:
    rows = messages.COMMANDS
    assert [row.request for row in rows] == list(dict.fromkeys(row.request for row in rows))
    assert set(CableRequests.ANSWERS) == {row.request for row in rows}
    relayed = {
        kind for kind, answer in CableRequests.ANSWERS.items() if answer is CableRequests.ANSWERS[messages.Renew]
    }
    assert relayed == {row.request for row in rows if row.by == ("vision",)}
    assert ANSWERED == control_socket.ASKED_OF_VISION
    assert {reply for row in rows for reply in row.replies} | {Failed} == set(members(replies.Reply))
    for row in rows:
        found: click.Command = cli
        for word in row.words.split():
            assert isinstance(found, click.Group)
            found = found.commands[word]


def test_messages_arrive_unchanged_and_chunks_are_not_copied() -> None:
    photo = messages.Photo(name="a.jpg", size=10, offset=3, data=memoryview(b"1234567"))
    raw = bytearray(messages.encode(photo))
    back = messages.decode_request(raw)
    assert back == photo
    assert isinstance(back, messages.Photo)
    assert back.data.obj is raw  # so that wiping the message wipes the photo
    done = replies.Done(note="ok")
    assert messages.decode_reply(messages.encode(done)) == done


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"t": "frame"}),
        msgspec.msgpack.encode({"t": "info", "x": 1}),
        msgspec.msgpack.encode({"t": "set-name", "name": "Has Spaces"}),
        msgspec.msgpack.encode({"t": "set-name"}),
        msgspec.msgpack.encode({"t": "remove", "person": "../../etc\0"}),
        msgspec.msgpack.encode({"t": "photo", "name": "a", "size": 1 << 40, "offset": 0, "data": b""}),
        msgspec.msgpack.encode({"t": "photo", "name": "a", "size": 1, "offset": 0, "data": bytes(40_000)}),
        b"\x91" * 100_000,
        msgspec.msgpack.encode({"t": "info"}) + b"\0",
    ],
)
def test_an_invalid_request_is_refused_without_showing_its_content(raw: bytes) -> None:
    with pytest.raises(ProvisionError, match="not a request of this protocol") as caught:
        messages.decode_request(raw)
    assert "Spaces" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"t": "set-name", "name": "glasses\n"},
        {"t": "set-mqtt", "host": "broker.lan\n"},
        {"t": "set-mqtt", "prefix": "home\n"},
        {"t": "remove", "person": "p-abcdefgh\n"},
        {"t": "update-begin", "size": 1, "sha256": "0" * 64 + "\n"},
        {"t": "read-diagnostics", "name": "vision\n"},
    ],
)
def test_a_line_break_at_the_end_is_refused_too(fields: dict[str, object]) -> None:
    with pytest.raises(ProvisionError, match="not a request of this protocol"):
        messages.decode_request(msgspec.msgpack.encode(fields))


def test_an_invalid_value_is_reported_with_its_field() -> None:
    with pytest.raises(ProvisionError, match="port must be a whole number from 1 to 65535"):
        messages.check(messages.SetMqtt(port=70_000))


def test_a_message_that_no_frame_can_carry_is_refused_by_the_sender() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        messages.encode(messages.Photo(name="a", size=40_000, offset=0, data=memoryview(bytes(40_000))))
