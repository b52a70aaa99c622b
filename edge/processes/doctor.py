"""Check everything that recognition needs: each finding is ok, weak or a fault, with its remedy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from edge.addresses import without_login
from edge.cameras.camera import FINITE, NETWORKED, open_source
from edge.cameras.player import expand
from edge.cameras.software import need_gstreamer, need_picamera2
from edge.config import CameraConfig, Config, DataFolder, MqttConfig, PowerConfig, RecognitionConfig, StoreConfig
from edge.config.checks import HANDED
from edge.errors import EdgeError
from edge.events.credentials import credentials
from edge.events.outbox import Outbox
from edge.identity.calibration import rate_for_gallery
from edge.identity.keys import NoCredentialError, strength
from edge.models.manifest import load_manifest
from edge.models.slots import Slots
from edge.power.sensors import open_sensors
from edge.power.wish import WORDS, charge_is_read, wish
from edge.processes import checkup, liveness_stage
from edge.processes.assembly import build_detector, build_embedder
from edge.processes.findings import Finding, Level
from edge.processes.gallery import LiveGallery, load_calibration
from edge.processes.needed_rotation import needed_rotation
from edge.processes.status import status

_TPMS = Path("/sys/class/tpmrm")  # the kernel has an entry for each TPM 2 here
_UNITS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"))


def examine(config: Config, config_path: Path) -> list[Finding]:
    """Check everything once, and test the broker. Each EdgeError becomes a finding."""
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "device": lambda: checkup.device(config.device.id, config.data),
        "processes": lambda: checkup.processes(config.data),
        "switch": lambda: checkup.recognition(config),
        "camera": lambda: look_at_camera(config.camera),
        "picture": lambda: look_at_picture(config),
        "detector": lambda: look_at_detector(config),
        "embedder": lambda: look_at_embedder(config),
        "rate": lambda: look_at_rate(config.recognition, config.data),
        "liveness": lambda: look_at_liveness(config),
        "people": lambda: look_at_people(config),
        "key": lambda: look_at_key(config.store),
        "outbox": lambda: look_at_outbox(config),
        "mqtt": lambda: look_at_mqtt(config.mqtt),
        "publisher": lambda: checkup.reported(config),
        "broker": lambda: () if _unseen(config.mqtt) else checkup.broker(config),
        "gauge": lambda: look_at_gauge(config.power),
        "power": lambda: look_at_power(config.power),
    }
    findings = [Finding("ok", "config", f"{config_path} is good")]
    for subject, check in checks.items():
        try:
            findings += check()
        except EdgeError as e:
            findings.append(Finding("FAIL", subject, e.what, e.remedy))
    return findings


def look_at_picture(config: Config) -> Iterator[Finding]:
    """Report whether the camera's picture lies on its side, from the counts of the vision process."""
    vision = status(config)["vision"]
    rotation_deg = None if vision is None else needed_rotation(config.camera, vision["silent"], vision["embeddings"])
    if rotation_deg is not None:
        said = "faces are found only after the picture is turned: it seems to lie on its side or upside down"
        yield Finding("WEAK", "picture", said, f"turn the camera, or set [camera] rotation = {rotation_deg}")


def look_at_camera(camera: CameraConfig) -> Iterator[Finding]:
    """Check the configured camera; raises SourceError or DependencyError if it cannot work."""
    if camera.source in FINITE:
        yield Finding("ok", "camera", f"{len(expand([Path(p) for p in camera.paths]))} files to play")
    elif camera.source == "v4l2":
        if not os.access(camera.device, os.R_OK | os.W_OK):
            yield Finding(
                "FAIL", "camera", f"{camera.device} cannot be opened", "check the cable and the group 'video'"
            )
        else:
            yield Finding("ok", "camera", f"{camera.device} is there")
    elif camera.source in NETWORKED:
        with closing(open_source(camera)) as source:
            frame = source.read()
        size = f"{frame.image.shape[1]}×{frame.image.shape[0]}" if frame is not None else "no"
        said = f"{size} frames come over the network from {without_login(camera.url)}"
        yield Finding("WEAK", "camera", said, "use a camera on the device: vision needs no network then")
    elif camera.source == "gstreamer":
        need_gstreamer()
        if camera.pipeline:
            yield Finding("ok", "camera", "OpenCV has GStreamer; the pipeline is opened when vision starts")
        else:
            yield Finding(
                "FAIL", "camera", "no pipeline is named", "set [camera] pipeline: docs/cameras.md has examples"
            )
    else:
        need_picamera2()
        yield Finding("ok", "camera", "picamera2 is there; the Raspberry Pi camera is opened when vision starts")


