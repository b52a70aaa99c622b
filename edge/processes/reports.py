"""The report of an enrolment: the person, the pictures, their faults, and the expected rate of recognition."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edge.identity.calibration import OperatingPoint
from edge.identity.enrolment import POSES, Enrolment
from edge.identity.store import Person
from edge.refused_pictures import by_reason, some

_GOOD = 0.95  # with this share of visits, no more pictures are requested
_FEW = 4  # number of different pictures requested

PUBLIC = ("id", "name", "templates", "created", "ignored", "crops")


@dataclass(frozen=True, slots=True)
class Report:
    """The result of an enrolment."""

    person: Person
    enrolment: Enrolment
    looks_like: tuple[str, ...]  # "'Anna' (p-…)": other people who would match this person, nearest first
    recognises: float  # expected share of the person's visits that match, 0..1
    with_few: float  # the same with a few different pictures
    live: bool = False  # whether each picture was checked to show a live face; False: the pictures were files
    extended: bool = False  # whether the pictures were added to an enrolled person

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready, without scores."""
        return {
            **public(self.person),
            "pictures": [asdict(outcome) for outcome in self.enrolment.outcomes],
            "looks_like": list(self.looks_like),
            "live": self.live,
            "extended": self.extended,
            "angles": list(self.enrolment.poses),
            "near_duplicates": self.enrolment.repeats,
            "expected_share": round(self.recognises, 3),
        }

    def as_text(self) -> str:
        """Return it as text: refused pictures by reason, the outcome, and how to improve it."""
        refused = [f"refused  {line}" for line in by_reason(self.enrolment.outcomes)]
        return "\n".join([*refused, self.outcome(), *self.advice()])

    def advice(self) -> list[str]:
        """Return the missing poses, the expected rate of recognition, and similar people."""
        return [line for line in (self._angles(), self._expectation(), self._look_alikes(), self._crops()) if line]

    def outcome(self) -> str:
        """Return which person was enrolled or extended, and from which pictures."""
        enrolment, person = self.enrolment, self.person
        used = sum(outcome.template for outcome in enrolment.outcomes)
        source = counted(len(enrolment.outcomes), "live picture" if self.live else "picture")
        unproved = "" if self.live else ", which do not show that this person was there"
        if len(enrolment.outcomes) == 1:
            unproved = unproved.replace("do not", "does not")
        show = "shows" if enrolment.repeats == 1 else "show"
        repeats = f"; {enrolment.repeats} {show} what others show (near-duplicates)" if enrolment.repeats else ""
        if self.extended:
            total = counted(person.templates, "template")
            return f"{person.name} ({person.id}) has {total} now, {used} of them from {source}{unproved}{repeats}"
        return f"{person.name} is enrolled as {person.id}: {counted(used, 'template')} from {source}{unproved}{repeats}"

    def _angles(self) -> str:
        missing = [pose for pose in POSES if pose not in self.enrolment.poses]
        if not missing:
            return ""
        words = {"front": "from the front", "left": "turned to the left", "right": "turned to the right"}
        return f"angles: none of these pictures shows the face {' or '.join(words[pose] for pose in missing)}"

    def _expectation(self) -> str:
        if self.recognises >= _GOOD:
            return ""
        more = f"; {_FEW} different pictures about {_percent(self.with_few)}" if self.with_few > self.recognises else ""
        what = "one picture is" if self.person.templates == 1 else "these pictures are"
        return (
            f"expect: {what} enough to recognise about {_percent(self.recognises)} of this person's visits{more}; "
            f"add some with: people add --to {self.person.id} --from PICTURES"
        )

    def _crops(self) -> str:
        if not self.person.crops:
            return ""
        kept = counted(self.person.crops, "crop")
        return f"kept: {kept}, encrypted, for a later model; gone when the person is removed"

    def _look_alikes(self) -> str:
        if not self.looks_like:
            return ""
        first = self.looks_like[0]
        others = f" and {len(self.looks_like) - 1} others" if len(self.looks_like) > 1 else ""
        if len(self.looks_like) == 2:
            others = f" and {self.looks_like[1]}"
        return (
            f"warning: looks like {first}{others}; a visit of one may be reported as the other, in the band likely. "
            "Is it the same person? Then remove this entry, and add the pictures to the other with: people add --to"
        )


def public(person: Person) -> dict[str, Any]:
    """Return the public fields of a person, JSON-ready."""
    return {field: getattr(person, field) for field in PUBLIC}


def with_few(point: OperatingPoint) -> float:
    """Return the share of visits that match with a few templates of different pictures."""
    row = min(range(len(point.templates)), key=lambda i: abs(point.templates[i] - _FEW))
    return float(point.recognised[row])


def counted(count: int, what: str) -> str:
    """Return a count with its noun, singular or plural."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def halves_in_words(enrolment: Enrolment) -> str:
    """Return which pictures look like different people; empty if all agree."""
    if enrolment.apart is None:
        return ""
    one, other = enrolment.apart
    return f"these pictures look like different people: {some(one)} on the one hand, {some(other)} on the other"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
