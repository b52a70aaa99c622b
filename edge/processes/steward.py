"""What vision does for the owner at the cable: people, enrolments, model updates. Asked over the control socket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from edge import files
from edge.cameras.picture import decode_image
from edge.config import Config
from edge.errors import EdgeError, EnrolmentError, ModelError, SourceError, StoreError
from edge.events.outbox import Outbox
from edge.identity.enrolment import Collection, Enrolment, Look, Stages
from edge.identity.guide import Guide
from edge.identity.store import checked_name
from edge.models import golden
from edge.models.bundle import unpack
from edge.models.manifest import load_manifest, load_verified, read_verified
from edge.models.slots import Slot, Slots
from edge.processes import forgetting, people
from edge.processes.assembly import DETECTOR, build_enrolment
from edge.processes.gallery import LiveGallery, load_calibration
from edge.provision.device.control import ControlReply, ControlRequest, Forget, Reload, Status, VisionStatus, WholePhoto
from edge.provision.device.staging import Staging
from edge.provision.protocol import fields, messages
from edge.provision.protocol.replies import Done, Enrolled, People, Person, PictureOutcome, Progress, Removed, Updated
from edge.records import Frame
from edge.vision.embedder import load_embedder
from edge.vocabulary import Reason

_log = logging.getLogger(__name__)
_PAGE = 100  # people in one reply
_MAX_PHOTOS = 100  # more do not make better templates
_UNASKED_S = 30.0  # a live enrolment that nobody follows ends: meanwhile nobody is recognised
_SHOWN = 10  # look-alikes named in one reply


class Steward:
    """Handles one request at a time, between two frames. An enrolment that was begun dies with its connection."""

    def __init__(
        self,
        config: Config,
        gallery: LiveGallery,
        stages: Callable[[Config], Stages] = build_enrolment,
    ) -> None:
        self.forgotten = False  # set: of whom vision met so far nothing may be kept
        self.reload = False  # set: vision must start anew with the settings and the model of now
        self.camera: Reason = "starting"  # what vision says of itself; set by it, so that nothing here keeps it alive
        self._config = config
        self._gallery = gallery
        self._slots = Slots(config.models_dir)
        self._stages = stages
        self._begun: messages.EnrolBegin | None = None
        self._guide: Guide | None = None
        self._photos: Collection | None = None
        self._asked_s: float | None = None  # time of the first frame since somebody asked how the enrolment goes

    @property
    def wants_frames(self) -> bool:
        """Whether frames go to an enrolment now, and not to recognition."""
        return self._guide is not None

    def see(self, frame: Frame) -> None:
        """Take a frame of the live camera."""
        if self._guide is None:
            return
        if self._asked_s is None:
            self._asked_s = frame.t_s
        elif frame.t_s - self._asked_s > _UNASKED_S:
            _log.warning("nobody asks how the enrolment goes: it is given up")
            self._forget_enrolment()
            return
        self._guide.see(frame)

    def handle(self, request: ControlRequest | None) -> ControlReply:
        """Do what is asked; None: whoever asked has gone. Raises EdgeError, and then nothing has changed."""
        if request is None:
            self._forget_enrolment()
            return Done()
        return self.HANDLERS[type(request)](self, request)

    # ── people ──

    def _status(self, _: Status) -> VisionStatus:
        return VisionStatus(
            model=self._gallery.model[:16],
            slot=self._slots.active,
            people=self._gallery.people_count,
            camera=self.camera,
        )

    def _list(self, request: messages.ListPeople) -> People:
        everybody = people.listing(self._config)
        page = everybody[request.start : request.start + _PAGE]
        return People(people=[_person(person) for person in page], total=len(everybody))

    def _rename(self, request: messages.Rename) -> Done:
        people.rename(self._config, request.person, request.name)
        return Done()

    def _ignore(self, request: messages.Ignore) -> Done:
        people.set_ignored(self._config, request.person, ignored=request.ignored)
        return Done()

    def _remove(self, request: messages.Remove) -> Removed:
        erasure = people.remove(self._config, request.person)
        return Removed(person=request.person, generation=erasure.generation, key_destroyed=erasure.gone)

    def _renew(self, _: messages.Renew) -> Done:
        return Done(note=f"{people.renew(self._config)} people have new templates; copies of the old link to nothing")

    # ── enrolment ──

    def _begin(self, request: messages.EnrolBegin) -> Progress:
        checked_name(request.name)
        self._forget_enrolment()
        self._gallery.refresh()
        forgetting.begin()
        self._begun = request
        stages = self._stages(self._config)
        if request.source == "camera":
            self._guide = Guide(stages, self._gallery.matcher.alike, self._config.store.templates_per_person)
            return self._progress()
        self._photos = Collection(stages)
        return Progress(hint="send photos", wanted=self._config.store.templates_per_person)

    def _look(self, _: messages.EnrolLook) -> Progress:
        return self._progress()

    def _photo(self, request: WholePhoto) -> Progress:
        if self._photos is None:
            raise _nothing_begun()
        if self._photos.taken >= _MAX_PHOTOS:
            raise EnrolmentError(f"more than {_MAX_PHOTOS} photos", "choose fewer, and the most different ones")
        look = self._take(self._photos, request)
        vectors = self._photos.embeddings[-self._config.store.templates_per_person :]
        near = tuple(person for person, _ in self._gallery.matcher.alike(vectors)) if vectors else ()
        return Progress(
            hint=", ".join(look.refused),
            quality=0.0 if look.quality is None else float(np.clip(look.quality.score, 0, 1)),
            accepted=self._photos.accepted,
            wanted=self._config.store.templates_per_person,
            looks_like=list(self._gallery.described(near[:_SHOWN])),
        )

    def _take(self, photos: Collection, request: WholePhoto) -> Look:
        """Decode a photo, look at it, and leave none of its pixels in memory."""
        try:
            image = decode_image(np.frombuffer(request.data, np.uint8), request.name)
        except SourceError as e:
            return photos.add(request.name, e)
        try:
            return photos.add(request.name, Frame(image, 0.0, 0))
        finally:
            image[:] = 0

    def _finish(self, _: messages.EnrolFinish) -> Enrolled:
        begun = self._begun
        if begun is None:
            raise _nothing_begun()
        report = people.keep(self._config, self._gallery, begun.name, self._enrolment(), ignored=begun.ignored)
        self._forget_enrolment()
        pictures = [
            PictureOutcome(name=o.name, refused=list(o.refused), template=o.template)
            for o in report.enrolment.outcomes[-_MAX_PHOTOS:]
        ]
        return Enrolled(
            person=_person(report.as_dict()), looks_like=list(report.looks_like[:_SHOWN]), pictures=pictures
        )

    def _cancel(self, _: messages.EnrolCancel) -> Done:
        self._forget_enrolment()
        return Done()

    def _enrolment(self) -> Enrolment:
        if self._guide is not None:
            return self._guide.finish()
        if self._photos is not None:
            return self._photos.finish(self._gallery.matcher.alike, self._config.store.templates_per_person)
        raise _nothing_begun()

    def _progress(self) -> Progress:
        if self._guide is None:
            raise _nothing_begun()
        self._asked_s = None
        seen = self._guide.progress()
        return Progress(
            hint=seen.hint,
            quality=seen.quality,
            accepted=seen.accepted,
            wanted=seen.wanted,
            poses=list(seen.poses),
            looks_like=list(self._gallery.described(seen.looks_like[:_SHOWN])),
            ready=seen.ready,
        )

    def _forget_enrolment(self) -> None:
        begun, self._begun = self._begun, None
        self._guide = self._photos = None  # the engines go with them, and what they kept of the last picture
        if begun is not None:
            forgetting.end()

    # ── models ──

    def _update(self, _: messages.UpdateApply) -> Updated:
        """Check a bundle's signature, fill the free slot, test the models there, and only then use them."""
        slot = self._slots.fill(unpack(self._staged(), self._config.provision.update_key))
        least = self._tested(slot)
        self._slots.use(slot)
        return self._used(slot, least)

    def _roll_back(self, _: messages.UpdateRollBack) -> Updated:
        least = self._tested(self._slots.before)
        return self._used(self._slots.roll_back(), least)

    def _staged(self) -> bytes:
        try:
            return files.read(Staging(self._config.provision_dir).path, fields.MAX_UPDATE_BYTES)
        except OSError as e:
            raise ModelError(f"the update cannot be read: {e.strerror}", "send it again") from None

    def _tested(self, slot: Slot) -> float:
        """Return the least cosine of the golden self-test; ModelError where a slot's models may not be used."""
        manifest = self._slots.manifest_of(slot)
        recognition = self._config.recognition
        entry = load_manifest(manifest).embedder(recognition.model)
        if entry.id != self._gallery.model and self._gallery.people_count:
            raise ModelError(
                f"{self._gallery.people_count} people are enrolled with another model: their templates cannot be "
                "compared with those of this one",
                "remove them first, and enrol them again afterwards",
            )
        load_calibration(entry, manifest.parent)
        load_verified(load_manifest(manifest).detector(DETECTOR), "onnxruntime", manifest.parent)
        embedder = load_embedder(entry, recognition.backend, recognition.threads, manifest.parent)
        return golden.check(entry, recognition.backend, read_verified(entry.golden, manifest.parent), embedder.embed)

    def _used(self, slot: Slot, least: float) -> Updated:
        self.reload = True
        model = load_manifest(self._slots.manifest_of(slot)).embedder(self._config.recognition.model)
        return Updated(model=model.id[:16], slot=slot, self_test=round(least, 4))

    # ── the device ──

    def _reload(self, _: Reload) -> Done:
        self.reload = True
        return Done()

    def _forget_all(self, _: Forget) -> Done:
        self._forget_enrolment()
        _forget_everything(self._config)
        self.reload = self.forgotten = True
        return Done()

    HANDLERS: ClassVar[Mapping[type[Any], Callable[..., ControlReply]]] = {
        Status: _status,
        Reload: _reload,
        Forget: _forget_all,
        WholePhoto: _photo,
        messages.ListPeople: _list,
        messages.Rename: _rename,
        messages.Ignore: _ignore,
        messages.Remove: _remove,
        messages.Renew: _renew,
        messages.EnrolBegin: _begin,
        messages.EnrolLook: _look,
        messages.EnrolFinish: _finish,
        messages.EnrolCancel: _cancel,
        messages.UpdateApply: _update,
        messages.UpdateRollBack: _roll_back,
    }


