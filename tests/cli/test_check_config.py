"""`check-config`, and what every command says about a configuration that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.rig.workbench import Bench

SHIPPED = Path(__file__).parents[2] / "config" / "edge.toml"


def test_shipped_configuration_is_good(bench: Bench) -> None:
    bench.path.write_bytes(SHIPPED.read_bytes())
    answer = bench.call("check-config")
    assert (answer.code, answer.output) == (0, f"{bench.path}: good\n")


def test_misspelt_key_is_told_with_file_line_key_value_and_the_nearest_key(bench: Bench) -> None:
    bench.path.write_text('[device]\nid = "door"\n\n[recognition]\nthread = 3\n', encoding="utf-8")
    answer = bench.call("check-config")
    assert (answer.code, answer.output) == (2, "")
    assert answer.complaint == (
        f"error: {bench.path}:5: unknown key: [recognition] thread = 3\n  → did you mean 'threads'?\n"
    )


def test_wrong_type_is_told_with_file_line_key_and_value(bench: Bench) -> None:
    bench.path.write_text('[mqtt]\nhost = "localhost"\nport = "1883"\n', encoding="utf-8")
    answer = bench.call("check-config")
    assert answer.code == 2
    assert f"{bench.path}:3: [mqtt] port = '1883': " in answer.complaint


def test_text_that_is_no_toml_is_told_with_its_place(bench: Bench) -> None:
    bench.path.write_text("[device\n", encoding="utf-8")
    answer = bench.call("check-config")
    assert answer.code == 2
    assert f"{bench.path}: not TOML" in answer.complaint
    assert "line 1" in answer.complaint


@pytest.mark.parametrize(
    ("section", "line", "complaint"),
    [
        ("recognition", "fmr = 0.05", "fmr must lie in 1e-4..1e-2"),
        ("recognition", "fmr = 5e-5", "fmr must lie in 1e-4..1e-2"),
        ("recognition", "min_embeddings = 9", "min_embeddings <= max_embeddings is needed"),
        ("recognition", 'model = "Light CNN"', "matching regex"),
        ("store", 'key = "store.key"', "matching regex"),
        ("store", 'key = "credential:a/b"', "matching regex"),
    ],
)
def test_what_vision_would_refuse_is_told_with_file_line_and_key(
    bench: Bench, section: str, line: str, complaint: str
) -> None:
    bench.path.write_text(f"\n[{section}]\n{line}\n", encoding="utf-8")
    answer = bench.call("check-config")
    assert answer.code == 2
    assert f"{bench.path}:3: [{section}] {line.partition(' ')[0]} = " in answer.complaint
    assert complaint in answer.complaint


def test_a_model_that_is_not_there_is_told_with_those_that_are(bench: Bench) -> None:
    bench.configure({"recognition": {"model": "facenet"}})
    answer = bench.call("check-config")
    assert (answer.code, answer.output) == (2, "")
    assert answer.complaint == (
        f"error: {bench.path}: [recognition] model: no embedder is called 'facenet'\n  → known: lightcnn9\n"
    )


@pytest.mark.parametrize("command", ["check-config", "run", "vision", "publish", "status", "doctor"])
def test_missing_configuration_ends_every_command_with_code_2(bench: Bench, command: str) -> None:
    bench.path.unlink()
    answer = bench.call(command)
    assert answer.code == 2
    assert answer.complaint.startswith(f"error: {bench.path}: no such file\n  → ")
    assert not bench.data.exists()


def test_unknown_command_and_missing_argument_end_with_code_2_and_no_traceback(bench: Bench) -> None:
    for arguments in (["recognise"], ["people", "rename", "p-aaaaaaaa"], ["people", "add", "Ada"]):
        answer = bench.call(*arguments)
        assert answer.code == 2
        assert "Usage:" in answer.errors
        assert "Traceback" not in answer.errors
