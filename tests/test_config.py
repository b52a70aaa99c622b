"""The configuration: strict; every error names file, line, key, value and a remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, inspect

from edge import config, forms
from edge.errors import ConfigError, ProvisionError
from edge.provision.protocol import messages

EXAMPLE = Path(__file__).parents[1] / "config" / "edge.toml"


def explained(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "edge.toml")
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_example_shows_every_key_with_its_default_and_a_comment() -> None:
    assert config.load(EXAMPLE) == config.Config()
    text = EXAMPLE.read_text(encoding="utf-8")
    for section in msgspec.structs.fields(config.Config):
        for key in msgspec.structs.fields(section.type):
            assert re.search(rf"^{key.name} = .+#", text, re.MULTILINE), f"[{section.name}] {key.name} is not commented"


def test_an_empty_file_is_all_defaults() -> None:
    assert config.parse("", "edge.toml") == config.Config()


@pytest.mark.parametrize(
    ("text", "line", "shown", "near"),
    [
        ("[camera]\nfps = 10\nwidht_px = 3\n", 3, "widht_px = 3", "width_px"),
        ("\n[camra]\nfps = 1\n", 2, "[camra]", "camera"),
        ("[mqtt]\nhots = 'x'\n[camera]\nfps = 1.0\n", 2, "hots = 'x'", "host"),
    ],
)
def test_a_misspelt_key_names_file_line_value_and_the_nearest_key(text: str, line: int, shown: str, near: str) -> None:
    message = explained(text)
    assert message.startswith(f"edge.toml:{line}: unknown key")
    assert shown in message
    assert f"did you mean '{near}'?" in message


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ("[camera]\nwidth_px = 640\nfps = 'fast'\n", 3, "fps = 'fast'"),
        ("[quality]\nmax_yaw = 1.5\n", 2, "max_yaw = 1.5"),
        ('[privacy]\npresence = { anna = "Anna" }\n', 2, "presence = {'anna': 'Anna'}"),
        ('[privacy]\npresence = { p-aaaaaaaa = "A\\nB" }\n', 2, "presence = {'p-aaaaaaaa'"),
        ("[camera]\nsource = 'webcam'\n", 2, "source = 'webcam'"),
        ("[device]\nid = 'Has Spaces'\n", 2, "id = 'Has Spaces'"),
        ("[camera]\npaths = [1]\n", 2, "paths = [1]"),
        ("camera = 3\n", 1, "camera = 3"),
    ],
)
def test_a_wrong_value_names_file_line_key_and_value(text: str, line: int, shown: str) -> None:
    message = explained(text)
    assert message.startswith(f"edge.toml:{line}: ")
    assert shown in message


def test_broken_toml_names_the_line() -> None:
    assert "line 2" in explained("[camera]\nfps = = 3\n")


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ("[mqtt]\ntls = True\n", "edge.toml:2: not TOML: not a value: tls = True", "write true, in small letters"),
        (
            "[mqtt]\ntls = true\ntls = false\n",
            "edge.toml:3: not TOML: the key 'tls' stands twice",
            "keep one of the two",
        ),
        ("[mqtt]\nport = 1\n[mqtt]\n", "edge.toml:3: not TOML: the section 'mqtt' stands twice", "keep one of the two"),
        (
            "[device]\nid = front\n",
            "edge.toml:2: not TOML: not a value: id = front",
            'put text in quotes: id = "front"',
        ),
        ("[camera]\nwidth_px = 640px\n", "edge.toml:2: not TOML: not a number", "without its unit"),
        ('[device]\nid = "x\n', "edge.toml:2: not TOML: a text without its end", "close the quotes"),
        ('[camera]\npaths = ["x"\n', "edge.toml:2: not TOML: a list without its end", "close it with ]"),
        ("[device\nid = 'x'\n", "edge.toml:1: not TOML: a section without its end", "write [device]"),
    ],
)
def test_invalid_toml_has_our_own_message(text: str, said: str, remedy: str) -> None:
    message = explained(text)
    assert message.startswith(said)
    assert remedy in message


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Literal["a", "b"], "one of: a, b"),
        (Annotated[int, Meta(ge=1)], "a whole number of at least 1"),
        (Annotated[float, Meta(gt=0, le=120)], "a number above 0, at most 120"),
        (Annotated[float, Meta(ge=0, lt=1)], "a number of at least 0 below 1"),
        (Annotated[float, Meta(le=5)], "a number at most 5"),
        (Annotated[str, Meta(min_length=1, max_length=64)], "text of 1 to 64 characters"),
        (bool | None, "true or false"),
        (list[str], "a list of which each part is text"),
    ],
)
def test_the_allowed_values_of_a_field_are_in_the_message(kind: object, words: str) -> None:
    assert forms.in_words(kind) == words


def test_every_pattern_of_the_configuration_has_its_words() -> None:
    keys = [key for section in msgspec.structs.fields(config.Config) for key in msgspec.structs.fields(section.type)]
    patterned = [key for key in keys if "pattern='" in repr(inspect.type_info(key.type))]
    assert len(patterned) >= 6
    assert [key.name for key in patterned if forms.in_words(key.type) == "text"] == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(tmp_path / "edge.toml")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(path)


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    try:
        config.parse(text, "edge.toml")
    except ConfigError as e:
        assert str(e).startswith("edge.toml:")


VALUES = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text("abc#+/\\ \n", max_size=8), st.floats()),
    lambda inner: st.lists(inner, max_size=3),
)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str) else repr(value)  # a JSON string is a TOML basic string


@given(
    st.sampled_from(
        [(s.name, k.name) for s in msgspec.structs.fields(config.Config) for k in msgspec.structs.fields(s.type)]
    ),
    VALUES,
)
def test_any_value_of_any_key_is_taken_or_refused_by_its_own_line(where: tuple[str, str], value: object) -> None:
    text = f"# a comment\n[{where[0]}]\n{where[1]} = {_toml(value)}\n"
    try:
        config.parse(text, "edge.toml")
    except ConfigError as e:
        assert str(e).startswith("edge.toml:3: ")
        assert where[1] in str(e)


def test_a_topic_prefix_with_a_control_character_is_refused_in_the_file_as_over_the_cable() -> None:
    assert "prefix" in explained('[mqtt]\nprefix = "a\x85b"\n')
    with pytest.raises(ProvisionError, match="prefix"):
        messages.check(messages.SetMqtt(prefix="a\x85b"))


@pytest.mark.parametrize(("section", "key"), config.REPLACED)
def test_an_old_key_is_refused_and_names_its_replacement(section: str, key: str) -> None:
    message = explained(f"[{section}]\n{key} = 1\n")
    assert message.startswith(f"edge.toml:2: the key is no longer used: [{section}] {key} = 1")
    replacement = re.search(r"it is \[(\w+)\] (\w+) now", message)
    assert replacement is not None
    assert replacement[2] in getattr(config.Config(), replacement[1]).__struct_fields__
