"""`edge-daemon try`: the person on a picture, or the reason for none. Everything stays in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.cameras.decoder import PictureDecoder
from edge.cameras.player import expand
from edge.config import Config
from edge.content import kind_of
from edge.errors import SourceError
from edge.pictures import examine
from edge.processes import liveness_stage
from edge.processes.assembly import build_pipeline
from edge.processes.gallery import LiveGallery
from edge.records import NO_FACE, Finding, Frame, Match


@dataclass(frozen=True, slots=True)
class Tried:
    """One picture, and the result of each face on it."""

    name: str
    problem: str = ""  # why it cannot be read, or that it shows no face
    findings: tuple[Finding, ...] = ()
    live: tuple[bool | None, ...] = ()  # of each finding; None: unknown, or not checked


def tried(config: Config, gallery: LiveGallery, paths: Sequence[Path]) -> Iterator[Tried]:
    """Judge each picture by itself; raises EdgeError if the pipeline cannot be built."""
    files = expand(paths)
    pipeline = build_pipeline(config, gallery)
    with PictureDecoder() as decoder:
        for i, path in enumerate(files):
            if kind_of(path) == "video":
                yield Tried(path.name, 'a video: play it with [camera] source = "video"')
                continue
            try:
                image = decoder.read(path)
            except SourceError as e:
                yield Tried(path.name, str(e))
                continue
            frame = Frame(image, float(i), i, still=True)
            findings = tuple(examine(pipeline, frame))
            problem = "" if findings else pipeline.orientation.explain(frame, NO_FACE)[0]
            live = tuple(pipeline.liveness.judge([] if f.view is None else [f.view]) for f in findings)
            yield Tried(path.name, problem, findings, live)


def as_dict(picture: Tried, gallery: LiveGallery) -> dict[str, Any]:
    """Return one picture, JSON-ready."""
    return {
        "picture": picture.name,
        "problem": picture.problem or None,
        "faces": [
            _face(finding, gallery) | {"live": live}
            for finding, live in zip(picture.findings, picture.live, strict=True)
        ],
    }


def as_text(picture: Tried, gallery: LiveGallery) -> str:
    """Return one picture as lines for a person."""
    if picture.problem:
        return f"{picture.name}: {picture.problem}"
    faces = zip(picture.findings, picture.live, strict=True)
    return "\n".join(f"{picture.name}: {in_words(finding, live, gallery)}" for finding, live in faces)


def in_words(finding: Finding, live: bool | None, gallery: LiveGallery) -> str:
    """Return the result of one face as text: "face of 96 px: Anna, likely (0.61, needs 0.47), live"."""
    x, y, width, height = (round(float(v)) for v in finding.face.box_px)
    what = f"face of {min(width, height)} px at {x},{y}"
    if finding.match is None:
        return f"{what}: not recognised, for it is {', '.join(finding.refused)}{_measured(finding)}"
    return f"{what}: {verdict(finding.match, gallery)}, {liveness_stage.in_words(live)}{_measured(finding)}"


def verdict(match: Match, gallery: LiveGallery) -> str:
    """Return the person, or why there is none."""
    numbers = f"({match.score:.2f}, needs {match.threshold:.2f})"
    rivals = " or ".join(gallery.described(match.rivals))
    if match.person is None:
        return f"known, but not clear who: {rivals} {numbers}" if rivals else f"nobody enrolled is near {numbers}"
    (name,) = gallery.described([match.person])
    also = f", may be {rivals}" if rivals else ""
    return f"{name}, {match.band}{', ignored' if match.ignored else ''}{also} {numbers}"


def _measured(finding: Finding) -> str:
    quality = finding.quality
    if quality is None:
        return ""
    return (
        f" [sharpness {quality.sharpness:.0f}, light {quality.brightness:.0f}, "
        f"contrast {quality.contrast:.0f}, turned {quality.yaw:+.2f}]"
    )


def _face(finding: Finding, gallery: LiveGallery) -> dict[str, Any]:
    quality, match = finding.quality, finding.match
    found: dict[str, Any] = {
        "box_px": [round(float(v), 1) for v in finding.face.box_px],
        "refused": list(finding.refused),
        "quality": None,
        "match": None,
    }
    if quality is not None:
        found["quality"] = {
            name: round(getattr(quality, name), 3) for name in ("sharpness", "brightness", "contrast", "yaw", "score")
        }
    if match is not None:
        found["match"] = {
            "person": match.person,
            "name": None if match.person is None else gallery.name_of(match.person),
            "band": match.band,
            "score": round(match.score, 4) if gallery.people_count else None,
            "threshold": round(match.threshold, 4) if gallery.people_count else None,
            "rivals": list(match.rivals),
            "ignored": match.ignored,
        }
    return found