def look_at_detector(config: Config) -> Iterator[Finding]:
    """Load the face detector; raises ModelError or DependencyError."""
    build_detector(config)
    yield Finding("ok", "detector", "its file is unaltered and loads")


def look_at_embedder(config: Config) -> Iterator[Finding]:
    """Load the embedder and run its golden self-test; raises ModelError or DependencyError."""
    embedder = build_embedder(config)
    backend = config.recognition.backend
    yield Finding("ok", "embedder", f"model {embedder.model[:16]} on {backend} passes its golden self-test")


def look_at_rate(recognition: RecognitionConfig, data: DataFolder) -> Iterator[Finding]:
    """Say whether the false match rate holds for the configured numbers of embeddings."""
    manifest = Slots(data.models).manifest
    calibration = load_calibration(load_manifest(manifest).embedder(recognition.model), manifest.parent)
    point = calibration.at(recognition.fmr)
    stated = f"false match rate {point.fmr:g} a comparison"
    if calibration.covers(recognition.min_embeddings, recognition.max_embeddings):
        whom = f"in each of {len(calibration.groups)} groups of people measured, docs/model-card.md"
        yield Finding("ok", "rate", f"{stated} ({whom}; 95 % bound of the worst {point.upper_fmr:.1e})")
        return
    measured = f"{calibration.decided_from} to {calibration.decided_to}"
    yield Finding(
        "WEAK",
        "rate",
        f"{stated} does not hold: it was measured for decisions on {measured} embeddings, "
        f"here they are made on {recognition.min_embeddings} to {recognition.max_embeddings}",
        f"set [recognition] min_embeddings and max_embeddings within {measured}",
    )


def look_at_liveness(config: Config) -> Iterator[Finding]:
    """Say whether pictures of people are recognised as such, and how often live faces are refused."""
    chosen = config.liveness
    if chosen.mode == "off":
        said = "off: a photograph of an enrolled person counts as the person"
        yield Finding("WEAK", "liveness", said, 'set [liveness] mode = "mark" or "deny"')
        return
    opened = liveness_stage.open_stage(config)
    if opened.problem:
        yield Finding(
            "FAIL",
            "liveness",
            opened.problem,
            "reinstall edge-face-runtime, or restore edge/models from the repository",
        )
        return
    point = liveness_stage.operating_point(config)
    _, level = point.bands[0]
    passed = ", ".join(f"{s.accepted} of {s.pictures} {name} pass" for name, s in level.attacks.items())
    said = (
        f"{chosen.mode}: {level.denied} of {level.live} live faces are taken for pictures (95 % bound "
        f"{100 * level.upper:.1f} %), {passed}; measured on {point.calibration.cohort.partition(';')[0]}, no screens"
    )
    yield Finding("ok", "liveness", said)


def look_at_people(config: Config) -> Iterator[Finding]:
    """Say how many people are enrolled, and who must be enrolled again."""
    try:
        gallery = LiveGallery(config)
    except NoCredentialError:
        said = "systemd passes the store key to vision alone: this command cannot check who is enrolled"
        yield Finding("WEAK", "people", said, "journalctl -u edge-vision says whether it can open the store")
        return
    if gallery.people_count == 0:
        yield Finding(
            "WEAK", "people", "nobody is enrolled: every face is unknown", "edge-daemon people add NAME --from …"
        )
    else:
        rate = rate_for_gallery(gallery.operating_point.fmr, gallery.people_count - len(gallery.missing))
        said = f"{gallery.people_count} enrolled; a stranger is taken for one of them at a rate of {rate:.2g}"
        yield Finding("ok", "people", said)
    if gallery.missing:
        names = ", ".join(gallery.missing)
        yield Finding(
            "WEAK",
            "people",
            f"not recognised since the model changed: {names}",
            "enrol them again: edge-daemon people add",
        )


def look_at_key(store: StoreConfig, tpms: Path = _TPMS) -> Iterator[Finding]:
    """Say how well the store key is kept. `tpms`: a folder with an entry for each TPM 2."""
    kept = strength(store.key, tpm2=tpms.is_dir() and any(tpms.iterdir()))
    yield Finding("WEAK" if kept.level == "WEAK" else "ok", "key", kept.reason, kept.remedy)


