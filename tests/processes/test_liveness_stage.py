"""A missing or altered liveness model: recognition continues as configured, and the fault is reported."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge import config
from edge.config import Config
from edge.errors import ConfigError, EnrolmentError
from edge.models import slots
from edge.models.manifest import MANIFEST
from edge.processes import doctor, liveness_stage
from edge.processes.assembly import build_enrolment
from edge.processes.findings import Finding
from edge.processes.gallery import LiveGallery
from edge.processes.owner.enrolment_requests import EnrolmentRequests
from edge.provision.protocol import messages
from edge.vision.liveness import Liveness, NoLiveness

_MODEL = "minifasnet-v2.onnx"


def settings(folder: Path, text: str = "") -> Config:
    return config.parse(f'[device]\ndata_dir = "{folder}"\n[liveness]\n{text}\n', "test")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped models that the device uses."""
    folder = tmp_path / "models"
    shutil.copytree(MANIFEST.parent, folder, ignore=shutil.ignore_patterns("*.py", "*.tflite", "__pycache__"))
    monkeypatch.setattr(slots, "MANIFEST", folder / MANIFEST.name)
    return folder


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_shipped_model_is_used_unless_it_is_off(tmp_path: Path) -> None:
    assert isinstance(liveness_stage.open_stage(settings(tmp_path)).stage, Liveness)
    assert isinstance(liveness_stage.open_stage(settings(tmp_path, 'mode = "off"')).stage, NoLiveness)


@pytest.mark.parametrize(
    ("damage", "said"), [(Path.unlink, "cannot be read: No such file"), (altered, "altered: SHA-256 is")]
)
@pytest.mark.parametrize("file", [_MODEL, "minifasnet-v2-golden.json"])
def test_a_missing_or_altered_file_is_reported_and_no_face_is_called_live(
    models: Path, tmp_path: Path, file: str, damage: object, said: str
) -> None:
    assert callable(damage)
    damage(models / file)
    opened = liveness_stage.open_stage(settings(tmp_path, 'mode = "deny"'))
    assert "no face can be recognised as live" in opened.problem
    assert said in opened.problem
    assert opened.stage.judge([]) is None
    strict = liveness_stage.open_stage(settings(tmp_path, 'mode = "deny"\ndeny_unknown = true'))
    assert "so nobody is reported" in strict.problem
    assert liveness_stage.open_stage(settings(tmp_path, 'mode = "off"')).problem == ""


def test_doctor_reports_mode_measured_data_and_faults(models: Path, tmp_path: Path) -> None:
    def finding(text: str) -> Finding:
        found = doctor.examine(settings(tmp_path, text), Path("edge.toml"))
        return next(f for f in found if f.subject == "liveness")

    good = finding('mode = "deny"')
    assert good.level == "ok"
    assert "deny: " in good.said
    assert "NUAA" in good.said
    assert finding('mode = "off"').level == "WEAK"
    altered(models / _MODEL)
    broken = finding('mode = "deny"')
    assert (broken.level, "altered" in broken.said) == ("FAIL", True)


def test_a_broken_model_prevents_enrolment_from_the_camera_but_not_from_photos(models: Path, tmp_path: Path) -> None:
    (models / _MODEL).unlink()
    made = settings(tmp_path)
    begin = EnrolmentRequests.HANDLERS[messages.EnrolBegin]
    requests = EnrolmentRequests(made, LiveGallery(made), build_enrolment)
    with pytest.raises(EnrolmentError, match="no face can be recognised as live"):
        begin(requests, messages.EnrolBegin(name="Anna", source="camera"))
    begin(requests, messages.EnrolBegin(name="Anna", source="photos"))
    requests.forget()


@pytest.mark.parametrize(
    ("mode", "denied"),
    [
        ('mode = "mark"', frozenset()),
        ('mode = "deny"', {False}),
        ('mode = "deny"\ndeny_unknown = true', {False, None}),
    ],
)
def test_the_configuration_decides_what_is_denied(tmp_path: Path, mode: str, denied: frozenset[bool | None]) -> None:
    assert liveness_stage.denied(settings(tmp_path, mode).liveness) == denied


def test_a_rate_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bpcer = 0.0001: the live faces measured support 0.005 to 0.05"):
        liveness_stage.open_stage(settings(tmp_path, "bpcer = 0.0001"))
