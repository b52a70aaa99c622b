"""Enrol a person from the live camera or from photos. An enrolment ends with its connection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from edge.cameras.decoder import PictureDecoder
from edge.config import Config
from edge.errors import EnrolmentError, SourceError
from edge.identity.enrolment import Collection, Enrolment, Look, Stages
from edge.identity.guide import LiveEnrolment
from edge.identity.store import Person
from edge.processes import enrolling, forgetting, liveness_stage
from edge.processes.gallery import LiveGallery
from edge.processes.owner.people_requests import person_of
from edge.provision.device.control_socket import ControlReply, WholePhoto
from edge.provision.protocol import messages
from edge.provision.protocol.replies import Done, Enrolled, PictureOutcome, Progress
from edge.records import Frame
from edge.stages import Liveness

_log = logging.getLogger(__name__)
_MAX_PHOTOS = 100  # more photos do not improve the templates
_UNASKED_S = 30.0  # a live enrolment without requests ends after this time: it stops recognition
_SHOWN = 10  # look-alikes named in one reply


class EnrolmentRequests:
    """Carries one enrolment at a time."""

    def __init__(self, config: Config, gallery: LiveGallery, stages: Callable[[Config], Stages]) -> None:
        self._config = config
        self._gallery = gallery
        self._stages = stages
        self._begun: messages.EnrolBegin | None = None
        self._target: Person | None = None  # the enrolled person in the pictures; None: a new person
        self._live: LiveEnrolment | None = None
        self._photos: Collection | None = None
        self._decoder: PictureDecoder | None = None
        self._asked_s: float | None = None  # time of the first frame since the last request for the progress

    @property
    def wants_frames(self) -> bool:
        """Whether frames now go to an enrolment instead of recognition."""
        return self._live is not None

    def see(self, frame: Frame) -> None:
        """Take a frame of the live camera."""
        if self._live is None:
            return
        if self._asked_s is None:
            self._asked_s = frame.t_s
        elif frame.t_s - self._asked_s > _UNASKED_S:
            _log.warning("no request for the progress of the enrolment: it is cancelled")
            self.forget()
            return
        self._live.see(frame)

    def _begin(self, request: messages.EnrolBegin) -> Progress:
        self.forget()
        self._gallery.refresh()
        self._target = enrolling.whom(_wish(request), self._gallery.people())
        forgetting.begin()
        self._begun = request
        stages = self._stages(self._config)
        if request.source == "camera":
            stages = replace(stages, liveness=self._liveness())
            self._live = LiveEnrolment(
                stages, self._gallery.matcher.similar_people, self._config.store.templates_per_person
            )
            return self._progress()
        self._photos, self._decoder = Collection(stages), PictureDecoder()
        return Progress(hint="send photos", wanted=self._config.store.templates_per_person)

    def _liveness(self) -> Liveness | None:
        """Return the liveness stage; None: it is off. Raises EnrolmentError if its model cannot be used."""
        if self._config.liveness.mode == "off":
            return None
        opened = liveness_stage.open_stage(self._config)
        if opened.problem:
            remedy = "edge-daemon doctor says how to mend it; until then enrol from photos"
            raise EnrolmentError(opened.problem.partition("\n")[0], remedy)
        return opened.stage

    def _look(self, _: messages.EnrolLook) -> Progress:
        return self._progress()

    def _photo(self, request: WholePhoto) -> Progress:
        if self._photos is None:
            raise _nothing_begun()
        if self._photos.taken >= _MAX_PHOTOS:
            raise EnrolmentError(f"more than {_MAX_PHOTOS} photos", "choose fewer: those that differ most")
        look = self._take(self._photos, request)
        vectors = self._photos.embeddings[-self._config.store.templates_per_person :]
        near = tuple(person for person, _ in self._gallery.matcher.similar_people(vectors)) if vectors else ()
        return Progress(
            hint=", ".join(look.refused),
            quality=0.0 if look.quality is None else float(np.clip(look.quality.score, 0, 1)),
            accepted=self._photos.accepted,
            wanted=self._config.store.templates_per_person,
            looks_like=list(self._gallery.described(near[:_SHOWN])),
        )

    def _take(self, photos: Collection, request: WholePhoto) -> Look:
        """Decode and examine a photo. None of its pixels stay in memory."""
        try:
            assert self._decoder is not None  # noqa: S101 (it is there as long as `photos` is)
            image = self._decoder.decode(np.frombuffer(request.data, np.uint8), request.name)
        except SourceError as e:
            return photos.add(request.name, e)
        try:
            return photos.add(request.name, Frame(image, 0.0, 0))
        finally:
            image[:] = 0

    def _finish(self, request: messages.EnrolFinish) -> Enrolled:
        begun = self._begun
        if begun is None:
            raise _nothing_begun()
        kept = self._kept(
            begun, sure=request.sure
        )  # the call frees the templates while freed memory is still overwritten
        self.forget()
        return kept

    def _kept(self, begun: messages.EnrolBegin, *, sure: bool) -> Enrolled:
        live = self._live is not None and self._config.liveness.mode != "off"
        found = self._enrolment()
        report = enrolling.keep(
            self._config, self._gallery, _wish(begun), self._target, found, live=live, ask=lambda _: sure
        )
        pictures = [
            PictureOutcome(name=o.name, refused=list(o.refused), template=o.template, remedy=o.remedy)
            for o in report.enrolment.outcomes[-_MAX_PHOTOS:]
        ]
        return Enrolled(
            person=person_of(report.as_dict()),
            looks_like=list(report.looks_like[:_SHOWN]),
            pictures=pictures,
            says=[report.outcome(), *report.advice()],
        )

    def _cancel(self, _: messages.EnrolCancel) -> Done:
        self.forget()
        return Done()

    def _enrolment(self) -> Enrolment:
        if self._live is not None:
            return self._live.finish()
        if self._photos is not None:
            return self._photos.finish(self._gallery.matcher.similar_people, self._config.store.templates_per_person)
        raise _nothing_begun()

    def _progress(self) -> Progress:
        if self._live is None:
            raise _nothing_begun()
        self._asked_s = None
        seen = self._live.progress()
        return Progress(
            hint=seen.hint,
            quality=seen.quality,
            accepted=seen.accepted,
            wanted=seen.wanted,
            poses=list(seen.poses),
            looks_like=list(self._gallery.described(seen.looks_like[:_SHOWN])),
            ready=seen.ready,
        )

    def forget(self) -> None:
        """Cancel the enrolment, if there is one."""
        begun, self._begun = self._begun, None
        self._live = self._photos = None  # this also frees the engines and their copies of the last picture
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
        if begun is not None:
            forgetting.end()

    HANDLERS: ClassVar[Mapping[type[Any], Callable[..., ControlReply]]] = {
        WholePhoto: _photo,
        messages.EnrolBegin: _begin,
        messages.EnrolLook: _look,
        messages.EnrolFinish: _finish,
        messages.EnrolCancel: _cancel,
    }


def _wish(request: messages.EnrolBegin) -> enrolling.Wish:
    return enrolling.Wish(request.name, request.to, request.ignored, request.namesake)


def _nothing_begun() -> EnrolmentError:
    return EnrolmentError("no enrolment has begun", "begin with a name; vision may have restarted meanwhile")
