"""A signed bundle has a release number; its files are verified against the signature at each start."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.errors import ModelError
from edge.models.bundle import pack, unpack
from edge.models.manifest import MANIFEST
from edge.models.slots import Slots
from tests.provision.harness import SIGNER, TRUSTED


def update(folder: Path, release: int) -> Slots:
    """Install a bundle of this release, and mark it as working."""
    slots = Slots(folder)
    bundle = unpack(pack(MANIFEST, SIGNER, release), TRUSTED)
    assert bundle.release == release
    slots.use(slots.fill(bundle), bundle.release)
    Slots(folder).prove()
    return Slots(folder)


def test_an_older_release_is_refused_once_a_newer_one_has_worked(tmp_path: Path) -> None:
    update(tmp_path, 0)  # from before release numbers
    update(tmp_path, 3)
    before = Slots(tmp_path)._state()
    for older in (0, 2):
        with pytest.raises(ModelError, match=f"release, {older}, is older than 3"):
            update(tmp_path, older)
    assert Slots(tmp_path)._state() == before
    update(tmp_path, 3)
    update(tmp_path, 4)


def test_neither_roll_back_nor_reset_nor_lost_models_admit_an_older_release(tmp_path: Path) -> None:
    update(tmp_path, 3)
    slots = update(tmp_path, 5)
    assert slots.roll_back() == "a"  # the owner may still roll back
    with pytest.raises(ModelError, match="older than 5"):
        update(tmp_path, 4)
    slots.forget()
    with pytest.raises(ModelError, match="older than 5"):
        update(tmp_path, 4)
    active = update(tmp_path, 5)
    active.manifest.unlink()
    assert Slots(tmp_path).active == "built-in"
    with pytest.raises(ModelError, match="older than 5"):
        update(tmp_path, 4)


def test_a_release_that_never_worked_does_not_block_older_ones(tmp_path: Path) -> None:
    update(tmp_path, 3)
    slots = Slots(tmp_path)
    slots.use(slots.fill(unpack(pack(MANIFEST, SIGNER, 9), TRUSTED)), 9)
    slots.roll_back()
    slots.prove()
    update(tmp_path, 4)


def test_the_models_in_use_are_verified_against_the_signature(tmp_path: Path) -> None:
    Slots(tmp_path).check("")  # the built-in models need no signature
    slots = update(tmp_path, 1)
    slots.check(TRUSTED)
    folder = slots.manifest.parent
    manifest = slots.manifest.read_bytes()
    slots.manifest.write_bytes(manifest.replace(b"lightcnn9", b"lightcnn8"))
    with pytest.raises(ModelError, match="not those that were signed"):
        slots.check(TRUSTED)
    slots.manifest.write_bytes(manifest + b" ")
    with pytest.raises(ModelError, match=r"cannot be checked|not those"):
        slots.check(TRUSTED)
    slots.manifest.write_bytes(manifest)
    slots.check(TRUSTED)
    with pytest.raises(ModelError, match="takes no model updates"):
        slots.check("")
    (folder / ".signed").write_bytes(pack(MANIFEST, Ed25519PrivateKey.generate(), 1))
    with pytest.raises(ModelError, match="not signed with"):
        slots.check(TRUSTED)
    (folder / ".signed").unlink()
    with pytest.raises(ModelError, match="cannot be checked"):
        slots.check(TRUSTED)


def test_after_a_failed_update_the_built_in_models_are_used(tmp_path: Path) -> None:
    update(tmp_path, 2)
    slots = update(tmp_path, 2)
    assert slots.distrust() == "b"
    assert slots.active == "built-in"
    with pytest.raises(ModelError, match="no model to go back to"):
        _ = slots.before
    with pytest.raises(ModelError, match="older than 2"):
        update(tmp_path, 1)