def _person(public: Mapping[str, Any]) -> Person:
    fields = Person.__struct_fields__
    return msgspec.convert({field: public[field] for field in fields}, Person)


def finish_forgetting(config: Config) -> None:
    """Go on with a reset that was cut off, by a power cut say; what fails again is logged, and waits for the next."""
    if not _mark_of(config).exists():
        return
    try:
        _forget_everything(config)
        _log.warning("a factory reset that was cut off is finished")
    except EdgeError as e:
        _log.error("a factory reset was cut off and cannot be finished: %s", e)


def _forget_everything(config: Config) -> None:
    """Destroy people, events and model updates; EdgeError where something stays. Each step can be done again."""
    mark = _mark_of(config)
    with suppress(OSError):  # a full disk: a reset that cannot be finished later is better than none
        mark.touch(0o600)
        files.sync_folder(mark.parent)
    people.forget_all(config)
    _forget_events(config)
    Slots(config.models_dir).forget()
    try:
        mark.unlink(missing_ok=True)
        files.sync_folder(mark.parent)  # else a power cut after the next enrolment would bring it back
    except OSError as e:
        raise StoreError(f"{mark}: cannot be removed: {e.strerror}", "check the medium, and reset again") from None


def _mark_of(config: Config) -> Path:
    """Return the file that stands while a reset is under way."""
    return config.data_dir / "resetting"


def _forget_events(config: Config) -> None:
    """Empty the outbox: what waits for the last owner's broker is not for the next one's, nor is who was met when."""
    if config.outbox_path.parent.exists():
        with closing(Outbox.of(config)) as outbox:
            outbox.forget_all()


def _nothing_begun() -> EnrolmentError:
    return EnrolmentError("no enrolment was begun", "begin with a name; vision may have been restarted meanwhile")
