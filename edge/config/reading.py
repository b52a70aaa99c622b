"""Read `edge.toml` and the owner's settings over it.

Strict: an unknown key or a wrong type names file, line, key, value and the nearest known key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edge.config.checks import contradictions
from edge.config.faults import Source, explain, refuse_unknown, table_of, wrong
from edge.config.sections import DEFAULT_ID, Config
from edge.errors import ConfigError

# Keys of earlier versions, and their replacements.
REPLACED: Mapping[tuple[str, str], str] = {
    ("motion", "still_check_s"): "it is [power] floor_look_s now: a look at least so often, also where nothing moves",
    ("power", "device"): "it is [power] board now",
    ("power", "shutdown_c"): "it is [power] suspend_c now",
}

# What the owner may set over the cable. Nothing here can move a file, a camera or a trusted key.
OWNERS: Mapping[str, frozenset[str]] = {
    "device": frozenset({"id"}),
    "mqtt": frozenset(
        {
            "host", "port", "prefix", "username", "password_file", "tls", "ca_file", "cert_file", "key_file",
            "discovery", "acks",
        }
    ),
    "power": frozenset({"run_time"}),
    "privacy": frozenset({"publish_names"}),
}  # fmt: skip


def load(path: Path) -> Config:
    """Read and check a configuration file, and the owner's settings over it.

    Raises ConfigError with file, line, key, value and remedy.
    """
    config = load_without_owner(path)
    try:
        settings = config.data.settings_file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return config
    except (OSError, UnicodeDecodeError) as e:
        remedy = "remove it and set up again, or: edge-enroll factory-reset"
        raise ConfigError(f"{config.data.settings_file}: cannot be read: {e}", remedy) from None
    return overlay(config, settings, str(config.data.settings_file))


def load_without_owner(path: Path) -> Config:
    """Read and check a configuration file alone: enough to mend the device, not to run it. Raises ConfigError."""
    config = parse(_read(path), str(path))
    if config.device.id != DEFAULT_ID or not (own := config.data.read_own_id()):
        return config
    return msgspec.structs.replace(config, device=msgspec.structs.replace(config.device, id=own))


def overlay(config: Config, settings: str, name: str) -> Config:
    """Return the configuration with the owner's settings, TOML, over it; ConfigError for a key that is not theirs."""
    checked = parse(settings, name, whole=False)
    for section, values in tomllib.loads(settings).items():
        if foreign := sorted(set(values) - OWNERS.get(section, frozenset())):
            what = f"{name}: [{section}] {', '.join(foreign)}: not to be set over the cable"
            raise ConfigError(what, "remove it there, and set it in edge.toml")
        chosen = {key: getattr(getattr(checked, section), key) for key in values}
        merged = msgspec.structs.replace(getattr(config, section), **chosen)
        config = msgspec.structs.replace(config, **{section: merged})
    return config


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file", "copy config/edge.toml there, or name another with --config"
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}", "check its permissions and that it is UTF-8 text") from None


def parse(text: str, name: str, *, whole: bool = True) -> Config:
    """Check the text of a configuration; `name` is what errors call it. Not `whole`: it stands over another one."""
    source = Source(text, name)
    table = table_of(source)
    refuse_unknown(table, source, Config, REPLACED)
    try:
        config = msgspec.convert(table, Config)
    except msgspec.ValidationError as e:
        raise explain(e, table, source, Config) from None
    for fault in contradictions(config) if whole else ():
        raise wrong(source, table, fault)
    return config
