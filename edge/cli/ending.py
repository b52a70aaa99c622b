"""How a command ends: an EdgeError becomes its exit code and one line, without a traceback."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from edge.errors import DependencyError, DescriptorsError, EdgeError, install_extra
from edge.health import OUT_OF_DESCRIPTORS
from edge.printable import printable

INTERRUPTED = 130  # as shells report a command that Ctrl-C ended
_OF_THE_CABLE = frozenset({"cobs", "spake2", "rich", "serial"})  # modules that the extra `enroll` brings


def run_to_end(cli: click.Command, interrupted: str = "") -> None:
    """Run a command line; `interrupted`: the message after Ctrl-C."""
    try:
        code = cli(standalone_mode=False)  # click returns the code of its own Exit, and None otherwise
    except EdgeError as e:
        fail(str(e), e.exit_code)
    except OSError as e:
        if e.errno not in OUT_OF_DESCRIPTORS:
            raise
        fail(str(DescriptorsError()), DescriptorsError.exit_code)
    except ModuleNotFoundError as e:
        if e.name not in _OF_THE_CABLE:
            raise
        missing = DependencyError(f"this command needs {e.name}, which is not installed", install_extra("enroll"))
        fail(str(missing), missing.exit_code)
    except (click.Abort, KeyboardInterrupt):
        if interrupted:
            fail(interrupted, INTERRUPTED)
        sys.exit(INTERRUPTED)
    except click.ClickException as e:
        e.show()
        sys.exit(e.exit_code)
    if code:
        sys.exit(code)


def fail(text: str, code: int) -> NoReturn:
    """Print the error and end with this code."""
    click.echo(f"error: {printable(text)}", err=True)
    sys.exit(code)
