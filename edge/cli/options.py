"""The option that all commands of `edge-daemon` take."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from edge import config
from edge.errors import ConfigError
from edge.privileges import drop_to_owner

_F = TypeVar("_F", bound=Callable[..., Any])
DEFAULT_CONFIG = Path("/etc/edge/edge.toml")


def with_config(command: _F) -> _F:
    """Add the option of the configuration file. Root continues as the owner of the data folder."""

    @wraps(command)
    def as_owner(*args: Any, config_path: Path, **options: Any) -> Any:
        _drop(config_path)
        return command(*args, config_path=config_path, **options)

    return with_config_as_caller(cast("_F", as_owner))


def with_config_as_caller(command: _F) -> _F:
    """Add the option of the configuration file. The command itself drops root's rights, or needs them."""
    option = click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        default=DEFAULT_CONFIG,
        show_default=True,
        help="The configuration file.",
    )
    return option(command)


def _drop(config_path: Path) -> None:
    try:
        settings = config.load_without_owner(config_path)
    except ConfigError:
        return  # the command reads it again, and reports the fault
    drop_to_owner(settings.data.path)
