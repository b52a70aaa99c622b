from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import ModelError, StoreError
from edge.identity.matcher import Matcher
from edge.identity.rotation import orthogonal
from edge.records import Embedding, Match

MODEL = "ab" * 32
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class People:
    """A gallery of plain arrays."""

    templates: Vectors
    owner: NDArray[np.intp]
    ids: tuple[str, ...]
    ignored: NDArray[np.bool_]
    rotation: Vectors | None = None
    statistics: Vectors | None = None

    def rotate(self, vectors: Vectors) -> Vectors:
        return vectors if self.rotation is None else vectors @ self.rotation


class Plain:
    """A cohort without effect: the normalised score is the cosine."""

    def statistics(self, directions: Vectors) -> Vectors:
        return np.tile(np.array([0, 1], np.float32), (len(directions), 1))

    def rotated(self, rotate: Callable[[Vectors], Vectors]) -> Plain:  # noqa: ARG002
        return self

    def normalised(self, cosines: Vectors, probe: Vectors, templates: Vectors) -> Vectors:
        assert probe.shape == (2,)
        assert templates.shape == (len(cosines), 2)
        return cosines


PLAIN = Plain()


@dataclass(frozen=True)
class Fixed:
    """One threshold for all people, raised by `rise` for a probe of different pictures (norm 0.5)."""

    likely: float
    certain: float
    model: str = MODEL
    rise: float = 0.0
    asked: list[NDArray[np.float32]] = field(default_factory=list)

    def of_people(self, norms: Vectors) -> tuple[Vectors, Vectors]:
        self.asked.append(norms)
        bands = np.array([[self.likely, self.likely + self.rise], [self.certain, self.certain + self.rise]], np.float32)
        likely, certain = np.repeat(bands[:, :, None], len(norms), axis=2)
        return likely, certain

    def shares(self, probe_norms: Vectors) -> Vectors:
        many = np.clip(2 - 2 * probe_norms, 0, 1)
        return np.stack([1 - many, many], axis=1)


def unit(*values: float) -> Vectors:
    v = np.array(values, np.float32)
    return v / np.float32(np.linalg.norm(v))


def people(ignored: tuple[str, ...] = (), **templates: Vectors | list[Vectors]) -> People:
    rows = [(i, t) for i, ts in enumerate(templates.values()) for t in (ts if isinstance(ts, list) else [ts])]
    return People(
        templates=np.array([t for _, t in rows], np.float32).reshape(len(rows), -1),
        owner=np.array([i for i, _ in rows], np.intp),
        ids=tuple(templates),
        ignored=np.array([name in ignored for name in templates], bool),
    )


def matcher(gallery: People, likely: float = 0.5, certain: float = 0.8, margin: float = 0.1) -> Matcher:
    return Matcher(gallery, Fixed(likely, certain), PLAIN, margin)


X, Y, Z = unit(1, 0, 0), unit(0, 1, 0), unit(0, 0, 1)


def test_score_is_the_cosine_to_the_mean_of_a_persons_templates() -> None:
    thresholds = Fixed(0.5, 0.8)
    found = Matcher(people(anna=[X, Y], bob=Z), thresholds, PLAIN, 0.1).match(unit(3, 4, 0))
    assert found.person == "anna"
    assert found.band == "certain"
    assert found.score == pytest.approx((3 / 5 + 4 / 5) / math.sqrt(2))
    assert found.margin == pytest.approx(found.score)
    assert thresholds.asked[0] == pytest.approx([math.sqrt(0.5), 1.0])  # norms of the mean templates


def test_a_probe_of_several_shots_scores_by_its_direction_and_has_a_higher_threshold() -> None:
    shots = [X, Y]
    probe = np.asarray(np.mean(shots, axis=0), np.float32)  # of norm 0.71
    found = Matcher(people(anna=[X, unit(1, 1, 0)]), Fixed(0.5, 0.8, rise=0.2), PLAIN, 0.1).match(probe)
    assert found.score == pytest.approx(math.cos(math.pi / 8), abs=1e-6)
    assert found.threshold == pytest.approx(0.5 + 0.2 * (2 - math.sqrt(2)), abs=1e-6)


