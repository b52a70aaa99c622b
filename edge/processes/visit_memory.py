"""The visits that vision remembers, if the owner wants it: in memory for corrections, on disk for `people seen`."""

from __future__ import annotations

import logging

from edge.config import Config
from edge.errors import EdgeError, EnrolmentError
from edge.events.moments import moment
from edge.identity.corrections import CorrectedMatcher, Visit, Visits
from edge.identity.enrolment import Enrolment, Outcome
from edge.identity.naming import find
from edge.identity.seen import SeenLog
from edge.identity.store import Person
from edge.processes import forgetting
from edge.processes.enrolling import Wish, keep
from edge.processes.gallery import LiveGallery
from edge.processes.register import forget_seen
from edge.processes.stores import seen_file
from edge.provision.protocol.messages import Correct
from edge.provision.protocol.replies import Done
from edge.records import Decision
from edge.stages import Matcher

_log = logging.getLogger(__name__)


class VisitMemory:
    """The visits of the last minutes and days, as configured in [people]; by default it remembers nothing."""

    def __init__(self, config: Config, gallery: LiveGallery) -> None:
        self._config, self._gallery = config, gallery
        self._visits = Visits(60 * config.people.correct_min)
        self._seen = SeenLog(config.people.seen_days)
        self._problem = ""
        self._cleared = False  # whether the file of an earlier setting is deleted

    def matcher(self) -> Matcher:
        """Return the present matcher with the corrections of the owner."""
        if self._config.people.correct_min <= 0:
            return self._gallery.matcher
        return CorrectedMatcher(self._gallery.matcher, self._visits, self._gallery.likeness)

    def note(self, decision: Decision) -> None:
        """Take a decision."""
        self._visits.note(decision)
        self._seen.note(decision, moment(decision.t_s).wall_ms // 1000)

    def tick(self, now_s: float, *, last: bool = False) -> None:
        """Forget old visits, and write what is due. A fault of the medium is logged once."""
        self._visits.expire(now_s)
        if not self._gallery.known or not (last or self._seen.due(now_s)):
            return
        try:
            if self._config.people.seen_days <= 0:
                if not self._cleared:
                    forget_seen(self._config.data)  # of an earlier setting
                    self._cleared = True
                return
            if not self._config.data.store.exists():
                return
            known = {person.id for person in self._gallery.people()}
            unix_s = moment().wall_ms // 1000
            self._seen.write(seen_file(self._config), known, now_s, unix_s)
            self._problem = ""
        except EdgeError as e:
            if str(e) != self._problem:
                _log.error("who was met cannot be noted: %s", e)
            self._problem = str(e)

    def forget(self) -> None:
        """Forget everything that is in memory."""
        self._visits.forget_all()
        self._seen.forget()

    def correct(self, request: Correct) -> Done:
        """Apply the owner's correction of the last unknown visit or of a person's last match. Raises EdgeError."""
        self._gallery.refresh()
        everybody = self._gallery.people()
        wrong = find(everybody, request.instead_of) if request.instead_of else None
        right = find(everybody, request.person) if request.person else None
        if wrong is None and right is None:
            raise EnrolmentError("no person is named", "name the person of the last visit, or of a wrong match")
        visit = self._visits.last(None if wrong is None else wrong.id)
        said = []
        if right is not None:
            said.append(self._learn(visit, right, sure=request.sure))
        if wrong is not None:
            self._visits.deny(visit)
            minutes = f"{self._config.people.correct_min:g} minutes"
            said.append(f"for {minutes} a similar face is not reported as {wrong.name} ({wrong.id})")
        self._visits.forget(visit)
        return Done(note="; ".join(said))

    def _learn(self, visit: Visit, person: Person, *, sure: bool) -> str:
        """Add the mean embedding of a visit to a person's templates."""
        if visit.live is False:
            raise EnrolmentError("that visit was a picture of a face", "a picture is no template: add photos instead")
        found = Enrolment(visit.direction, (Outcome("visit", template=True),), (), pictures=(0,))
        forgetting.begin()
        try:
            report = keep(self._config, self._gallery, Wish(to=person.id), person, found, live=True, ask=lambda _: sure)
        finally:
            forgetting.end()
        return f"{report.person.name} ({report.person.id}) has {report.person.templates} templates now"
