"""People over the cable: from photos and from the live camera; renamed, ignored, renewed, erased."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from edge.processes import stores
from edge.processes.owner import people_requests as owner_people
from edge.provision.host import actions
from edge.provision.host.actions import everybody
from edge.provision.host.cable_client import Client, DeviceError
from edge.provision.protocol import messages
from edge.provision.protocol.fields import Message
from edge.provision.protocol.limits import CHUNK_BYTES
from edge.provision.protocol.replies import Done, Enrolled, People, Progress, Removed, Stored
from edge.records import Frame
from tests.footage import video
from tests.provision.harness import OnTable, client, enrol_man, photo_of_woman, photos_of_man, send_all


@pytest.fixture
def host(table: OnTable) -> Client:
    made = client(table)
    made.connect()
    return made


def names(host: Client) -> list[str]:
    return [person.name for person in everybody(host)]


def test_a_person_is_enrolled_from_photos_listed_renamed_ignored_and_erased(table: OnTable, host: Client) -> None:
    assert everybody(host) == []
    made = enrol_man(host, "Anna")
    assert made.person.templates >= 1
    assert [p.refused for p in made.pictures] == [[], [], []]
    person = made.person.id
    host.call(messages.Rename(person=person, name="Änne ☂"), Done)
    host.call(messages.Ignore(person=person, ignored=True), Done)
    (listed,) = everybody(host)
    assert (listed.id, listed.name, listed.ignored) == (person, "Änne ☂", True)
    removed = host.call(messages.Remove(person=person), Removed)
    assert removed.key_destroyed
    assert removed.generation > 1
    assert everybody(host) == []
    with pytest.raises(DeviceError, match="no person"):
        host.call(messages.Remove(person=person), Removed)


def test_renewal_makes_other_templates_and_the_same_people_are_recognised(table: OnTable, host: Client) -> None:
    enrol_man(host)
    before = table.gallery.matcher
    sealed = table.config.data.store.read_bytes()
    assert "1 people" in host.call(messages.Renew(), Done).note
    assert table.config.data.store.read_bytes() != sealed
    assert table.gallery.matcher is not before
    again = enrol_man(host, "The man again")
    assert again.looks_like == [f"'The man' ({everybody(host)[0].id})"]  # he is still recognised


def test_a_photo_is_refused_with_its_reason_and_the_person_still_enrols(host: Client) -> None:
    host.call(messages.EnrolBegin(name="Anna", source="photos"), Progress)
    no_picture, two, one = send_all(host, [b"no picture at all", photos_of_man(2)[0], photos_of_man(2)[1]])
    assert "not a picture" in no_picture.hint
    assert (two.hint, two.accepted, one.accepted) == ("", 1, 2)
    made = host.call(messages.EnrolFinish(), Enrolled)
    assert [bool(p.refused) for p in made.pictures] == [True, False, False]


def test_photos_without_a_face_enrol_nobody(host: Client) -> None:
    host.call(messages.EnrolBegin(name="Nobody", source="photos"), Progress)
    send_all(host, [b"nothing"])
    with pytest.raises(DeviceError, match="the picture is not usable"):
        host.call(messages.EnrolFinish(), Enrolled)
    assert everybody(host) == []


def test_a_large_photo_is_sent_in_chunks(host: Client) -> None:
    photo = photo_of_woman() + bytes(3 * CHUNK_BYTES)  # JPEG decoders ignore bytes after the picture
    host.call(messages.EnrolBegin(name="Eileen", source="photos"), Progress)
    *offsets, last = host.send_photo("woman.jpg", photo)
    assert len(offsets) == (len(photo) - 1) // CHUNK_BYTES
    assert isinstance(last, Progress)
    assert last.accepted == 1


def test_a_chunk_at_a_wrong_offset_is_refused_and_the_photo_can_be_sent_again(table: OnTable, host: Client) -> None:
    host.call(messages.EnrolBegin(name="Anna", source="photos"), Progress)
    data = memoryview(photos_of_man(1)[0])
    first = messages.Photo(name="a", size=len(data), offset=0, data=data[:100])
    assert host.call(first, Stored).offset == 100
    for wrong in (
        messages.Photo(name="a", size=len(data), offset=50, data=data[50:150]),
        messages.Photo(name="b", size=len(data), offset=100, data=data[100:150]),
        messages.Photo(name="a", size=120, offset=0, data=data[:130]),
    ):
        with pytest.raises(DeviceError, match="out of its place"):
            host.call(wrong, Stored)
    assert send_all(host, [bytes(data)])[0].accepted == 1


def test_a_chunk_of_a_photo_is_copied_only_to_its_place(table: OnTable) -> None:
    def piece(offset: int) -> messages.Photo:
        data = memoryview(bytearray(CHUNK_BYTES))
        return messages.Photo(name="a", size=3 * CHUNK_BYTES, offset=offset, data=data)

    first, second = piece(0), piece(CHUNK_BYTES)
    table.requests.answer(first)  # allocates the whole photo
    tracemalloc.start()
    try:
        table.requests.answer(second)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < CHUNK_BYTES


def test_for_an_existing_name_the_host_asks_and_adds_the_pictures_to_the_person(host: Client) -> None:
    first = enrol_man(host, "Anna").person
    with pytest.raises(DeviceError, match=f"Anna \\({first.id}\\) is enrolled already") as refused:
        host.call(messages.EnrolBegin(name="anna", source="photos"), Progress)
    assert refused.value.asks == "taken"
    actions.begin(host, actions.Whom("anna"), "photos", lambda question: "Add the pictures" in question)
    send_all(host, photos_of_man(4)[1:])
    made = actions.finish(host, lambda _: False)
    assert made.person.id == first.id
    assert made.looks_like == []
    assert names(host) == ["Anna"]
    assert any("1 picture" not in line and "now" in line for line in made.says), made.says


def test_photos_of_two_people_are_kept_as_one_only_where_it_is_confirmed(host: Client) -> None:
    for sure in (False, True):
        host.call(messages.EnrolBegin(name="Both", source="photos"), Progress)
        send_all(host, [photos_of_man(1)[0], photo_of_woman()])
        if not sure:
            with pytest.raises(DeviceError, match="look like different people: photo 0"):
                actions.finish(host, lambda _: False)
            assert names(host) == []
    actions.finish(host, lambda question: "different people" in question)
    assert names(host) == ["Both"]


def test_a_person_is_renamed_ignored_and_removed_by_name(host: Client) -> None:
    person = enrol_man(host, "Anna").person.id
    assert host.call(messages.Rename(person="anna", name="Berta"), Done).note == person
    host.call(messages.Ignore(person="Berta", ignored=True), Done)
    assert host.call(messages.Remove(person="berta"), Removed).person == person


@pytest.mark.parametrize("request_", [messages.EnrolFinish(), messages.EnrolLook()])
def test_steps_without_a_started_enrolment_are_refused(host: Client, request_: Message) -> None:
    with pytest.raises(DeviceError, match="no enrolment has begun"):
        host.call(request_, Enrolled)


def test_a_cancelled_enrolment_and_one_whose_host_says_goodbye_keep_nobody(table: OnTable, host: Client) -> None:
    for end in (lambda: host.call(messages.EnrolCancel(), Done), host.close):
        host.call(messages.EnrolBegin(name="Anna", source="photos"), Progress)
        send_all(host, photos_of_man(1))
        end()
    assert table.must(messages.ListPeople(), People).total == 0
    assert not table.owner.wants_frames


@pytest.mark.parametrize("name", ["\u202eanna", "a\nb", "   "])
def test_a_name_with_misleading_characters_is_refused_before_a_photo_is_sent(host: Client, name: str) -> None:
    with pytest.raises(DeviceError, match="name"):
        host.call(messages.EnrolBegin(name=name, source="photos"), Progress)


def test_many_people_are_listed_page_by_page(table: OnTable, host: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_people, "_PAGE", 3)
    enrol_man(host, "0")
    store = stores.open_store(table.config)
    vectors = np.eye(1, store.gallery().rotation.shape[0], dtype=np.float32)
    for number in range(1, 8):
        store.add(str(number), vectors)
    assert names(host) == [str(n) for n in range(8)]


# ── the live camera ──


def watch(table: OnTable, frames: int, start: int = 0, fps: float = 10.0) -> None:
    """Run vision's loop over some frames of the man, as during an enrolment."""
    images = video("carphone")
    for i in range(start, start + frames):
        table.owner.see(Frame(images[i % len(images)], i / fps, i))