def test_the_person_with_the_largest_lead_over_the_threshold_wins() -> None:
    class ByNorm(Fixed):
        def of_people(self, norms: Vectors) -> tuple[Vectors, Vectors]:
            likely = np.broadcast_to(np.float32(1.3) - norms, (2, len(norms)))
            return likely, likely

    many = [unit(1, 0.9, 0.5), unit(1, -0.9, -0.5)]  # threshold 0.6
    found = Matcher(people(one=X, many=many), ByNorm(0, 0), PLAIN, 0.05).match(unit(1, 0.3, 0.2))
    assert found.person == "one"  # the same cosine, and a threshold of 0.3
    assert found.threshold == pytest.approx(0.3)


def test_templates_that_cancel_out_match_nobody() -> None:
    assert matcher(people(anna=[X, -X])).match(X).person is None


@pytest.mark.parametrize(
    ("cosine", "person", "band"), [(0.81, "anna", "certain"), (0.79, "anna", "likely"), (0.49, None, None)]
)
def test_the_band_follows_the_score(cosine: float, person: str | None, band: str | None) -> None:
    found = matcher(people(anna=X)).match(unit(cosine, math.sqrt(1 - cosine**2), 0))
    assert (found.person, found.band, found.margin) == (person, band, math.inf)


def test_a_score_at_the_threshold_is_a_match() -> None:
    assert matcher(people(anna=X), likely=1.0, certain=1.0).match(X).band == "certain"


def test_with_nobody_enrolled_every_face_is_unknown() -> None:
    nobody = People(np.empty((0, 3), np.float32), np.empty(0, np.intp), (), np.empty(0, bool))
    assert matcher(nobody).match(X) == Match(None, None, -1.0, math.inf, math.inf)
    assert matcher(nobody).similar_people([Embedding(X, MODEL)]) == []


def test_a_face_between_two_different_people_is_ambiguous() -> None:
    found = matcher(people(anna=X, bob=Y)).match(unit(1, 0.95, 0))
    assert (found.person, found.band, found.rivals) == (None, None, ("anna", "bob"))
    assert not found.ignored
    assert 0 < found.margin < 0.1


def test_of_two_people_with_similar_templates_the_nearest_is_likely() -> None:
    found = matcher(people(anna=X, ann=unit(1, 0.1, 0), bob=Y)).match(unit(1, 0.02, 0))
    assert (found.person, found.band, found.rivals) == ("anna", "likely", ("ann",))


def test_a_stranger_between_two_people_is_a_stranger() -> None:
    found = matcher(people(anna=X, bob=Y), likely=0.75).match(unit(1, 0.95, 0))
    assert (found.person, found.rivals) == (None, ())


def test_an_ignored_person_wins_like_others_and_is_flagged() -> None:
    found = matcher(people(ignored=("bob",), anna=X, bob=Y)).match(unit(0.1, 1, 0))
    assert (found.person, found.ignored) == ("bob", True)
    assert not matcher(people(ignored=("bob",), anna=X, bob=Y)).match(X).ignored


@pytest.mark.parametrize("probe", [unit(1, 0.95, 0), unit(0.95, 1, 0)])
def test_an_ambiguous_match_with_an_ignored_person_is_ignored(probe: Vectors) -> None:
    found = matcher(people(ignored=("bob",), anna=X, bob=Y)).match(probe)
    assert (found.person, found.ignored) == ("bob", True)
    assert found.score == pytest.approx(probe[1])


def test_an_ignored_person_below_the_threshold_has_no_effect() -> None:
    found = matcher(people(ignored=("bob",), anna=X, bob=Y), likely=0.75).match(unit(1, 0.95, 0))
    assert (found.person, found.ignored) == (None, False)


@pytest.mark.parametrize(
    ("probe", "wrong"),
    [
        (np.zeros(3, np.float32), "norm 0"),
        (np.array([1, np.nan, 0], np.float32), "norm nan"),
        (np.array([np.inf, 0, 0], np.float32), "norm inf"),
        (np.array([1, 1, 0], np.float32), r"norm 1\.41"),
        (np.ones(4, np.float32) / 2, r"shape \(4,\)"),
        (np.ones((1, 3), np.float32) / 2, r"shape \(1, 3\)"),
    ],
)
def test_a_probe_that_is_no_embedding_is_refused(probe: Vectors, wrong: str) -> None:
    with pytest.raises(ModelError, match=wrong):
        matcher(people(anna=X)).match(probe)


