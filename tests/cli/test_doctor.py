"""`doctor`: each finding is ok, weak or a fault, and names a remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edge.config import CameraConfig, DataFolder, MqttConfig, PowerConfig, RecognitionConfig, StoreConfig
from edge.errors import EdgeError, SourceError
from edge.identity.keys import load_or_create_key
from edge.identity.store import Store
from edge.models.manifest import load_manifest
from edge.processes import doctor
from edge.processes.findings import Finding
from tests.conftest import Clips
from tests.footage import video
from tools.rig.brokers import Amqtt
from tools.rig.stream import Stream
from tools.rig.workbench import Bench, copy_of_package, flip_byte

DATA_OF_OTHERS = 0o644
SYSTEMD = Path(__file__).parents[2] / "systemd"


def findings(bench: Bench, code: int, environ: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    answer = bench.call("doctor", "--json", environ=environ)
    assert answer.code == code, answer.output + answer.errors
    assert "Traceback" not in answer.errors
    return {finding["subject"]: finding for finding in json.loads(answer.output)["findings"]}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The [mqtt] section for a running broker."""
    one = Amqtt(tmp_path_factory.mktemp("broker"))
    one.start()
    yield {"port": one.port}
    one.kill()


def test_good_workbench_has_no_fault_and_names_what_is_weak(
    man_bench: Bench, clips: Clips, broker: dict[str, int]
) -> None:
    man_bench.configure({"camera": {"source": "video", "paths": [str(clips.man_later)]}, "mqtt": broker})
    found = findings(man_bench, 0)
    assert list(found) == [
        "config",
        "device",
        "processes",
        "camera",
        "detector",
        "embedder",
        "rate",
        "liveness",
        "people",
        "key",
        "outbox",
        "mqtt",
        "broker",
        "power",
    ]
    assert {subject for subject, finding in found.items() if finding["level"] != "ok"} == {"key"}
    assert found["rate"]["said"].startswith("false match rate 0.001 a comparison (in each of ")
    assert found["people"]["said"] == "1 enrolled; a stranger is taken for one of them at a rate of 0.001"
    assert load_manifest().embedder("lightcnn9").id[:16] in found["embedder"]["said"]
    assert found["key"]["level"] == "WEAK"
    assert found["key"]["remedy"].endswith("TPM2")
    lines = man_bench.call("doctor").output.splitlines()
    assert lines[0] == f"ok    config    {man_bench.path} is good"


def test_the_first_start_gets_instructions(bench: Bench, clips: Clips, broker: dict[str, int]) -> None:
    bench.configure({"camera": {"source": "video", "paths": [str(clips.man_later)]}, "mqtt": broker})
    found = findings(bench, 0)
    assert found["people"]["level"] == "WEAK"
    assert "people add" in found["people"]["remedy"]
    assert not bench.data.exists()


@pytest.mark.parametrize(
    ("package", "file", "backend", "subject"),
    [
        ("edge", "lightcnn9-int8.onnx", "onnxruntime", "embedder"),
        ("edge", "lightcnn9-int8.tflite", "litert", "embedder"),
        ("edge", "lightcnn9-golden.json", "onnxruntime", "embedder"),
        ("edge", "yunet.onnx", "onnxruntime", "detector"),
    ],
)
def test_one_flipped_byte_in_a_model_is_named_with_both_hashes(
    man_bench: Bench, package: str, file: str, backend: str, subject: str
) -> None:
    man_bench.configure({"recognition": {"backend": backend}})
    environ = copy_of_package(package, man_bench.folder)
    model = man_bench.folder / package / "models" / file
    flip_byte(model)
    finding = findings(man_bench, 1, environ)[subject]
    assert finding["level"] == "FAIL"
    assert f"{model}: altered: SHA-256 is " in finding["said"]
    assert "reinstall" in finding["remedy"]


