"""Comparison of liveness layers: the tested person is left out, thresholds are equal, attacks are made as described."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge.records import Face
from tools.lab import liveness
from tools.lab.research import liveness_heads
from tools.lab.research.attacks import MADE
from tools.lab.research.liveness_heads import Look

BOX = np.array([30, 20, 40, 50], np.float32)
LANDMARKS = np.array([[40, 40], [60, 40], [50, 50], [42, 60], [58, 60]], np.float32)


def look(species: str, person: str, features: list[float], published: float = 0.0) -> Look:
    return Look(0, species, person, published, published, np.array(features, np.float32))


def test_a_layer_separates_what_a_line_separates() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = (x @ [1.0, -2.0, 0.0] > 0).astype(float)
    scores = liveness_heads.fitted(x, y)(x)
    assert np.mean((scores > 0) == y) > 0.97


def test_both_classes_weigh_the_same() -> None:
    x = np.array([[0.0]] * 90 + [[1.0]] * 10)
    y = np.array([0.0] * 90 + [1.0] * 10)
    low, high = liveness_heads.fitted(x, y)(np.array([[0.0], [1.0]]))
    assert low == pytest.approx(-high, abs=1e-3)


def test_the_own_layer_has_never_seen_the_person_whom_it_scores() -> None:
    rng = np.random.default_rng(0)
    # The second feature gives the answer for person c alone, with the opposite sign to everybody else.
    found = [
        look(species, person, [float(rng.normal()), sign * (1 if person != "c" else -1)])
        for person in ("a", "b", "c")
        for species, sign in ((liveness.LIVE, 1.0), ("print", -1.0))
        for _ in range(20)
    ]
    scores = liveness_heads._scored(found)["own layer, real attacks"]
    of_c = [(s, item.species) for s, item in zip(scores, found, strict=True) if item.person == "c"]
    assert all((s > 0) == (species == "print") for s, species in of_c)


def test_every_network_denies_the_same_share_of_live_faces() -> None:
    rng = np.random.default_rng(1)
    found = [
        look(species, person, [float(rng.normal(mean)), float(rng.normal())], float(rng.normal(mean)))
        for person in ("a", "b")
        for species, mean in ((liveness.LIVE, 3.0), ("print", -3.0))
        for _ in range(100)
    ]
    rows = liveness_heads.compare(found + _bands(found))
    assert {row[liveness.LIVE]["wrong"] for row in rows} == {4}  # 2 % of 200
    assert "| shipped | as they are |" in liveness_heads.table(rows)
    assert json.loads(json.dumps(rows)) == rows


def _bands(found: list[Look]) -> list[Look]:
    return [
        Look(band, item.species, item.person, item.published, item.companion, item.features)
        for band in (1, 2)
        for item in found
    ]


@pytest.mark.parametrize("species", MADE)
def test_a_made_attack_is_an_object_in_another_scene(species: str) -> None:
    rng = np.random.default_rng(2)
    image, background = (np.full((120, 160, 3), level, np.uint8) for level in (120, 30))
    face = Face(BOX, LANDMARKS, 0.9)
    made = MADE[species](image, face, background, rng)
    assert made.shape == image.shape
    assert made.dtype == np.uint8
    assert abs(float(made[:, -8:].mean()) - 30) < 3  # the background is left
    inside = made[35:60, 40:60].astype(float)
    assert inside.std() > 2  # a texture where there was none
    again = MADE[species](image, face, background, np.random.default_rng(2))
    assert np.array_equal(made, again)
