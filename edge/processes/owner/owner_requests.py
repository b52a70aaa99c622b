"""The owner's requests that vision handles: one table with the handlers of all subjects."""

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
    """What vision must do after a request. A larger value includes the smaller ones."""

    GO_ON = 0
    RELOAD = 1  # start again, with the present settings and model
    FORGET = 2  # start again and discard all encounters


THEN: Final[Mapping[type[Any], Then]] = {
    Reload: Then.RELOAD,
    Forget: Then.FORGET,
    messages.UpdateApply: Then.RELOAD,
    messages.UpdateRollBack: Then.RELOAD,
}
"""All other requests: GO_ON."""


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
        """Whether frames now go to an enrolment instead of recognition."""
        return self.enrolment.wants_frames

    def see(self, frame: Frame) -> None:
        """Take a frame of the live camera."""
        self.enrolment.see(frame)

    def hung_up(self) -> None:
        """Cancel the enrolment of a client that has disconnected."""
        self.enrolment.forget()

    def handle(self, request: ControlRequest, camera: Reason = "starting") -> tuple[ControlReply, Then]:
        """Carry out a request; returns the reply and what vision must do next. After an EdgeError nothing has changed.

        `camera`: the present state of vision, for the reply to `Status`.
        """
        if isinstance(request, Status):
            return self._status(camera), Then.GO_ON
        kind = type(request)
        for subject in (self._people, self.enrolment, self._update, self):
            if kind in subject.HANDLERS:
                return subject.HANDLERS[kind](subject, request), THEN.get(kind, Then.GO_ON)
        raise TypeError(f"nobody answers {kind.__name__}")  # a programming error: the decoder accepts no others

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
