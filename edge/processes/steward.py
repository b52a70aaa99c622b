"""What vision does for the owner at the cable: people, enrolments, model updates. Asked over the control socket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec
import numpy as np

from edge.config import Config
from edge.errors import EnrolmentError, SourceError
from edge.identity.enrolment import Collection, Enrolment, Look, Stages
from edge.identity.guide import Guide
from edge.identity.store import checked_name
from edge.processes import forgetting, people
from edge.processes.gallery import LiveGallery
from edge.provision import messages
from edge.provision.control import ControlReply, ControlRequest, Forget, Reload, Status, VisionStatus, WholePhoto
from edge.provision.messages import Done, Enrolled, People, Person, PictureOutcome, Progress, Removed
from edge.records import AlignedFace, Frame
from edge.vision.camera import decode_image

_log = logging.getLogger(__name__)
_PAGE = 100  # people in one reply
_MAX_PHOTOS = 100  # more do not make better templates
_UNASKED_S = 30.0  # a live enrolment that nobody follows ends: meanwhile nobody is recognised
_SHOWN = 10  # look-alikes named in one reply


class Steward:
    """Handles one request at a time, between two frames. An enrolment that was begun dies with its connection."""

    def __init__(
        self, config: Config, gallery: LiveGallery, stages: Stages, blank: AlignedFace, camera: Callable[[], str]
    ) -> None:
        self.reload = False  # set: vision must start anew with the settings and the model of now
        self._config = config
        self._gallery = gallery
        self._stages = stages
        self._blank = blank  # a crop of nobody, in the geometry of the embedder
        self._camera = camera
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
            slot="built-in",
            people=self._gallery.people_count,
            camera=self._camera(),
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
        if request.source == "camera":
            self._guide = Guide(self._stages, self._gallery.matcher.alike, self._config.store.templates_per_person)
            return self._progress()
        self._photos = Collection(self._stages)
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
            forgetting.overwrite(image, self._stages, self._blank)

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
        if self._begun is not None:
            forgetting.end()
        self._begun = self._guide = self._photos = None

    # ── the device ──

    def _reload(self, _: Reload) -> Done:
        self.reload = True
        return Done()

    def _forget_all(self, _: Forget) -> Done:
        self._forget_enrolment()
        people.forget_all(self._config)
        self.reload = True
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
    }


def _person(public: Mapping[str, Any]) -> Person:
    fields = Person.__struct_fields__
    return msgspec.convert({field: public[field] for field in fields}, Person)


def _nothing_begun() -> EnrolmentError:
    return EnrolmentError("no enrolment was begun", "begin with a name; vision may have been restarted meanwhile")