def look_at_outbox(config: Config) -> Iterator[Finding]:
    """Say how many events wait, and how many were dropped."""
    if not config.data.outbox.exists():
        yield Finding("ok", "outbox", "will be made at the first start")
        return
    with closing(Outbox.of(config.data, config.outbox)) as outbox:
        counts = outbox.counts()
    level: Level = "WEAK" if counts.dropped or counts.damaged_files else "ok"
    yield Finding(level, "outbox", f"{counts.depth} events wait, {counts.dropped} were dropped")


def look_at_mqtt(mqtt: MqttConfig) -> Iterator[Finding]:
    """Check the credentials of the broker and whether events are sent in clear text; raises PublisherError."""
    unseen = _unseen(mqtt)
    credentials(msgspec.structs.replace(mqtt, password_file="") if unseen else mqtt)
    local = mqtt.host in {"localhost", "127.0.0.1", "::1"}
    if not mqtt.tls and not local:
        yield Finding("WEAK", "mqtt", f"events go to {mqtt.host} in the clear", "set [mqtt] tls = true")
    elif unseen:
        said = "only the publisher may read the password: this command cannot check it"
        yield Finding("WEAK", "mqtt", said, "edge-daemon status says whether the broker takes it")
    else:
        yield Finding("ok", "mqtt", f"{mqtt.host}:{mqtt.port}{' with TLS' if mqtt.tls else ''}")


def _unseen(mqtt: MqttConfig) -> bool:
    """Whether only the publisher can read the password: systemd passes it on, or another user owns the file."""
    if not mqtt.username or not mqtt.password_file or os.access(mqtt.password_file, os.R_OK):
        return False
    try:
        return mqtt.password_file.startswith(HANDED) or Path(mqtt.password_file).stat().st_uid != os.geteuid()
    except PermissionError:
        return True
    except OSError:
        return False


def look_at_gauge(power: PowerConfig, units: tuple[Path, ...] = _UNITS) -> Iterator[Finding]:
    """Check that vision may open a gauge on a serial line or I2C bus. `units`: the folders of systemd's units."""
    kind, _, rest = power.sensor.partition(":")
    if kind not in {"serial", "i2c"}:
        return
    path, group = (rest, "dialout") if kind == "serial" else (f"/dev/i2c-{rest.partition(':')[0]}", "i2c")
    allowed = {"serial": "DeviceAllow=char-tty", "i2c": "DeviceAllow=char-i2c"}[kind]
    drop_ins = [drop_in for folder in units for drop_in in folder.glob("edge-vision.service.d/*.conf")]
    if not os.access(path, os.R_OK | os.W_OK):
        yield Finding("FAIL", "gauge", f"{path} cannot be opened", f"check the cable and the group '{group}'")
    elif (units[-1] / "edge-vision.service").exists() and not any(allowed in d.read_text("utf-8") for d in drop_ins):
        said = f"{path} is there, but edge-vision.service may not open it"
        yield Finding(
            "FAIL", "gauge", said, f"install the drop-in edge-gauge-{kind}.conf: docs/install.md has the command"
        )
    else:
        yield Finding("ok", "gauge", f"{path} is there")


def look_at_power(power: PowerConfig) -> Iterator[Finding]:
    """Report which thermal zone is used, faults of batteries, and whether the wanted run time is followed.

    Only vision may read a gauge on a serial line; `edge-daemon status` then reports the same.
    """
    serial = power.sensor.startswith("serial:")
    sensors = open_sensors(msgspec.structs.replace(power, sensor="none") if serial else power)
    with closing(sensors):
        for at_s in (0.0, 1.0):  # a reading is used when a second one agrees
            reading = sensors.read(at_s)
        notes = sensors.notes
    for note in notes:
        yield Finding("WEAK" if note.remedy else "ok", "power", note.what, note.remedy)
    if serial:
        return
    found = wish(
        power.run_time,
        governor=power.governor,
        followed=reading.supply != "mains" and charge_is_read(reading, power.battery_cells),
        reading=reading,
        cells=power.battery_cells,
        notes={note.kind for note in notes},
    )
    what, remedy = WORDS[found]
    level: Level = "WEAK" if found in {"wrong_cells", "gauge_unusable"} else "ok"
    yield Finding(level, "power", f"run_time {power.run_time or 'none'}: {what}", remedy)
