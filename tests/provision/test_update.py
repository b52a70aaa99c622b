"""A model update: signed, resumable, tested before use, with a way back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.errors import ModelError
from edge.models import bundle as format_
from edge.models.bundle import pack, unpack
from edge.models.manifest import MANIFEST, load_manifest
from edge.models.slots import Slots
from edge.processes.assembly import build_detector, build_embedder
from edge.provision.host import actions
from edge.provision.host.cable_client import Client, DeviceError
from edge.provision.protocol import messages
from edge.provision.protocol.limits import CHUNK_BYTES
from edge.provision.protocol.replies import DeviceInfo, Stored, Updated
from tests.models import old_form, relabelled
from tests.provision.harness import SIGNER, TRUSTED, OnTable, client, enrol_man


@pytest.fixture(scope="module")
def bundle() -> bytes:
    return pack(MANIFEST, SIGNER)


@pytest.fixture
def host(table: OnTable) -> Client:
    made = client(table)
    made.connect()
    return made


def slot(table: OnTable) -> str:
    return table.must(messages.Info(), DeviceInfo).model_slot


def send(host: Client, bundle: bytes) -> Updated:
    return actions.update(host, bundle, lambda *_: None)


def other_model(folder: Path, **changes: object) -> bytes:
    """A validly signed bundle of the built-in models with a change in its manifest."""
    shutil.copytree(MANIFEST.parent, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    manifest = json.loads((folder / "manifest.json").read_text())
    (embedder,) = (m for m in manifest["models"] if m["name"] == "lightcnn9")
    embedder.update(changes)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return pack(folder / "manifest.json", SIGNER)


def test_an_update_is_tested_in_a_free_slot_used_and_rolled_back(table: OnTable, host: Client, bundle: bytes) -> None:
    enrol_man(host)
    updated = send(host, bundle)
    assert updated.slot == "a"
    assert updated.self_test > 0.98
    assert slot(table) == "a"
    assert table.must(messages.Info(), DeviceInfo).people == 1
    assert send(host, bundle).slot == "b"
    assert host.call(messages.UpdateRollBack(), Updated).slot == "a"
    with pytest.raises(DeviceError, match="no model to go back to"):
        host.call(messages.UpdateRollBack(), Updated)
    assert not list((table.folder / "data" / "provision").glob("update*"))  # nothing is left of the transfer


@pytest.mark.parametrize("damage", ["other signer", "a byte", "cut short", "no bundle"])
def test_a_bundle_without_a_trusted_signature_changes_nothing(
    table: OnTable, host: Client, bundle: bytes, damage: str
) -> None:
    bad = {
        "other signer": pack(MANIFEST, Ed25519PrivateKey.generate()),
        "a byte": bundle[:-5] + bytes([bundle[-5] ^ 1]) + bundle[-4:],
        "cut short": bundle[:-1],
        "no bundle": b"x" * 1000,
    }[damage]
    with pytest.raises(DeviceError, match=r"not signed with|not a model bundle"):
        send(host, bad)
    assert slot(table) == "built-in"


def test_a_device_without_a_trusted_key_takes_no_update(tmp_path: Path, bundle: bytes) -> None:
    with pytest.raises(ModelError, match="takes no model updates"):
        unpack(bundle, "")
    assert unpack(bundle, TRUSTED).files


def test_a_signed_bundle_cannot_write_outside_its_slot(tmp_path: Path) -> None:
    for name in ("../escape", "/etc/passwd", ".hidden", ""):
        body = msgspec.msgpack.encode({"files": {"manifest.json": b"{}", name: b"x"}})
        raw = format_._MAGIC + SIGNER.sign(format_._MAGIC + body) + body
        with pytest.raises(ModelError, match="cannot be read"):
            unpack(raw, TRUSTED)


def test_a_model_that_fails_its_self_test_is_not_used(table: OnTable, host: Client, tmp_path: Path) -> None:
    contract = {
        "colour": "gray",
        "mean": [0.0],
        "std": [2.0],  # wrong scaling of the input
        "size_px": 128,
        "landmarks": "midpoints",
        "template_px": [[64.0, 40.0], [64.0, 88.0]],
    }
    with pytest.raises(DeviceError, match="golden self-test"):
        send(host, other_model(tmp_path / "other", contract=contract))
    assert slot(table) == "built-in"


def test_an_update_to_another_model_names_who_must_be_enrolled_again(
    table: OnTable, host: Client, tmp_path: Path
) -> None:
    enrol_man(host)
    updated = send(host, pack(relabelled.write(tmp_path / "other"), SIGNER))
    assert (updated.slot, updated.enrol_again, updated.enrol_again_count) == ("a", ["The man"], 1)
    assert host.call(messages.UpdateRollBack(), Updated).enrol_again == []


def test_the_next_run_continues_where_the_cable_was_unplugged(table: OnTable, host: Client, bundle: bytes) -> None:
    sent = host.send_update(bundle)
    assert next(sent) == 0
    for _ in range(20):
        reached = next(sent)
    table.device.lost()
    table.restart()
    again = client(table)
    again.connect()
    offsets = list(again.send_update(bundle))
    assert offsets[0] >= reached > 0
    assert again.call(messages.UpdateApply(), Updated).slot == "a"


def test_another_bundle_starts_from_zero_and_chunks_must_be_in_order(table: OnTable, host: Client) -> None:
    begin = messages.UpdateBegin(size=100_000, sha256="0" * 64)
    assert host.call(begin, Stored).offset == 0
    chunk = memoryview(bytes(CHUNK_BYTES))
    assert host.call(messages.UpdateChunk(offset=0, data=chunk), Stored).offset == CHUNK_BYTES
    for offset in (0, 1, CHUNK_BYTES + 1, 99_999):
        with pytest.raises(DeviceError, match="a piece at"):
            host.call(messages.UpdateChunk(offset=offset, data=chunk), Stored)
    with pytest.raises(DeviceError, match="not complete"):
        host.call(messages.UpdateApply(), Updated)
    assert host.call(begin, Stored).offset == CHUNK_BYTES
    assert host.call(messages.UpdateBegin(size=100_000, sha256="1" * 64), Stored).offset == 0


def test_a_damaged_bundle_is_deleted(table: OnTable, host: Client) -> None:
    host.call(messages.UpdateBegin(size=10, sha256="0" * 64), Stored)
    host.call(messages.UpdateChunk(offset=0, data=memoryview(b"0123456789")), Stored)
    with pytest.raises(DeviceError, match="arrived damaged"):
        host.call(messages.UpdateApply(), Updated)
    assert host.call(messages.UpdateBegin(size=10, sha256="0" * 64), Stored).offset == 0


# ── slots ──


def test_a_trial_model_that_never_works_is_rolled_back_at_the_third_start(tmp_path: Path, bundle: bytes) -> None:
    slots = Slots(tmp_path)
    slots.use(slots.fill(unpack(bundle, TRUSTED)))
    assert slots.begin_start() is None  # killed before it has worked, for example by a power cut
    assert Slots(tmp_path).begin_start() is None
    assert Slots(tmp_path).begin_start() == "a"
    assert slots.active == "built-in"


def test_a_refused_update_keeps_the_model_in_use_and_the_previous_one(
    table: OnTable, host: Client, bundle: bytes, tmp_path: Path
) -> None:
    send(host, bundle)
    send(host, bundle)
    models = table.config.data.models
    before = {path: path.read_bytes() for slot in "ab" for path in (models / slot).iterdir()}
    for name, id_ in (("one", "0" * 64), ("two", "1" * 64)):
        with pytest.raises(DeviceError):
            send(host, other_model(tmp_path / name, id=id_))
    assert {path: path.read_bytes() for slot in "ab" for path in (models / slot).iterdir()} == before
    assert host.call(messages.UpdateRollBack(), Updated).slot == "a"


class PowerCutError(BaseException):
    """Nothing in the product catches it."""


@pytest.mark.parametrize("steps", range(36))  # the last ones are not interrupted
def test_an_update_interrupted_at_any_step_changes_nothing_or_everything(
    tmp_path: Path, bundle: bytes, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    slots, unpacked = Slots(tmp_path), unpack(bundle, TRUSTED)
    for _ in range(2):
        slots.use(slots.fill(unpacked))
        slots.prove()
    left = iter(range(steps))

    def cut_after(real: Callable[..., object]) -> Callable[..., object]:
        def step(*given: Any, **named: Any) -> object:
            if next(left, None) is None:
                raise PowerCutError
            return real(*given, **named)

        return step

    with monkeypatch.context() as patched, suppress(PowerCutError):
        for name in ("open", "rename", "replace", "unlink", "rmdir", "mkdir", "fsync"):
            patched.setattr(os, name, cut_after(getattr(os, name)))
        slots.use(slots.fill(unpacked))
    after = Slots(tmp_path)
    assert (after.active, after.before) in {("b", "a"), ("c", "b")}
    for slot in (after.active, after.before):
        folder = after.manifest_of(slot).parent
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert found.pop(".signed") == bundle
        assert found == unpacked.files
    after.use(after.fill(unpacked))  # the next update succeeds


def test_a_model_that_has_worked_stays(tmp_path: Path, bundle: bytes) -> None:
    slots = Slots(tmp_path)
    slots.use(slots.fill(unpack(bundle, TRUSTED)))
    slots.begin_start()
    slots.prove()
    for _ in range(5):
        assert Slots(tmp_path).begin_start() is None
    assert slots.active == "a"


@pytest.mark.parametrize("content", [b"", b"{}{", b'{"active": "c"}', b'{"active": "b"}'])
def test_an_empty_slot_file_means_the_built_in_models(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "slots.json").write_bytes(content)
    assert Slots(tmp_path).manifest == MANIFEST


def test_a_signed_bundle_of_an_earlier_version_is_taken_and_people_stay(
    table: OnTable, host: Client, tmp_path: Path
) -> None:
    enrol_man(host)
    updated = send(host, pack(old_form.write(tmp_path / "old"), SIGNER))
    assert updated.self_test > 0.98
    assert (updated.slot, slot(table)) == ("a", "a")
    assert table.must(messages.Info(), DeviceInfo).people == 1
    build_detector(table.config)
    assert build_embedder(table.config).model == load_manifest().embedder("lightcnn9").id
