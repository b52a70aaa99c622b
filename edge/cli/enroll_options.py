"""The options and the conversation that all commands of `edge-enroll` to a device share."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge.errors import ProvisionError
from edge.printable import printable

if TYPE_CHECKING:  # loading it needs the extra `enroll`
    from edge.provision.host.cable_client import Client

_F = TypeVar("_F", bound=Callable[..., Any])


class Options:
    """The options of every command to a device."""

    def __init__(self, port: str | None, code: str | None, as_json: bool, yes: bool) -> None:
        self.port, self.code, self.as_json, self.yes = port, code, as_json, yes

    def show(self, data: Any, text: Any) -> None:
        """Print a result: JSON for programs, or text for a person."""
        from edge.provision.host import console

        if self.as_json:
            click.echo(json.dumps(data))
        else:
            plain = printable(text) if isinstance(text, str) else text  # other objects have already escaped their texts
            console.result.print(plain, markup=False)

    def confirm(self, question: str) -> None:
        """Ask the user to confirm, unless --yes is given."""
        if not self.yes:
            click.confirm(question, abort=True, err=True)

    @contextmanager
    def device(self) -> Iterator[Client]:
        """Open the conversation; it is always closed."""
        from edge.provision.host.cable_client import Client
        from edge.provision.protocol.code import canonical
        from edge.provision.protocol.port import SerialPort

        code = self.code or os.environ.get("EDGE_CODE") or click.prompt("Code on the device's label", err=True)
        port = SerialPort(self.port or os.environ.get("EDGE_PORT") or _only_port())
        client = Client(port, canonical(code), os.urandom, time.monotonic)
        try:
            client.connect()
            yield client
        finally:
            client.close()
            port.close()


def _only_port() -> str:
    from edge.provision.host.cable_client import ARM
    from edge.provision.protocol import port

    found = port.find()
    if len(found) == 1:
        return found[0].path
    if not found:
        raise ProvisionError("no device is plugged in", f"plug it in and arm it: {ARM}; or name a port with --port")
    raise ProvisionError(
        f"{len(found)} devices are plugged in: {', '.join(f.path for f in found)}", "choose with --port"
    )


_OPTIONS = (
    click.option("--port", help="Serial port (or EDGE_PORT); without it the one device that is plugged in."),
    click.option("--code", help="Code on the device's label (or EDGE_CODE); without it you are asked."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    click.option("--yes", is_flag=True, help="Ask nothing."),
)


def with_device(command: _F) -> _F:
    """Add the options of a conversation, passed on as one `Options`."""

    @functools.wraps(command)
    def wrapped(port: str | None, code: str | None, as_json: bool, yes: bool, **rest: Any) -> Any:
        context = click.get_current_context()
        outer = context.find_object(Options) or Options(None, None, as_json=False, yes=False)
        # Options before the command's name count for the command.
        context.obj = Options(port or outer.port, code or outer.code, as_json or outer.as_json, yes or outer.yes)
        return command(context.obj, **rest)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def from_rows(group: click.Group, prefix: str = "") -> None:
    """Add the commands whose command line is made from their row; their words begin with `prefix`."""
    from edge.provision.protocol.messages import COMMANDS

    for row in COMMANDS:
        words = row.words.removeprefix(prefix)
        if row.said and row.words.startswith(prefix) and " " not in words:
            group.add_command(_from_row(words, row))


def _from_row(name: str, row: Any) -> click.Command:
    @with_device
    def command(options: Options, **fields: str) -> None:
        done(options, row.request(**fields), row.said.format(**fields))

    arguments: list[click.Parameter] = [click.Argument([field]) for field in row.request.__struct_fields__]
    made = click.command(name, help=row.request.__doc__)(command)
    made.params = [*arguments, *made.params]
    return made


def done(options: Options, request: Any, text: str) -> None:
    """Send one request whose reply is only Done."""
    from edge.provision.host import actions
    from edge.provision.protocol.replies import Done

    with options.device() as client:
        answer = client.call(request, Done)
    options.show(actions.plain(answer), f"{text}{': ' + answer.note if answer.note else ''}")
