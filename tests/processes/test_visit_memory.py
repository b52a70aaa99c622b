"""Corrections on a real store: the last unknown becomes a template; removing a person removes the record of visits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.clock import now_s
from edge.config import Config
from edge.errors import DifferentPeopleError, EnrolmentError, StoreError
from edge.identity.enrolment import both_ways
from edge.processes import register
from edge.processes.assembly import build_enrolment
from edge.processes.gallery import LiveGallery
from edge.processes.visit_memory import VisitMemory
from edge.provision.protocol.messages import Correct
from edge.records import Decision, EventType, Frame
from tests.conftest import Enrolled
from tests.footage import Image, still, video
from tools.rig.workbench import Bench


def embedded(image: Image) -> NDArray[np.float32]:
    stages, frame = build_enrolment(Config()), Frame(np.ascontiguousarray(image), 0.0, 0)
    face = stages.refiner.refine(frame, max(stages.detector.detect(frame), key=lambda face: face.size_px))
    return both_ways(stages.embedder, stages.aligner.align(frame, face)).vector


@pytest.fixture(scope="module")
def man() -> NDArray[np.float32]:
    return embedded(video("carphone")[100])


@pytest.fixture
def memory(man_bench: Bench) -> VisitMemory:
    man_bench.configure({"people": {"correct_min": 5, "seen_days": 7}})
    return VisitMemory(man_bench.settings, LiveGallery(man_bench.settings))


def noted(memory: VisitMemory, person: str | None, evidence: NDArray[np.float32], *, live: bool = True) -> None:
    kind: EventType = "unknown" if person is None else "match"
    memory.note(Decision(kind, 1, person, None, now_s(), live, evidence))
    memory.note(Decision("end", 1, person, None, now_s()))


def test_the_last_unknown_can_be_assigned_to_the_man_once(
    man_bench: Bench, memory: VisitMemory, enrolled: Enrolled, man: NDArray[np.float32]
) -> None:
    (before,) = register.listing(man_bench.settings)
    noted(memory, None, man)
    note = memory.correct(Correct(person="the man")).note
    assert note == f"The man ({enrolled.man}) has {before['templates'] + 1} templates now"
    (after,) = register.listing(man_bench.settings)
    assert after["templates"] == before["templates"] + 1
    with pytest.raises(EnrolmentError, match="no unknown is remembered"):
        memory.correct(Correct(person="the man"))


def test_a_visit_of_somebody_else_and_a_picture_become_no_template(
    man_bench: Bench, memory: VisitMemory, man: NDArray[np.float32]
) -> None:
    before = register.listing(man_bench.settings)
    noted(memory, None, embedded(still("astronaut")))
    with pytest.raises(DifferentPeopleError, match="another person than The man"):
        memory.correct(Correct(person="the man"))
    noted(memory, None, man, live=False)
    with pytest.raises(EnrolmentError, match="a picture of a face"):
        memory.correct(Correct(person="the man"))
    assert register.listing(man_bench.settings) == before


def test_a_match_can_be_corrected_to_not_the_man(
    memory: VisitMemory, enrolled: Enrolled, man: NDArray[np.float32]
) -> None:
    assert memory.matcher().match(man).person == enrolled.man
    noted(memory, enrolled.man, man)
    assert "is not reported as The man" in memory.correct(Correct(instead_of=enrolled.man)).note
    assert memory.matcher().match(man).person is None
    memory.forget()
    assert memory.matcher().match(man).person == enrolled.man


def test_visits_are_listed_until_the_person_is_removed(
    man_bench: Bench, memory: VisitMemory, enrolled: Enrolled, man: NDArray[np.float32]
) -> None:
    noted(memory, enrolled.man, man)
    memory.tick(now_s(), last=True)
    (visit,) = register.seen(man_bench.settings, "the man")
    assert (visit["person"], visit["name"]) == (enrolled.man, "The man")
    register.remove(man_bench.settings, "the man")
    assert register.seen(man_bench.settings) == []
    assert not man_bench.settings.data.seen.exists()
    with pytest.raises(StoreError, match="no person"):
        register.seen(man_bench.settings, "the man")


def test_the_file_is_deleted_when_the_setting_is_switched_off(
    man_bench: Bench, memory: VisitMemory, enrolled: Enrolled, man: NDArray[np.float32]
) -> None:
    noted(memory, enrolled.man, man)
    memory.tick(now_s(), last=True)
    assert man_bench.settings.data.seen.exists()
    man_bench.configure()
    VisitMemory(man_bench.settings, LiveGallery(man_bench.settings)).tick(now_s())
    assert not man_bench.settings.data.seen.exists()
