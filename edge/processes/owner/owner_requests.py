"""What vision does for the owner at the cable: one table over the handlers of all subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, ClassVar, Final

from edge.config import Config
from edge.identity.enrolment import Stages
from edge.models.slots import Slots
from edge.processes.assembly import build_enrolment
from edge.processes.gallery import LiveGallery
from edge.processes.owner.enrolment_requests import EnrolmentRequests
from edge.processes.owner.people_requests import PeopleRequests
from edge.processes.owner.reset import forget_everything
from edge.processes.owner.update import UpdateRequests
from edge.processes.visit_memory import VisitMemory
from edge.provision.device.control_socket import ControlReply, ControlRequest, Forget, Reload, Status, VisionStatus
from edge.provision.protocol import messages
from edge.provision.protocol.replies import Done
from edge.records import Frame
from edge.vocabulary import Reason


class Then(IntEnum):
    """What vision must do once a request is answered; the larger includes the smaller."""

    GO_ON = 0
    RELOAD = 1  # start again, with the settings and the model of now
    FORGET = 2  # and keep nothing of the encounters so far


THEN: Final[Mapping[type[Any], Then]] = {
    Reload: Then.RELOAD,
    Forget: Then.FORGET,
    messages.UpdateApply: Then.RELOAD,
    messages.UpdateRollBack: Then.RELOAD,
}
"""Of every other request: GO_ON."""


class OwnerRequests:
    """Answers one request at a time, between two frames."""

    def __init__(
        self,
        config: Config,
        gallery: LiveGallery,
        stages: Callable[[Config], Stages] = build_enrolment,
        memory: VisitMemory | None = None,
    ) -> None:
        self._config = config
        self._gallery = gallery
        self._slots = Slots(config.data.models)
        self._people = PeopleRequests(config, memory or VisitMemory(config, gallery))
        self._update = UpdateRequests(config, self._slots)
        self.enrolment = EnrolmentRequests(config, gallery, stages)

    @property
    def wants_frames(self) -> bool:
        """Whether frames go to an enrolment now, and not to recognition."""
        return self.enrolment.wants_frames

    def see(self, frame: Frame) -> None:
        """Take a frame of the live camera."""
        self.enrolment.see(frame)

    def hung_up(self) -> None:
        """Give up what a client had begun that has disconnected."""
        self.enrolment.forget()

    def handle(self, request: ControlRequest, camera: Reason = "starting") -> tuple[ControlReply, Then]:
        """Do what is asked; returns the reply and what follows from it. Raises EdgeError: then nothing has changed.

        `camera`: what vision says of itself now.
        """
        if isinstance(request, Status):
            return self._status(camera), Then.GO_ON
        kind = type(request)
        for subject in (self._people, self.enrolment, self._update, self):
            if kind in subject.HANDLERS:
                return subject.HANDLERS[kind](subject, request), THEN.get(kind, Then.GO_ON)
        raise TypeError(f"nobody answers {kind.__name__}")  # the decoder knows no other requests: a programming error

    def _status(self, camera: Reason) -> VisionStatus:
        return VisionStatus(
            model=self._gallery.model[:16],
            slot=self._slots.active,
            people=self._gallery.people_count,
            camera=camera,
        )

    def _reload(self, _: Reload) -> Done:
        return Done()

    def _forget_all(self, _: Forget) -> Done:
        self.enrolment.forget()
        forget_everything(self._config)
        return Done()

    HANDLERS: ClassVar[Mapping[type[Any], Callable[..., ControlReply]]] = {Reload: _reload, Forget: _forget_all}


ANSWERED: Final[frozenset[type[Any]]] = frozenset(
    {Status, *PeopleRequests.HANDLERS, *EnrolmentRequests.HANDLERS, *UpdateRequests.HANDLERS, *OwnerRequests.HANDLERS}
)
"""All requests that vision answers."""