def test_missing_key_says_that_the_store_was_sealed_with_it(man_bench: Bench) -> None:
    (man_bench.data / "store.key").unlink()
    finding = findings(man_bench, 1)["people"]
    assert finding["level"] == "FAIL"
    assert "store.key: no such store key" in finding["said"]
    assert not (man_bench.data / "store.key").exists(), "a new key would hide that the old one is missing"


def test_key_that_others_can_read_is_refused(man_bench: Bench) -> None:
    (man_bench.data / "store.key").chmod(DATA_OF_OTHERS)
    finding = findings(man_bench, 1)["people"]
    assert "open to others" in finding["said"]
    assert "chmod 600" in finding["remedy"]


def test_store_of_another_model_names_both_and_the_way_out(bench: Bench) -> None:
    settings = bench.settings
    key = load_or_create_key(settings.store.key, bench.data, settings.data.store, {})
    Store.create(settings.data.store, key, "5f" * 32, 128, model_name="other")
    finding = findings(bench, 1)["people"]
    assert finding["level"] == "FAIL"
    assert "templates.edge: made with model 5f5f5f5f5f5f, but the model in use is " in finding["said"]
    assert 'set [recognition] model = "other"' in finding["remedy"]


def test_camera_without_files_is_a_fault(bench: Bench) -> None:
    missing = bench.folder / "missing.mp4"
    bench.configure({"camera": {"source": "video", "paths": [str(missing)]}})
    assert f"{missing}: no such file" in findings(bench, 1)["camera"]["said"]


def one(check: Callable[..., Iterator[Finding]], *given: Any) -> Finding:
    """Return the finding of one check; an error becomes a finding, as in `examine`."""
    try:
        (finding,) = check(*given)
    except EdgeError as e:
        return Finding("FAIL", "", e.what, e.remedy)
    return finding


def test_a_camera_that_no_software_here_can_open_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    found = one(doctor.look_at_camera, CameraConfig(source="gstreamer", pipeline="videotestsrc ! appsink"))
    assert (found.level, "built with GStreamer" in found.said) == ("FAIL", True)
    monkeypatch.setattr(doctor, "need_gstreamer", lambda: None)
    assert one(doctor.look_at_camera, CameraConfig(source="gstreamer", pipeline="videotestsrc ! appsink")).level == "ok"
    found = one(doctor.look_at_camera, CameraConfig(source="gstreamer"))
    assert (found.level, "[camera] pipeline" in found.remedy) == ("FAIL", True)
    monkeypatch.setitem(sys.modules, "picamera2", None)
    found = one(doctor.look_at_camera, CameraConfig(source="picamera2"))
    assert (found.level, "python3-picamera2" in found.remedy) == ("FAIL", True)
    monkeypatch.setitem(sys.modules, "picamera2", ModuleType("picamera2"))
    assert one(doctor.look_at_camera, CameraConfig(source="picamera2")).level == "ok"


@pytest.mark.parametrize(
    ("mode", "username", "level", "said"),
    [
        (DATA_OF_OTHERS, "edge", "FAIL", "others can read it"),
        (0o640, "edge", "ok", "localhost:1883"),
        (0o600, "edge", "ok", "localhost:1883"),
        (0o600, "", "FAIL", "username is empty"),
    ],
)
def test_a_password_is_judged_as_the_publisher_does(
    tmp_path: Path, mode: int, username: str, level: str, said: str
) -> None:
    password = tmp_path / "password"
    password.write_text("secret", encoding="utf-8")
    password.chmod(mode)
    found = one(doctor.look_at_mqtt, MqttConfig(username=username, password_file=str(password)))
    assert (found.level, said in found.said) == (level, True)


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_a_missing_tls_file_is_a_fault(tmp_path: Path, key: str) -> None:
    named: dict[str, Any] = {key: str(tmp_path / "missing.pem")}
    found = one(doctor.look_at_mqtt, MqttConfig(host="broker.lan", tls=True, **named))
    assert (found.level, "missing.pem" in found.said) == ("FAIL", True)
    found = one(doctor.look_at_mqtt, MqttConfig(host="broker.lan", **named))
    assert (found.level, "tls is false" in found.said) == ("FAIL", True)


