"""What a field may hold, in words a person understands, derived from its type: no message of a library reaches anybody.

A pattern has its words in `vocabulary.WORDS`; ranges, choices and kinds are read from the type itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

from edge.vocabulary import WORDS

_PATH = re.compile(r" - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`")


def in_words(kind: Any) -> str:
    """Return what a value of this type must be: "a whole number from 1 to 65535", "one of: a, b"."""
    return _words(kind if isinstance(kind, inspect.Type) else inspect.type_info(kind))


def choices(kind: Any) -> list[str]:
    """Return the texts that a type allows, where it is a choice; else nothing."""
    info = inspect.type_info(kind)
    return [value for value in info.values if isinstance(value, str)] if isinstance(info, inspect.LiteralType) else []


def path_of(error: msgspec.ValidationError) -> str:
    """Return where in the message the fault is, "mqtt.port"; "" for the whole. Positions in a list are left out."""
    found = _PATH.search(str(error))
    return re.sub(r"\[[^\]]*\]", "", found["path"]).replace("..", ".").strip(".") if found else ""


def field_type(form: type[msgspec.Struct], path: str) -> Any:
    """Return the type of the field that a path of `path_of` names in a struct; None where it names none."""
    kind: Any = form
    for name in path.split("."):
        fields = {f.encode_name: f.type for f in msgspec.structs.fields(kind)} if _is_struct(kind) else {}
        if name not in fields:
            return None
        kind = fields[name]
    return kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _words(info: inspect.Type) -> str:
    say = _SAY.get(type(info))
    return say(info) if say else "something else"


def _text(info: Any) -> str:
    if info.pattern in WORDS:
        return WORDS[info.pattern]
    least, most = info.min_length, info.max_length
    if least and most:
        return f"text of {least} to {most} characters"
    return f"text of at most {most} characters" if most else "text that is not empty" if least else "text"


def _either(info: Any) -> str:
    return " or ".join(_words(part) for part in info.types if not isinstance(part, inspect.NoneType))


def _table(info: Any) -> str:
    most = f"at most {info.max_length} of " if info.max_length else ""
    return f"{{ KEY = VALUE, … }}, {most}KEY: {_words(info.key_type)}; VALUE: {_words(info.value_type)}"


_SAY: dict[type[inspect.Type], Callable[[Any], str]] = {
    inspect.DictType: _table,
    inspect.Metadata: lambda info: _words(info.type),
    inspect.LiteralType: lambda info: "one of: " + ", ".join(map(str, info.values)),
    inspect.BoolType: lambda _: "true or false",
    inspect.IntType: lambda info: "a whole number" + _range(info.gt, info.ge, info.lt, info.le),
    inspect.FloatType: lambda info: "a number" + _range(info.gt, info.ge, info.lt, info.le),
    inspect.StrType: _text,
    inspect.ListType: lambda info: f"a list of which each part is {_words(info.item_type)}",
    inspect.UnionType: _either,
    inspect.StructType: lambda info: "an object with " + ", ".join(field.encode_name for field in info.fields),
}


def _range(gt: float | None, ge: float | None, lt: float | None, le: float | None) -> str:
    low = f"from {ge:g}" if ge is not None else f"above {gt:g}" if gt is not None else ""
    high = f"below {lt:g}" if lt is not None else f"to {le:.9g}" if le is not None else ""
    if high.startswith("to ") and not low.startswith("from"):
        high = f"at most {high.removeprefix('to ')}"
    if low.startswith("from") and not high.startswith("to "):
        low = low.replace("from", "of at least")
    return "".join(f" {bound}" for bound in (low + ("," if low.startswith("above") and high else ""), high) if bound)
