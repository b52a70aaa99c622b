"""Three slots for model updates beside the built-in models: the active one, the previous one, and a free one.

The free slot is filled and tested while the others stay unchanged. Then one small file, replaced atomically, makes it
the active one. An update that is refused or interrupted has therefore changed nothing. A new model is on trial until
the process that uses it has worked. Starts that end before are counted; after the second the previous model returns.

Each slot keeps its signed bundle, and each start compares the slot's files with it. A device stores the highest release
that has worked, and refuses lower ones. A roll-back to the previous models is always possible.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import structs

from edge import files
from edge.errors import ModelError
from edge.models.bundle import MANIFEST_NAME, Bundle, unpack
from edge.models.manifest import MANIFEST

Slot = Literal["built-in", "a", "b", "c"]
_SLOTS: tuple[Slot, ...] = ("a", "b", "c")
_MAX_STARTS = 2  # of a model on trial: a power cut may have ended one of them
_MAX_FILE_BYTES = 1024
_SIGNED = ".signed"  # the signed bundle; no file of a bundle can have this name
_MAX_BUNDLE_BYTES = 256 << 20
_AGAIN = "send the update again: edge-enroll update BUNDLE"


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    active: Slot = "built-in"
    before: Slot = "built-in"
    starts: int = -1  # of the model on trial; −1: its trial is over
    release: int = 0  # of the model in use; 0: built-in, or without a number
    least_release: int = 0  # lowest release of an update: the highest that has passed its trial


class Slots:
    """The slots of one device."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "slots.json"

    @property
    def active(self) -> Slot:
        """Slot of the models in use."""
        return self._state().active

    @property
    def before(self) -> Slot:
        """Slot of the models that were in use before; ModelError where there were none."""
        state = self._state()
        if state.active == state.before:
            raise ModelError("there is no model to go back to", "the one in use is the only one")
        return state.before

    @property
    def manifest(self) -> Path:
        """The manifest of the models in use."""
        return self.manifest_of(self.active)

    def manifest_of(self, slot: Slot) -> Path:
        """Return the manifest of a slot."""
        return MANIFEST if slot == "built-in" else self._folder / slot / MANIFEST_NAME

    def fill(self, bundle: Bundle) -> Slot:
        """Write a bundle durably to the free slot and return the slot. Raises ModelError, also for an older release."""
        least = self._state().least_release
        if bundle.release < least:
            what = f"the bundle's release, {bundle.release}, is older than {least}, which this device has used"
            raise ModelError(what, "take a newer bundle; edge-enroll update --roll-back goes back to the models before")
        slot = self._free()[0]
        folder = self._folder / slot
        try:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(mode=0o700, parents=True)
            for name, content in (*bundle.files.items(), (_SIGNED, bundle.raw)):
                files.write_all(files.create(folder / name), content)
            files.sync_folder(folder)
            files.sync_folder(self._folder)
        except OSError as e:
            raise ModelError(f"{folder}: cannot be written: {e.strerror}", "free some space; nothing changed") from None
        return slot

    def use(self, slot: Slot, release: int = 0) -> None:
        """Use a slot from the next start on, on trial; the models before the present ones are removed."""
        self._write(_State(slot, self.active, 0, release, self._state().least_release))
        for free in self._free():
            shutil.rmtree(self._folder / free, ignore_errors=True)

    def roll_back(self) -> Slot:
        """Return to the previous models; raises ModelError where there are none."""
        before = self.before
        self._write(_State(before, before, least_release=self._state().least_release))
        return before

    def check(self, public_key: str) -> None:
        """Compare the models in use with their bundle, signed by `public_key`; raise ModelError if they differ."""
        slot = self.active
        if slot == "built-in":
            return
        folder = self._folder / slot
        try:
            bundle = unpack(files.read(folder / _SIGNED, _MAX_BUNDLE_BYTES), public_key)
            same = all(files.read(folder / name, len(content)) == content for name, content in bundle.files.items())
        except OSError as e:
            raise ModelError(f"{folder}: cannot be checked: {e.strerror}", _AGAIN) from None
        if not same:
            raise ModelError(f"{folder}: its files are not those that were signed", _AGAIN)

    def distrust(self) -> Slot:
        """Return to the built-in models, without a way back to the slots; return the slot that was in use."""
        state = self._state()
        self._write(_State(least_release=state.least_release))
        return state.active

    def begin_start(self) -> Slot | None:
        """Count a start; return the abandoned slot where a model on trial has failed too often, else None."""
        state = self._state()
        if state.starts < 0:
            return None
        if state.starts >= _MAX_STARTS:
            self.roll_back()
            return state.active
        self._write(structs.replace(state, starts=state.starts + 1))
        return None

    def end_start(self) -> None:
        """Undo a counted start: a stop was requested before the trial could end."""
        state = self._state()
        if state.starts > 0:
            self._write(structs.replace(state, starts=state.starts - 1))

    @property
    def on_trial(self) -> bool:
        """Whether the models in use are on trial."""
        return self._state().starts >= 0

    def prove(self) -> None:
        """End the trial: the process that uses the model works."""
        state = self._state()
        if state.starts >= 0:
            least = max(state.release, state.least_release)
            self._write(structs.replace(state, starts=-1, least_release=least))

    def forget(self) -> None:
        """Return to the built-in models, and remove all slots."""
        if self._folder.exists():
            self._write(_State(least_release=self._state().least_release))
            for slot in _SLOTS:
                shutil.rmtree(self._folder / slot, ignore_errors=True)

    def _free(self) -> list[Slot]:
        """Return the slots that are neither active nor previous: at least one."""
        state = self._state()
        return [slot for slot in _SLOTS if slot not in {state.active, state.before}]

    def _state(self) -> _State:
        try:
            state = msgspec.json.decode(files.read(self._path, _MAX_FILE_BYTES), type=_State)
        except (OSError, msgspec.MsgspecError):  # no file or a damaged one: use the built-in models
            return _State()
        there = self.manifest_of(state.active).is_file()
        return state if there else _State(least_release=state.least_release)

    def _write(self, state: _State) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.replace(self._path, msgspec.json.encode(state))
        except OSError as e:
            raise ModelError(f"{self._path}: cannot be written: {e.strerror}", "check the medium") from None
