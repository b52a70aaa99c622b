"""`edge-bench pad`: presentation attack detection, measured on the user's pictures and clips by ISO/IEC 30107-3.

A folder holds `live/` and one folder with any name for each species of attack (`print/`, `screen/`, …). Each holds
pictures and clips, or one folder a person with these. A picture is one presentation, judged alone. A clip is one
presentation, judged by the median of its frames, as the product judges a visit.

- BPCER: share of live presentations that are classified as pictures.
- APCER: share of attacks that are classified as live, for each species: a mean over species hides the worst one.
- Non-response: share of presentations without an answer: no face is found or the answer is `unknown`. They count in
  neither error. All three are shares of all presentations of their kind.
- IAPAR: share of visits with an attack that end in a match through the whole product, with `[liveness] mode = "deny"`
  and with liveness off. Each person with a folder is enrolled from every second live presentation; the others are the
  genuine visits. A visit is a clip, or three pictures of one person and kind.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge.bench import progress
from edge.bench.intervals import clopper_pearson
from edge.bench.timing import interleaved, ratio, spread
from edge.cameras.picture import read_image
from edge.cameras.player import FileSource
from edge.config import Config, DeviceConfig, LivenessConfig
from edge.errors import SourceError
from edge.identity.encounters import Encounters
from edge.identity.enrolment import Stages
from edge.processes import enrolling, liveness_stage
from edge.processes.assembly import build_enrolment
from edge.processes.gallery import LiveGallery
from edge.records import AlignedFace, Embedding, Face, FaceView, Frame
from edge.stages import Liveness
from edge.vocabulary import IMAGE_SUFFIXES, VIDEO_SUFFIXES

LIVE = "live"  # the folder of live presentations
LARGE_PX = 300.0  # height of a face that is too close for the frame to hold its surroundings
Answer = Literal["live", "picture", "unknown", "no face"]
Shot = tuple[Embedding, FaceView | None]
_CLIP_FPS = 2.0  # frames a second of a clip
_MOST_FRAMES = 60  # of a clip
_SHOTS = 3  # of a visit
_ROUNDS = 40  # of timing


@dataclass(frozen=True, slots=True, eq=False)
class Presentation:
    """Result of one picture or clip."""

    species: str
    person: str  # empty: unknown
    path: Path
    answer: Answer
    shots: tuple[Shot, ...]  # of the faces that were fit for recognition
    height_px: float  # of the largest face; 0: none


def measure(folder: Path) -> dict[str, Any]:
    """Return the report on a folder; raises SourceError where it holds no live pictures or no attacks."""
    files = list(_files(folder))
    kinds = {species for species, _, _ in files}
    if LIVE not in kinds or len(kinds) < 2:
        raise SourceError(
            f"{folder}: it holds {', '.join(sorted(kinds)) or 'no folder'} with pictures or clips",
            "it needs a folder live/ and one for each kind of attack, such as print/, with pictures or clips in them",
        )
    with tempfile.TemporaryDirectory() as data_dir:
        config = Config(device=DeviceConfig(data_dir=data_dir), liveness=LivenessConfig(mode="deny"))
        judge = _Judge(config)
        with progress.bar("looking at pictures", len(files)) as advance:
            shown = []
            for species, person, path in files:
                shown.append(judge.look(species, person, path))
                advance()
        report = _rates(shown)
        _add_product(report, shown, config, judge.liveness)
        cost = judge.cost([view for one in shown for _, view in one.shots if view is not None][:_SHOTS])
        return {**report, "cost": cost, "measured_with": _about(config)}


def table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each species, the worst first, and one for live faces."""
    rows = [
        {
            "kind": name,
            "shown": s["presentations"],
            "error": "APCER",
            "%": 100 * s["apcer"],
            "95 % from": 100 * s["apcer_ci95"][0],
            "to": 100 * s["apcer_ci95"][1],
            "no response %": 100 * s["non_response"],
            "visits": s["visits"],
            "IAPAR %": _percent(s["iapar"]),
            "liveness off %": _percent(s["iapar_off"]),
        }
        for name, s in report["species"].items()
    ]
    live = {
        "kind": LIVE,
        "shown": report["live"]["presentations"],
        "error": "BPCER",
        "%": 100 * report["bpcer"],
        "95 % from": 100 * report["live"]["bpcer_ci95"][0],
        "to": 100 * report["live"]["bpcer_ci95"][1],
        "no response %": 100 * report["live"]["non_response"],
        "visits": report["live"]["visits"],
    }
    return [*rows, live]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


