"""Install a signed model update in the free slot, or return to the previous model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from edge import files
from edge.config import Config
from edge.errors import ModelError
from edge.models import golden
from edge.models.bundle import unpack
from edge.models.manifest import load_manifest, load_verified, read_verified
from edge.models.slots import Slot, Slots
from edge.processes import conversion
from edge.processes.assembly import DETECTOR
from edge.processes.gallery import load_calibration, load_cohort
from edge.provision.device.control_socket import ControlReply
from edge.provision.device.staging import Staging
from edge.provision.protocol import fields, messages
from edge.provision.protocol.replies import MAX_NAMES, Updated
from edge.vision.embedder import load_embedder


class UpdateRequests:
    """Tests a model before it is used; vision must start again afterwards."""

    def __init__(self, config: Config, slots: Slots) -> None:
        self._config = config
        self._slots = slots

    def _update(self, _: messages.UpdateApply) -> Updated:
        """Check a bundle's signature, fill the free slot, test the models there, and only then use them."""
        bundle = unpack(self._staged(), self._config.provision.update_key)
        slot = self._slots.fill(bundle)
        least, again = self._tested(slot), self._again(slot)
        self._slots.use(slot, bundle.release)
        return self._used(slot, least, again)

    def _roll_back(self, _: messages.UpdateRollBack) -> Updated:
        least, again = self._tested(self._slots.before), self._again(self._slots.before)
        return self._used(self._slots.roll_back(), least, again)

    def _staged(self) -> bytes:
        try:
            return files.read(Staging(self._config.data.provision).path, fields.MAX_UPDATE_BYTES)
        except OSError as e:
            raise ModelError(f"the update cannot be read: {e.strerror}", "send it again") from None

    def _tested(self, slot: Slot) -> float:
        """Return the least cosine of the golden self-test; raises ModelError if the models of a slot cannot be used."""
        manifest = self._slots.manifest_of(slot)
        recognition = self._config.recognition
        entry = load_manifest(manifest).embedder(recognition.model)
        load_calibration(entry, manifest.parent)
        load_cohort(entry, manifest.parent)
        load_verified(load_manifest(manifest).detector(DETECTOR), "onnxruntime", manifest.parent)
        embedder = load_embedder(entry, recognition.backend, recognition.threads, manifest.parent)
        return golden.check(entry, recognition.backend, read_verified(entry.golden, manifest.parent), embedder.embed)

    def _used(self, slot: Slot, least: float, again: Sequence[str]) -> Updated:
        model = load_manifest(self._slots.manifest_of(slot)).embedder(self._config.recognition.model)
        shown = list(again[:MAX_NAMES])
        return Updated(
            model=model.id[:16], slot=slot, self_test=round(least, 4), enrol_again=shown, enrol_again_count=len(again)
        )

    def _again(self, slot: Slot) -> list[str]:
        """Return the names of people whom a slot's models cannot recognise; vision converts the others."""
        if not self._config.data.store.exists():
            return []
        entry = load_manifest(self._slots.manifest_of(slot)).embedder(self._config.recognition.model)
        return [person.name for person in conversion.preview(self._config, entry).again]

    HANDLERS: ClassVar[Mapping[type[Any], Callable[..., ControlReply]]] = {
        messages.UpdateApply: _update,
        messages.UpdateRollBack: _roll_back,
    }
