"""Files of earlier versions still work: stores, and models with earlier manifests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge.config import Config
from edge.errors import ModelError, StoreError
from edge.identity.keys import StoreKey
from edge.identity.store import Store
from edge.models import golden
from edge.models.bundle import pack, unpack
from edge.models.manifest import MANIFEST, EmbedderEntry, load_manifest, load_verified
from edge.processes.assembly import build_enrolment
from edge.records import Frame
from edge.vision.detector import YuNetDetector
from edge.vision.embedder import open_embedder
from tests.footage import video
from tests.models import old_form
from tests.provision.harness import SIGNER, TRUSTED

OF_THE_STORE = "2a6e6696305fc8c4180e56c818a6c52ee52247177032616404d348c3bb8b47fc"
KEY = StoreKey(bytes.fromhex("9072b352361ff418eeae20205e01d1ba09dee74a8c04ff6d0644c63192e13509"))


def test_a_manifest_of_an_earlier_version_gets_the_detector_that_is_shipped_now(tmp_path: Path) -> None:
    old = load_manifest(old_form.write(tmp_path / "old"))
    (file,) = old.detector("yunet").files.values()
    assert file.locate(tmp_path) == MANIFEST.parent / "yunet.onnx"
    model = load_verified(old.detector("yunet"), "onnxruntime", tmp_path)
    assert len(YuNetDetector(model, 0.8, 640).detect(Frame(video("carphone")[0], 0.0, 0))) == 1


def test_roles_that_a_bundle_of_an_earlier_version_lacks_are_filled_with_the_shipped_models(tmp_path: Path) -> None:
    shipped, old = load_manifest(), load_manifest(old_form.write(tmp_path / "old"))
    assert {type(entry) for entry in old.models} == {type(entry) for entry in shipped.models}
    others = [entry for entry in old.models if not isinstance(entry, EmbedderEntry)]
    assert others
    for entry in others:
        assert not entry.own_files
        for backend in entry.files:
            assert load_verified(entry, backend, tmp_path / "old")


@pytest.mark.parametrize("backend", ["onnxruntime", "litert"])
def test_an_embedder_of_an_earlier_version_gives_identical_embeddings(tmp_path: Path, backend: str) -> None:
    old = open_embedder("lightcnn9", backend, manifest=old_form.write(tmp_path / "old"))
    new = open_embedder("lightcnn9", backend)
    assert old.model == new.model
    for crop in golden.crops(new.contract):
        np.testing.assert_array_equal(old.embed(crop).vector, new.embed(crop).vector)


def test_a_file_in_a_package_that_is_not_known_is_an_error(tmp_path: Path) -> None:
    path = old_form.write(tmp_path / "old")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["models"][0]["files"]["opencv"]["package"] = "another"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModelError, match=r"manifest\.json: Invalid enum value 'another'"):
        load_manifest(path)


def test_a_store_of_an_earlier_version_opens_and_its_man_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "templates.edge"
    shutil.copy(old_form.HERE / path.name, path)
    entry = load_manifest().embedder("lightcnn9")
    if entry.id != OF_THE_STORE:  # new weights: other embeddings
        with pytest.raises(StoreError, match=f"made with model {OF_THE_STORE[:12]}"):
            Store.open(path, KEY, entry.id)
        return
    store = Store.open(path, KEY, entry.id)
    assert [person.name for person in store.people()] == ["The man"]
    later = Frame(np.repeat(np.repeat(video("carphone")[80], 3, axis=0), 3, axis=1), 0.0, 0)
    stages = build_enrolment(Config())
    (face,) = stages.detector.detect(later)
    embedding = stages.embedder.embed(stages.aligner.align(later, face))
    gallery = store.gallery()
    scores = gallery.templates @ gallery.rotate(embedding.vector[None])[0]
    assert scores.mean() > 0.5


def test_a_bundle_of_old_models_contains_only_files_beside_its_manifest(tmp_path: Path) -> None:
    path = old_form.write(tmp_path / "old")
    packed = unpack(pack(path, SIGNER), TRUSTED)
    assert set(packed.files) == {file.name for file in path.parent.iterdir()}