class _Judge:
    """The product's stages, applied to one presentation at a time."""

    def __init__(self, config: Config) -> None:
        self._stages: Stages = build_enrolment(config)
        opened = liveness_stage.open_stage(config)
        if opened.problem:
            raise SourceError(opened.problem, "edge-daemon doctor shows the remedy")
        self.liveness = opened.stage
        self._crop: AlignedFace | None = None  # the last one

    def look(self, species: str, person: str, path: Path) -> Presentation:
        """Return the result of one picture or clip."""
        views: list[FaceView] = []
        shots: list[Shot] = []
        height_px = 0.0
        for frame in _frames(path):
            faces = self._stages.detector.detect(frame)
            if faces:
                face = max(faces, key=lambda found: found.size_px)
                height_px = max(height_px, float(face.box_px[3]))
                self._take(frame, face, views, shots)
        live = self.liveness.judge(views)
        answer: Answer = "unknown" if live is None else "live" if live else "picture"
        return Presentation(species, person, path, answer if height_px else "no face", tuple(shots), height_px)

    def cost(self, views: Sequence[FaceView]) -> dict[str, float]:
        """Time a decision on these views against one embedding, side by side, one thread."""
        crop, embedder = self._crop, self._stages.embedder
        if not views or crop is None:
            return {}
        subjects = {"decision": lambda: self.liveness.judge(views), "embedding": lambda: embedder.embed(crop)}
        times = interleaved(subjects, _ROUNDS)
        return {
            "views": float(len(views)),
            "decision_ms": spread(times["decision"]).p50_ms,
            "embedding_ms": spread(times["embedding"]).p50_ms,
            "decision_over_embedding": ratio(times["decision"], times["embedding"]),
        }

    def _take(self, frame: Frame, face: Face, views: list[FaceView], shots: list[Shot]) -> None:
        """Keep the view of a face, and its embedding where the pipeline would have embedded it."""
        if self._stages.face_gate.refusal(frame, face) is not None:
            return
        quality = self._stages.quality_gate.assess(frame, face)
        view = self.liveness.view(frame, face, quality)
        if view is not None:
            views.append(view)
        if quality.fit and len(shots) < _SHOTS:
            self._crop = self._stages.aligner.align(frame, face)
            shots.append((self._stages.embedder.embed(self._crop), view))


def _rates(shown: Sequence[Presentation]) -> dict[str, Any]:
    """Return BPCER, APCER and non-response, the worst species first."""
    by_kind: dict[str, list[Presentation]] = defaultdict(list)
    for one in shown:
        by_kind[one.species].append(one)
    live = by_kind.pop(LIVE)
    denied = sum(one.answer == "picture" for one in live)
    large = [one for one in live if one.height_px >= LARGE_PX]
    species = {}
    for name, attacks in by_kind.items():
        accepted = sum(one.answer == "live" for one in attacks)
        apcer = {"apcer": accepted / len(attacks), "apcer_ci95": clopper_pearson(accepted, len(attacks))}
        species[name] = {**apcer, "accepted": accepted, **_counts(attacks)}
    return {
        "bpcer": denied / len(live),
        "worst_apcer": max(s["apcer"] for s in species.values()),
        "live": {"bpcer_ci95": clopper_pearson(denied, len(live)), "denied": denied, **_counts(live)},
        "large_live_faces": {
            "shown": len(large),
            "denied": sum(one.answer == "picture" for one in large),
            "unknown": sum(one.answer == "unknown" for one in large),
        },
        "species": dict(sorted(species.items(), key=lambda item: (-item[1]["apcer"], -item[1]["apcer_ci95"][1]))),
    }


def _counts(shown: Sequence[Presentation]) -> dict[str, Any]:
    silent = sum(one.answer in {"unknown", "no face"} for one in shown)
    people = len({one.person for one in shown if one.person})
    return {"presentations": len(shown), "people": people, "non_response": silent / len(shown)}