def test_a_credential_that_only_the_service_gets_is_no_fault(man_bench: Bench, clips: Clips) -> None:
    handed = "/run/credentials/edge-publisher.service/edge-mqtt-password"
    man_bench.configure(
        {
            "camera": {"source": "video", "paths": [str(clips.man_later)]},
            "store": {"key": "credential:edge-store-key"},
            "mqtt": {"username": "edge", "password_file": handed},
        }
    )
    found = findings(man_bench, 0)
    for subject, remedy in (("people", "journalctl -u edge-vision"), ("mqtt", "edge-daemon status")):
        assert found[subject]["level"] == "WEAK"
        assert "this command cannot check" in found[subject]["said"]
        assert remedy in found[subject]["remedy"]
    assert one(doctor.look_at_mqtt, MqttConfig(password_file=handed)).level == "FAIL"  # with any content


def test_a_credential_without_a_tpm_is_weak(tmp_path: Path) -> None:
    (tmp_path / "with" / "tpmrm0").mkdir(parents=True)
    (tmp_path / "without").mkdir()
    for sealed, level in ((tmp_path / "none", "WEAK"), (tmp_path / "without", "WEAK"), (tmp_path / "with", "ok")):
        found = one(doctor.look_at_key, StoreConfig(key="credential:edge-store-key"), sealed)
        assert (found.level, "TPM2" in found.said) == (level, True)


def test_numbers_of_embeddings_outside_the_calibration_are_weak(tmp_path: Path) -> None:
    def found(least: int, most: int) -> Finding:
        recognition = RecognitionConfig(min_embeddings=least, max_embeddings=most)
        return one(doctor.look_at_rate, recognition, DataFolder(tmp_path))

    assert found(4, 6).level == "ok"
    for least, most in ((1, 8), (3, 40)):
        weak = found(least, most)
        assert weak.level == "WEAK"
        assert f"on 3 to 8 embeddings, here they are made on {least} to {most}" in weak.said
        assert "within 3 to 8" in weak.remedy


def test_a_gauge_that_the_service_may_not_open_is_a_fault(tmp_path: Path) -> None:
    port = tmp_path / "tty"
    gauge, units = PowerConfig(sensor=f"serial:{port}"), (tmp_path / "etc", tmp_path / "usr")
    found = one(doctor.look_at_gauge, gauge, units)
    assert (found.level, "cannot be opened" in found.said, "dialout" in found.remedy) == ("FAIL", True, True)
    port.touch()
    assert one(doctor.look_at_gauge, gauge, units).level == "ok"  # a workbench has no unit
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/edge-vision.service").touch()
    drop_in = tmp_path / "etc/edge-vision.service.d/gauge.conf"
    drop_in.parent.mkdir(parents=True)
    for name, level in (("edge-gauge-i2c", "FAIL"), ("edge-gauge-serial", "ok")):
        drop_in.write_bytes((SYSTEMD / f"{name}.conf").read_bytes())
        found = one(doctor.look_at_gauge, gauge, units)
        assert found.level == level
        assert ("edge-gauge-serial.conf" in found.remedy) == (level == "FAIL")
    assert list(doctor.look_at_gauge(PowerConfig(sensor="auto"))) == []


def test_a_network_camera_is_opened_and_its_login_is_not_shown() -> None:
    with Stream(video("carphone", 5)) as stream:
        camera = CameraConfig(source="mjpeg", url=stream.url.replace("://", "://anna:s3cret@"))
        (found,) = doctor.look_at_camera(camera)
    assert (found.level, "176×144 frames" in found.said) == ("WEAK", True)
    assert "s3cret" not in found.as_text()
    with pytest.raises(SourceError, match="Connection refused"):
        list(doctor.look_at_camera(camera))
