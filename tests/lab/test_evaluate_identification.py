"""Identification on people with known results, and the embeddings that it uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge.errors import ModelError
from edge.models.manifest import MANIFEST
from tests.footage import shared_data
from tests.lab.faces import make_data
from tests.lab.nets import TINY, random_crops, random_weights, save_checkpoint
from tools.lab import data, embeddings
from tools.lab.engines import Embed, Exported, Shipped, subject
from tools.lab.evaluate import of_many, people, val_people
from tools.lab.export import export
from tools.lab.figures import Labels, Vectors, unit
from tools.lab.identification import Search, closed_set, hit_rate, name, open_set, ranks_of_mates, search
from tools.lab.provenance import candidates, is_rounding_of, source_of
from tools.lab.quantize import quantize
from tools.lab.unroll import rolled


def crowd(people: int, pictures: int, spread: float, seed: int = 0) -> tuple[Vectors, Labels]:
    """Return embeddings of well-separated people, with this spread of their pictures."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), pictures)
    return unit((np.eye(people)[person] + rng.normal(0, spread, (len(person), people))).astype(np.float32)), person


class FirstTwo(np.random.Generator):
    """A generator that always draws the first elements."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def permutation(self, x: Any, axis: int = 0) -> Any:
        return np.take(x, np.arange(len(x)), axis)


def test_well_separated_people_are_all_found() -> None:
    found = closed_set(*crowd(20, 16, 0.01))
    assert (found["rank1"], found["rank10"], found["people"], found["probes"]) == (1.0, 1.0, 20, 20 * 4)


def test_random_embeddings_are_found_by_chance() -> None:
    vectors = unit(np.random.default_rng(0).normal(0, 1, (20 * 40, 16)).astype(np.float32))
    found = closed_set(vectors, np.repeat(np.arange(20), 40))
    assert found["rank1"] == pytest.approx(1 / 20, abs=0.02)
    assert found["rank5"] == pytest.approx(5 / 20, abs=0.04)


def test_people_with_too_few_pictures_take_no_part() -> None:
    vectors, person = crowd(6, 16, 0.01)
    kept = (person != 5) | (np.cumsum(person == 5) <= 12)  # the last one has exactly the templates, and no probe
    assert closed_set(vectors[kept], person[kept])["people"] == 5


def test_ranks_count_who_scores_higher_and_ties_count_against() -> None:
    scores = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.1], [0.3, 0.2, 0.1], [1.0, 1.0, 1.0]], np.float32)
    found = Search(scores, gallery=np.array([3, 5, 7]), probes=np.array([3, 5, 7, 99]))
    assert found.mated.tolist() == [True, True, True, False]
    assert ranks_of_mates(found).tolist() == [0, 1, 2]


def test_a_hit_is_the_right_person_first_and_above_the_strangers() -> None:
    scores = np.array([[0.9, 0.1], [0.4, 0.2], [0.8, 0.7], [0.5, 0.1], [0.3, 0.2]], np.float32)
    found = Search(scores, gallery=np.array([0, 1]), probes=np.array([0, 0, 1, 8, 9]))
    assert hit_rate(found, 0.0) == pytest.approx(1 / 3)  # above 0.5: the first; the third is somebody else's
    assert hit_rate(found, 0.5) == pytest.approx(2 / 3)  # one of two strangers may pass: above 0.3


def test_templates_are_no_probes() -> None:
    vectors, person = crowd(4, 16, 0.1)
    for found in search(vectors, person, np.array([0, 2]), 12, np.random.default_rng(0)):
        assert found.scores.shape == (2 * 4 + 2 * 16, 2)
        assert np.bincount(found.probes).tolist() == [4, 16, 4, 16]


def test_a_person_with_different_templates_loses_by_mean_cosine_and_not_by_mean_template() -> None:
    unlike, alike = np.array([[1, 1, 0, 0.0], [1, -1, 0, 0]]), np.array([[0.8, 0, 0.6, 0]] * 2)
    probe = np.array([[1, 0, 0, 0.0]])
    vectors = unit(np.concatenate([unlike, probe, alike]).astype(np.float32))
    person = np.array([0, 0, 0, 1, 1])
    first_two = FirstTwo()
    by_mean, by_direction = search(vectors, person, np.array([0, 1]), 2, first_two)
    assert by_mean.scores[0] == pytest.approx([np.sqrt(0.5), 0.8])
    assert by_direction.scores[0] == pytest.approx([1.0, 0.8])
    assert (ranks_of_mates(by_mean)[0], ranks_of_mates(by_direction)[0]) == (1, 0)


def test_an_open_search_has_half_of_the_people_as_strangers() -> None:
    found = open_set(*crowd(20, 16, 0.01))
    assert (found["enrolled"], found["strangers_searches"]) == (10, 10 * 16)
    assert found["tpir_at_fpir_1e-2"] == 1.0
    assert [name(rate) for rate in (1e-2, 1e-3, 1e-4)] == ["1e-2", "1e-3", "1e-4"]


def test_lfw_names_give_the_people() -> None:
    keys = [f"A_B_{i:04d}" for i in range(1, 21)] + ["A_C_0001", "A_C_0002"]
    assert people(keys).tolist() == [0] * 20 + [1] * 2
    assert of_many(keys) == keys[:20]


def test_validation_people_are_those_of_the_index(tmp_path: Path) -> None:
    folder = make_data(tmp_path, people=6, pictures=3)
    keys, person = val_people(folder, 2)
    assert keys == [f"{i:06d}" for i in range(9, 15)]
    assert person.tolist() == [3, 3, 3, 4, 4, 4]


class Counting:
    """A network that counts its calls."""

    digest = "c" * 64
    asked = 0

    def open(self) -> Embed:
        def embed(crop: data.Crop) -> Vectors:
            self.asked += 1
            return unit(crop[:2, 0].astype(np.float32) + 1)

        return embed


def test_embeddings_are_computed_once_and_follow_the_data(tmp_path: Path) -> None:
    folder, cache, network = make_data(tmp_path / "data"), tmp_path / "cache", Counting()
    keys = data.keys(folder, "val")
    some = embeddings.embed_split(network, folder, "val", keys[:4], cache=cache, workers=1)
    every = embeddings.embed_split(network, folder, "val", keys, cache=cache, workers=1)
    assert network.asked == len(keys)
    assert all(np.array_equal(every[key], some[key]) for key in some)
    assert list(every) == keys
    make_data(tmp_path / "data", pictures=9)  # other files under the same names
    embeddings.embed_split(network, folder, "val", data.keys(folder, "val")[:2], cache=cache, workers=1)
    assert network.asked == len(keys) + 2


def test_a_broken_cache_is_named(tmp_path: Path) -> None:
    folder, cache, network = make_data(tmp_path / "data"), tmp_path / "cache", Counting()
    embeddings.embed_split(network, folder, "val", ["000024"], cache=cache, workers=1)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ModelError, match="delete it"):
        embeddings.embed_split(network, folder, "val", ["000024"], cache=cache, workers=1)


def test_several_processes_give_the_same_embeddings_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_CHUNK", 8)
    folder, network = make_data(tmp_path), subject(MANIFEST.parent / "lightcnn9-int8.onnx")
    keys = data.keys(folder, "val")
    one, two = (embeddings.embed_split(network, folder, "val", keys, cache=None, workers=n) for n in (1, 2))
    assert list(one) == list(two) == keys
    assert all(np.array_equal(one[key], two[key]) for key in keys)


def test_a_model_file_is_run_as_its_manifest_says() -> None:
    shipped = subject(MANIFEST.parent / "lightcnn9-int8.tflite")
    assert isinstance(shipped, Shipped)
    assert shipped.backend == "litert"
    assert len(shipped.digest) == 64


def test_other_files_are_run_as_the_lab_writes_them_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    onnx.save(export(TINY, random_weights(TINY)), path)
    embed = subject(path).open()
    assert np.linalg.norm(embed(random_crops(TINY, 1)[0])) == pytest.approx(1, abs=1e-6)
    path.write_bytes(b"\xff\xff")
    with pytest.raises(ModelError, match="not an ONNX model"):
        subject(path).open()
    with pytest.raises(ModelError, match="no manifest beside it"):
        subject(tmp_path / "some.tflite")
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read"):
        subject(tmp_path / "none.onnx")


def test_weights_are_identified_by_their_rounding() -> None:
    weights = random_weights(TINY)
    int8 = quantize(export(TINY, weights), random_crops(TINY, 8))
    assert is_rounding_of(int8, export(TINY, weights))
    weights["wide.weight"][0, 0, 0, 0] += 0.1
    assert not is_rounding_of(int8, export(TINY, weights))
    assert not is_rounding_of(export(TINY, weights), export(TINY, weights))  # a float32 model is no rounding


def test_the_weights_of_the_shipped_model_are_available(tmp_path: Path) -> None:
    int8 = onnx.load_model_from_string(rolled((MANIFEST.parent / "lightcnn9-int8.onnx").read_bytes()))
    found = source_of(int8, candidates(shared_data()))
    assert found is not None
    assert len(found.sha256) == 64
    save_checkpoint(tmp_path / "other.pt", {"net.a": np.ones((2, 2), np.float32)})
    assert source_of(int8, [tmp_path / "other.pt"]) is None


def test_an_exported_network_is_named_by_its_bytes() -> None:
    content = export(TINY, random_weights(TINY)).SerializeToString()
    assert Exported(content).digest == Exported(bytes(content)).digest
    assert Exported(content).digest != Exported(content + b"\n").digest
