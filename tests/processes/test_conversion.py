"""A change of model: people with kept crops are recognised afterwards, the others are named."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import msgspec
import pytest

from edge.config import Config, DeviceConfig, RecognitionConfig
from edge.errors import StoreError
from edge.identity.keys import load_or_create_key
from edge.identity.store import Store
from edge.models.bundle import pack, unpack
from edge.models.slots import Slots
from edge.processes import conversion, enrolling, register
from edge.processes.assembly import build_enrolment
from edge.processes.gallery import LiveGallery
from edge.records import Frame
from tests.footage import still, video
from tests.models import relabelled
from tests.provision.harness import SIGNER, TRUSTED


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The man enrolled with crops, the woman without."""
    folder = tmp_path_factory.mktemp("enrolled")
    config = Config(device=DeviceConfig(data_dir=str(folder / "data")))
    for name, images in (("man", video("carphone")[:30:10]), ("woman", [still("astronaut")])):
        (folder / name).mkdir()
        for i, image in enumerate(images):
            cv2.imwrite(str(folder / name / f"{i}.png"), image)
    config.data.path.mkdir()
    man = enrolling.add(config, "The man", [folder / "man"], ignored=False, keep_crops=True)
    assert man.person.crops == man.person.templates > 0
    assert "kept: " in man.as_text()
    assert enrolling.add(config, "The woman", [folder / "woman"], ignored=False).person.crops == 0
    return config


@pytest.fixture
def config(enrolled: Config, tmp_path: Path) -> Config:
    """The same people in another folder."""
    config = msgspec.structs.replace(enrolled, device=DeviceConfig(data_dir=str(tmp_path / "data")))
    config.data.path.mkdir()
    for name in ("templates.edge", "store.key"):
        (config.data.path / name).write_bytes((enrolled.data.path / name).read_bytes())
        (config.data.path / name).chmod(0o600)
    return config


def update(config: Config, folder: Path, name: str = "lightcnn9") -> Slots:
    """Install a model with another id, as a signed update does."""
    slots = Slots(config.data.models)
    slots.use(slots.fill(unpack(pack(relabelled.write(folder, name), SIGNER), TRUSTED)))
    return slots


def recognised(config: Config) -> dict[str, str | None]:
    gallery, stages = LiveGallery(config), build_enrolment(config)
    found = {}
    for name, image in (("man", video("carphone")[25]), ("woman", still("astronaut"))):
        frame = Frame(image, 0.0, 0)
        face = stages.refiner.refine(frame, stages.detector.detect(frame)[0])
        person = gallery.matcher.match(stages.embedder.embed(stages.aligner.align(frame, face)).vector).person
        found[name] = None if person is None else gallery.name_of(person)
    return found


def test_an_update_converts_people_with_crops_and_going_back_restores_everybody(config: Config, tmp_path: Path) -> None:
    assert recognised(config) == {"man": "The man", "woman": "The woman"}
    slots = update(config, tmp_path / "other")
    with pytest.raises(StoreError, match="made with model 2a6e6696305f, but the model in use is 0123456789ab"):
        LiveGallery(config)
    assert [p.name for p in conversion.preview(config).again] == ["The woman"]
    conversion.follow(config)
    assert recognised(config) == {"man": "The man", "woman": None}
    assert LiveGallery(config).missing == ("The woman",)
    assert [(p["name"], bool(p["templates"])) for p in register.listing(config)] == [
        ("The man", True),
        ("The woman", False),
    ]
    slots.roll_back()
    conversion.follow(config)
    assert recognised(config) == {"man": "The man", "woman": "The woman"}
    assert LiveGallery(config).missing == ()


def test_a_missing_person_is_enrolled_again_by_name_and_keeps_the_id(
    config: Config, enrolled: Config, tmp_path: Path
) -> None:
    before = {person["name"]: person["id"] for person in register.listing(config)}
    update(config, tmp_path / "other")
    conversion.follow(config)
    again = enrolling.add(config, "The woman", [enrolled.data.path.parent / "woman"], keep_crops=True)
    assert again.person.id == before["The woman"]
    assert again.person.crops == again.person.templates == 1
    assert recognised(config) == {"man": "The man", "woman": "The woman"}


def test_the_store_is_converted_to_a_model_of_another_name_only_on_request(config: Config, tmp_path: Path) -> None:
    update(config, tmp_path / "other", name="another")
    config = msgspec.structs.replace(config, recognition=RecognitionConfig(model="another"))
    before = config.data.store.read_bytes()
    conversion.follow(config)
    assert config.data.store.read_bytes() == before
    with pytest.raises(StoreError, match="their templates cannot be compared") as refused:
        LiveGallery(config)
    assert 'set [recognition] model = "lightcnn9"' in refused.value.remedy
    assert "edge-daemon people update" in refused.value.remedy
    done = conversion.update(config)
    assert ([p.name for p in done.along], [p.name for p in done.again]) == (["The man"], ["The woman"])
    assert "enrol again: The woman (p-" in done.as_text(done=True)
    assert done.as_dict()["again"][0]["name"] == "The woman"
    assert recognised(config)["man"] == "The man"


def test_a_store_of_the_version_before_names_everybody(tmp_path: Path) -> None:
    config = Config(device=DeviceConfig(data_dir=str(tmp_path)))
    key = load_or_create_key(config.store.key, config.data.path, config.data.store, os.environ)
    del key
    (tmp_path / "store.key").write_bytes(bytes.fromhex(KEY_OF_OLD))
    config.data.store.write_bytes((OLD / "templates.edge").read_bytes())
    update(config, tmp_path / "other")
    everybody = [p.name for p in conversion.preview(config).again]
    assert everybody
    conversion.follow(config)
    assert list(LiveGallery(config).missing) == everybody


def test_without_a_store_there_is_nobody_to_convert(tmp_path: Path) -> None:
    config = Config(device=DeviceConfig(data_dir=str(tmp_path)))
    conversion.follow(config)
    assert not list(tmp_path.iterdir())
    with pytest.raises(StoreError, match="nobody is enrolled yet"):
        conversion.update(config)


def test_a_crop_of_a_form_that_is_not_known_changes_nothing(config: Config, tmp_path: Path) -> None:
    key = load_or_create_key(config.store.key, config.data.path, config.data.store, os.environ)
    gallery = LiveGallery(config)
    store = Store.open(config.data.store, key, gallery.model)
    vectors = store.gallery().templates[:1]
    store.add("Zoe", vectors, crops=[bytearray(b"\x07" + bytes(100))])
    before = config.data.store.read_bytes()
    update(config, tmp_path / "other")
    with pytest.raises(StoreError, match="not a crop of a form that this program keeps"):
        conversion.follow(config)
    assert config.data.store.read_bytes() == before


OLD = Path(__file__).parents[1] / "models/old"
KEY_OF_OLD = "9072b352361ff418eeae20205e01d1ba09dee74a8c04ff6d0644c63192e13509"