def test_a_live_enrolment_gives_hints_and_ends_with_a_person(table: OnTable, host: Client) -> None:
    first = host.call(messages.EnrolBegin(name="The man", source="camera"), Progress)
    assert (first.accepted, first.ready, first.hint) == (0, False, "look towards the camera")
    assert table.owner.wants_frames
    watch(table, 10)
    progress = host.call(messages.EnrolLook(), Progress)
    assert progress.accepted >= 3
    assert 0 < progress.quality <= 1
    assert "front" in progress.poses
    assert "turn" in progress.hint
    watch(table, 140, start=10)
    progress = host.call(messages.EnrolLook(), Progress)
    assert (progress.ready, progress.hint) == (True, "done")
    made = host.call(messages.EnrolFinish(), Enrolled)
    assert made.person.templates >= 3
    assert not table.owner.wants_frames


def test_a_similar_person_is_named_during_the_live_enrolment(table: OnTable, host: Client) -> None:
    enrol_man(host, "Anna")
    host.call(messages.EnrolBegin(name="Berta", source="camera"), Progress)
    watch(table, 20)
    (warning,) = host.call(messages.EnrolLook(), Progress).looks_like
    assert "Anna" in warning


def test_a_view_without_a_face_gives_a_hint(table: OnTable, host: Client) -> None:
    host.call(messages.EnrolBegin(name="Nobody", source="camera"), Progress)
    dark = np.zeros((240, 320, 3), np.uint8)
    table.owner.see(Frame(dark, 0.0, 0))
    assert host.call(messages.EnrolLook(), Progress).hint == "look towards the camera"
    with pytest.raises(DeviceError, match="no face"):
        host.call(messages.EnrolFinish(), Enrolled)


def test_a_live_enrolment_without_a_client_ends(table: OnTable, host: Client) -> None:
    host.call(messages.EnrolBegin(name="Anna", source="camera"), Progress)
    watch(table, 290)
    assert table.owner.wants_frames
    watch(table, 20, start=290)
    assert not table.owner.wants_frames  # vision recognises again
