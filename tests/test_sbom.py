"""The bill of materials is valid CycloneDX, complete, and reproducible."""

from __future__ import annotations

import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from edge.models.manifest import load_manifest
from tools import lock, sbom


def test_the_list_is_valid_cyclonedx_and_the_same_each_time() -> None:
    text = sbom.document()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert sbom.document() == text


def test_every_locked_library_and_every_model_file_is_in_it() -> None:
    components = {part["bom-ref"]: part for part in json.loads(sbom.document())["components"]}
    locked = {
        name for extra in ("base", *lock.EXTRAS) for name in lock.blocks((lock.FOLDER / f"{extra}.txt").read_text())
    }
    assert {name.partition(":")[2] for name in components if name.startswith("pypi:")} == locked
    models = {f"model:{entry.name}:{backend}" for entry in load_manifest().models for backend in entry.files}
    assert {name for name in components if name.startswith("model:")} == models
    hashes = {part["hashes"][0]["content"] for name, part in components.items() if name.startswith("model:")}
    assert hashes == {file.sha256 for entry in load_manifest().models for file in entry.files.values()}
