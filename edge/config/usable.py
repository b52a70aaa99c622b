"""Whether this machine can run with a configuration: what `edge-daemon check-config` says, all of it at once."""

from __future__ import annotations

from pathlib import Path

from edge.config.checks import unusable
from edge.config.faults import Source, table_of, wrong
from edge.config.reading import load
from edge.config.sections import Config
from edge.errors import ConfigError


def check(path: Path) -> Config:
    """Load a configuration and look whether this machine can run with it; raises ConfigError with all that is wrong."""
    config = load(path)
    found = list(unusable(config))
    if not found:
        return config
    names = [path, *([config.data.settings_file] if config.data.settings_file.exists() else [])]
    sources = [Source(name.read_text(encoding="utf-8"), str(name)) for name in names]
    tables = [table_of(source) for source in sources]
    said = []
    for fault in found:
        setting = [i for i, table in enumerate(tables) if fault.key in table.get(fault.section, {})]
        at = setting[-1] if setting else 0
        said.append(str(wrong(sources[at], tables[at], fault)))
    raise ConfigError("\n".join(said))