def _add_product(report: dict[str, Any], shown: Sequence[Presentation], config: Config, stage: Liveness) -> None:
    """Enrol all people, run every attack and every genuine visit through the product, add the shares of matches."""
    enrolled = _enrol(shown, config)
    gallery = LiveGallery(config)
    modes = {"deny": liveness_stage.denied(config.liveness), "off": frozenset[bool | None]()}
    matches: dict[tuple[str, str], list[bool]] = defaultdict(list)  # (kind, mode) → of each visit whether it matched
    for person in enrolled:
        for kind in [LIVE, *report["species"]]:
            own = [one for one in shown if (one.person, one.species) == (person, kind)]
            for visit in _visits(own[1::2] if kind == LIVE else own):
                for mode, denied in modes.items():
                    matches[kind, mode].append(_matched(visit, gallery, config, stage, denied))
    report["live"] |= {
        "visits": len(matches[LIVE, "deny"]),
        "matched": _share(matches[LIVE, "deny"]),
        "matched_off": _share(matches[LIVE, "off"]),
    }
    for kind, figures in report["species"].items():
        deny = matches[kind, "deny"]
        figures |= {
            "visits": len(deny),
            "iapar": _share(deny),
            "iapar_ci95": clopper_pearson(sum(deny), len(deny)),
            "iapar_off": _share(matches[kind, "off"]),
        }


def _enrol(shown: Sequence[Presentation], config: Config) -> list[str]:
    """Enrol each person with a folder from every second live presentation; return those that could be enrolled."""
    enrolled = []
    for person in sorted({one.person for one in shown if one.person and one.species == LIVE}):
        own = [one for one in shown if (one.person, one.species) == (person, LIVE)]
        if any(one.shots for one in own[::2]):
            enrolling.add(config, person, [one.path for one in own[::2]], ignored=False)
            enrolled.append(person)
    return enrolled


def _visits(shown: Sequence[Presentation]) -> Iterator[list[Shot]]:
    """Yield the shots of each visit: those of a clip, or of `_SHOTS` pictures in a row."""
    pictures: list[Shot] = []
    for one in shown:
        if one.path.suffix.lower() in IMAGE_SUFFIXES:
            pictures += one.shots
        elif len(one.shots) == _SHOTS:
            yield list(one.shots)
    for i in range(0, len(pictures) - _SHOTS + 1, _SHOTS):
        yield pictures[i : i + _SHOTS]


def _matched(
    visit: Sequence[Shot],
    gallery: LiveGallery,
    config: Config,
    stage: Liveness,
    denied: frozenset[bool | None],
) -> bool:
    """Return whether the product reports a match for these shots."""
    recognition = config.recognition
    encounters = Encounters(
        min_embeddings=_SHOTS,
        max_embeddings=recognition.max_embeddings,
        timeout_s=recognition.encounter_timeout_s,
        same_face=gallery.same_face,
        is_live=stage.judge,
        denied=denied,
    )
    decisions = []
    for i, (embedding, view) in enumerate(visit):
        encounters.see([1], float(i))
        evidence = encounters.add(1, embedding, float(i), view)
        decisions += encounters.decide(1, gallery.matcher.match(evidence), float(i))
    return any(decision.event_type == "match" for decision in [*decisions, *encounters.finish()])


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def _about(config: Config) -> dict[str, Any]:
    point = liveness_stage.operating_point(config)
    return {
        "liveness_model": config.liveness.model,
        "recognition_model": config.recognition.model,
        "stated_bpcer": point.bands[0][1].bpcer,
        "thresholds_from": point.calibration.cohort,
    }


def _files(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield (species, person or "", path) of every picture and clip."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and len(parts) >= 2 and path.is_file():
            yield parts[0], parts[1] if len(parts) > 2 else "", path


def _frames(path: Path) -> Iterator[Frame]:
    """Yield the picture, or some frames of the clip."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        yield Frame(read_image(path), 0.0, 0)
        return
    with closing(FileSource([path], fps=_CLIP_FPS)) as source:
        for _ in range(_MOST_FRAMES):
            frame = source.read()
            if frame is None:
                return
            yield frame
