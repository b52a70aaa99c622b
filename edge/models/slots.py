"""Three slots for model updates beside the built-in models: the active one, the previous one, and a free one.

The free slot is filled and tested while the others stay unchanged. Then one small file, replaced atomically, makes it
the active one. An update that is refused or interrupted has therefore changed nothing. A new model is on trial until
the process that uses it has worked. Starts that end before are counted; after the second the previous model returns.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import msgspec

from edge import files
from edge.errors import ModelError
from edge.models.bundle import MANIFEST_NAME, Bundle
from edge.models.manifest import MANIFEST

Slot = Literal["built-in", "a", "b", "c"]
_SLOTS: tuple[Slot, ...] = ("a", "b", "c")
_MAX_STARTS = 2  # of a model on trial: a power cut may have ended one of them
_MAX_FILE_BYTES = 1024


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    active: Slot = "built-in"
    before: Slot = "built-in"
    starts: int = -1  # of the model on trial; −1: its trial is over


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
        """Write a bundle durably to the free slot and return the slot. Raises ModelError."""
        slot = self._free()[0]
        folder = self._folder / slot
        try:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(mode=0o700, parents=True)
            for name, content in bundle.files.items():
                files.write_all(files.create(folder / name), content)
            files.sync_folder(folder)
            files.sync_folder(self._folder)
        except OSError as e:
            raise ModelError(f"{folder}: cannot be written: {e.strerror}", "free some space; nothing changed") from None
        return slot

    def use(self, slot: Slot) -> None:
        """Use a slot on trial from the next start on; the slot that was the previous one until now is removed."""
        self._write(_State(slot, self.active, 0))
        for free in self._free():
            shutil.rmtree(self._folder / free, ignore_errors=True)

    def roll_back(self) -> Slot:
        """Return to the previous models; raises ModelError where there are none."""
        before = self.before
        self._write(_State(before, before))
        return before

    def begin_start(self) -> Slot | None:
        """Count a start; return the abandoned slot where a model on trial has failed too often, else None."""
        state = self._state()
        if state.starts < 0:
            return None
        if state.starts >= _MAX_STARTS:
            self.roll_back()
            return state.active
        self._write(_State(state.active, state.before, state.starts + 1))
        return None

    def end_start(self) -> None:
        """Undo a counted start: a stop was requested before the trial could end."""
        state = self._state()
        if state.starts > 0:
            self._write(_State(state.active, state.before, state.starts - 1))

    @property
    def on_trial(self) -> bool:
        """Whether the models in use are on trial."""
        return self._state().starts >= 0

    def prove(self) -> None:
        """End the trial: the process that uses the model works."""
        state = self._state()
        if state.starts >= 0:
            self._write(_State(state.active, state.before))

    def forget(self) -> None:
        """Return to the built-in models, and remove all slots."""
        if self._folder.exists():
            self._write(_State())
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
        return state if self.manifest_of(state.active).is_file() else _State()

    def _write(self, state: _State) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.replace(self._path, msgspec.json.encode(state))
        except OSError as e:
            raise ModelError(f"{self._path}: cannot be written: {e.strerror}", "check the medium") from None