def test_embeddings_of_another_model_are_refused() -> None:
    with pytest.raises(ModelError, match="of model cdcdcdcdcdcd"):
        matcher(people(anna=X)).similar_people([Embedding(X, "cd" * 32)])


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"templates": np.array([[2, 0, 0]], np.float32)}, "not unit"),
        ({"templates": np.array([[np.nan, 0, 0]], np.float32)}, "not unit"),
        ({"owner": np.array([1])}, "of nobody"),
        ({"owner": np.array([0, 0])}, "do not fit"),
        ({"ids": ("anna", "bob"), "ignored": np.zeros(2, bool)}, "bob has no template"),
        ({"ignored": np.zeros(2, bool)}, "do not fit"),
    ],
)
def test_a_malformed_gallery_is_refused(change: dict[str, object], wrong: str) -> None:
    with pytest.raises(StoreError, match=wrong):
        matcher(People(**{**people(anna=X).__dict__, **change}))


def test_similar_people_are_all_who_would_match_nearest_first() -> None:
    near = matcher(people(anna=X, bob=unit(1, 1, 0), carl=Z)).similar_people([Embedding(unit(1, 0.7, 0), MODEL)])
    assert [person for person, _ in near] == ["bob", "anna"]
    assert near[0][1] > near[1][1] >= 0.5


# ── properties ──


@st.composite
def crowds(draw: st.DrawFn) -> tuple[People, Vectors]:
    """A gallery of up to 6 people with up to 5 templates each, in 8 dimensions, and a probe near one of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    owner = np.repeat(np.arange(n := draw(st.integers(1, 6))), [draw(st.integers(1, 5)) for _ in range(n)])
    templates = rng.normal(size=(n, 8))[owner] + rng.normal(size=(len(owner), 8)) * 0.5
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    probe = templates[0] + rng.normal(size=8) * draw(st.floats(0.01, 0.5))
    probe *= draw(st.floats(0.5, 1.0)) / np.linalg.norm(probe)
    ignored = np.array([draw(st.booleans()) for _ in range(n)])
    gallery = People(templates.astype(np.float32), owner, tuple(f"p-{i}" for i in range(n)), ignored)
    return gallery, probe.astype(np.float32)


def same(a: Match, b: Match) -> bool:
    numbers = [(m.score, m.threshold, m.margin) for m in (a, b)]
    return (a.person, a.band, a.ignored) == (b.person, b.band, b.ignored) and numbers[0] == pytest.approx(
        numbers[1], abs=1e-5
    )


@given(crowds(), st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_raising_threshold_or_margin_never_adds_a_match(
    crowd: tuple[People, Vectors], threshold: float, rise: float, margin: float
) -> None:
    gallery, probe = crowd
    lax = matcher(gallery, threshold, threshold, margin).match(probe)
    higher = matcher(gallery, threshold + rise, threshold + rise, margin).match(probe)
    wider = matcher(gallery, threshold, threshold, margin + rise).match(probe)
    for strict in (higher, wider):
        if strict.person is not None and not strict.ignored:
            assert strict.person == lax.person
    # A wider margin can make a match ambiguous with an ignored person, which is ignored. A higher threshold cannot.
    if higher.ignored:
        assert lax.person is not None


@given(crowds(), st.randoms(use_true_random=False))
def test_the_order_of_people_and_templates_changes_nothing(crowd: tuple[People, Vectors], random: Random) -> None:
    gallery, probe = crowd
    seats = list(range(len(gallery.ids)))
    random.shuffle(seats)  # person i moves to seats[i]
    rows = list(range(len(gallery.owner)))
    random.shuffle(rows)
    back = np.argsort(seats)
    shuffled = People(
        gallery.templates[rows],
        np.array(seats)[gallery.owner[rows]],
        tuple(gallery.ids[i] for i in back),
        gallery.ignored[back],
    )
    assert same(matcher(gallery).match(probe), matcher(shuffled).match(probe))


@given(crowds(), st.binary(min_size=16, max_size=32))
def test_a_rotated_gallery_gives_the_same_match(crowd: tuple[People, Vectors], key: bytes) -> None:
    gallery, probe = crowd
    rotation = orthogonal(key, 8).astype(np.float32)
    rotated = People(gallery.templates @ rotation, gallery.owner, gallery.ids, gallery.ignored, rotation)
    assert same(matcher(gallery).match(probe), matcher(rotated).match(probe))
