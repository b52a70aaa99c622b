"""What is wrong with the text of a configuration: file, line, key, value and the way out, in words of our own."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from edge import forms
from edge.addresses import without_login
from edge.errors import ConfigError

_SHOWN_IN = "config/edge.toml shows the key with its unit and range"
_PLACE = re.compile(r"\(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)")
_BARE = re.compile(r"^\s*[\w-]+\s*=\s*(?P<value>[^\"'\[{#\s=][^#\"']*?)\s*(?:#.*)?$")
_BOOLEANS = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a configuration, and what errors call it."""

    text: str
    name: str

    def at(self, section: str, key: str | None) -> str:
        """Return "file:line" of a section, or of a key of it."""
        return f"{self.name}:{_line_of(self.text, section, key)}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one key; with an empty `key`, with a section."""

    section: str
    key: str
    what: str
    remedy: str = ""


def table_of(source: Source) -> dict[str, Any]:
    """Return the text as a table; raises ConfigError with line and reason where it is no TOML."""
    try:
        return tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as e:
        raise _not_toml(str(e), source) from None


def refuse_unknown(
    table: dict[str, Any], source: Source, form: type[msgspec.Struct], replaced: Mapping[tuple[str, str], str]
) -> None:
    """Raise ConfigError for a section or key that `form` does not have; `replaced` says what stands for old keys."""
    sections = {f.name: f.type for f in msgspec.structs.fields(form)}
    for section, values in table.items():
        if section not in sections:
            raise _unknown(section, sections, source.at(section, None), f"[{section}]")
        if not isinstance(values, dict):
            what = f"{source.at(section, None)}: '{section} = {shown(values)}' must be a section"
            raise ConfigError(what, f"write [{section}] and its keys below it")
        known = {f.name: f.type for f in msgspec.structs.fields(sections[section])}
        for key, value in values.items():
            line = f"[{section}] {key} = {shown(value)}"
            if (section, key) in replaced:
                what = f"{source.at(section, key)}: the key is no longer used: {line}"
                raise ConfigError(what, replaced[section, key])
            if key not in known:
                raise _unknown(key, known, source.at(section, key), line)


def explain(
    error: msgspec.ValidationError, table: dict[str, Any], source: Source, form: type[msgspec.Struct]
) -> ConfigError:
    """Return what a wrong value must be instead; where two keys contradict each other, the words of the section."""
    path = forms.path_of(error)
    section, _, key = path.partition(".")
    if not key:  # `__post_init__` of the section speaks: name a key that was set
        what = str(error).partition(" - at `$")[0]
        key = next((name for name in table[section] if name in what), "")
        return wrong(source, table, Fault(section, key, what))
    kind = forms.field_type(form, path)
    value = table[section][key]
    must = f"must be {forms.in_words(kind)}"
    near = difflib.get_close_matches(value, forms.choices(kind), n=1, cutoff=0.5) if isinstance(value, str) else []
    if key.endswith("prefix") and isinstance(value, str) and value != value.strip("/") != "":
        near = [value.strip("/")]
    return wrong(source, table, Fault(section, key, must, f"did you mean '{near[0]}'?" if near else ""))


def wrong(source: Source, table: Mapping[str, Any], fault: Fault) -> ConfigError:
    """Return the error for one key, or for a section without one, at its line."""
    section, key, what, remedy = fault.section, fault.key or None, fault.what, fault.remedy
    values = table.get(section, {})
    named = f"[{section}] {key} = {shown(values[key])}" if key in values else f"[{section}] {key or ''}".rstrip()
    return ConfigError(f"{source.at(section, key)}: {named}: {what}", remedy or _SHOWN_IN)


def shown(value: Any) -> str:
    """Return a value as it stands in a file, an address without its login."""
    return json.dumps(value) if isinstance(value, bool) else without_login(repr(value))


def _unknown(key: str, known: dict[str, Any], at: str, line: str) -> ConfigError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else "known here: " + ", ".join(known)
    return ConfigError(f"{at}: unknown key: {line}", hint)


def _not_toml(said: str, source: Source) -> ConfigError:
    lines = source.text.splitlines() or [""]
    place = _PLACE.search(said)
    number = int(place["line"]) if place and place["line"] else len(lines)
    number = min(max(1, number), len(lines))
    line = lines[number - 1]
    if place and place["line"] and not line.strip() and number > 1:  # the line that was not closed
        number, line = number - 1, lines[number - 2]
    if not line.replace("\t", "").isprintable():
        what = f"{source.name}:{number}: not TOML: characters that are no text"
        return ConfigError(what, f"write line {number} again, or restore the file")
    what, remedy = _reason(said, line)
    return ConfigError(
        f"{source.name}:{number}: not TOML: {what}: {without_login(line.strip())[:120]}", f"{remedy} (line {number})"
    )


def _reason(said: str, line: str) -> tuple[str, str]:
    """Return what is wrong with a line that is no TOML, and how to write it."""
    key = line.partition("=")[0].strip(" []")
    is_section = line.lstrip().startswith("[")
    if re.search("overwrite|twice|already|defined|mutate", said):
        return f"the {'section' if is_section else 'key'} '{key}' stands twice", "keep one of the two"
    if bare := _BARE.match(line):
        return _bare(key, bare["value"])
    kinds = (
        (is_section and "=" not in line and "]" not in line, "a section without its end", f"write [{key}]"),
        (line.count('"') % 2 or line.count("'") % 2, "a text without its end", "close the quotes on the same line"),
        (line.count("[") > line.count("]"), "a list without its end", "close it with ]"),
        ("=" not in line, "neither a section nor a key with a value", 'write [section], or key = "value"'),
        ("\\" in line, "a backslash that TOML does not know", "put the text in single quotes, which take it as it is"),
    )
    fallback = ("cannot be read as TOML", 'write key = "text", key = 1.5 or key = true; config/edge.toml has the form')
    return next(((what, remedy) for found, what, remedy in kinds if found), fallback)


def _bare(key: str, value: str) -> tuple[str, str]:
    """Return what is wrong with a value that stands without quotes and is no number and no truth."""
    if value.lower() in _BOOLEANS:
        return "not a value", f"write {_BOOLEANS[value.lower()]}, in small letters and without quotes"
    if value[0].isdigit():
        return "not a number", f'write a number alone, without its unit, and text in quotes: {key} = "{value}"'
    return "not a value", f'put text in quotes: {key} = "{value}"'


def _line_of(text: str, section: str, key: str | None) -> int:
    """Return the line (from 1) where a section, or a key of it, stands; 1 where it is unknown."""
    header = re.compile(rf"^\s*\[?\s*[\"']?{re.escape(section)}[\"']?\s*[\]=]")
    wanted = re.compile(rf"^\s*[\"']?{re.escape(key)}[\"']?\s*=") if key is not None else None
    inside, at = False, 1
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"^\s*\[", line) or header.match(line):
            inside = bool(header.match(line))
            if inside:
                at = number
                if wanted is None:
                    return number
        elif inside and wanted is not None and wanted.match(line):
            return number
    return at
