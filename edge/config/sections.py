"""The sections of `edge.toml` as frozen structs, with the range and the default of each key.

The defaults below are the single source. `config/edge.toml` shows every key with its comment, and a test compares the
two.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.config.folder import DataFolder
from edge.vocabulary import MAX_PRESENCE, ArmedMinutes, PersonId, PublishedName, Slug, TopicPrefix, form

_MODEL_NAME = "the name of a model: a-z, 0-9, '.', '_' and '-', at most 64 characters"
_KEY = "file:PATH or credential:NAME"
_RUN_TIME = '"12h", "until 18:00", or "" for no wish'
_SENSOR = "auto, none, serial:/dev/… or i2c:BUS:0xADDRESS:CHIP, with ina219, ina226 or ina3221 as CHIP"
_UPDATE_KEY = "64 hexadecimal digits (a-f in small letters), or empty"

Positive = Annotated[float, Meta(gt=0, le=1e6)]
NonNegative = Annotated[float, Meta(ge=0, le=1e6)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
ModelName = Annotated[str, form(r"^[a-z0-9][a-z0-9._-]{0,63}\Z", _MODEL_NAME)]


DEFAULT_ID = "edge"  # stands for the id that the device gives itself at its first run


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections: frozen, and unknown keys are errors."""


class DeviceConfig(_Section, frozen=True):
    """Who this device is."""

    id: Slug = DEFAULT_ID
    data_dir: str = "/var/lib/edge"


class CameraConfig(_Section, frozen=True):
    """The source of frames."""

    source: Literal["picamera2", "v4l2", "video", "images", "mjpeg", "rtsp", "gstreamer"] = "picamera2"
    paths: list[str] = []
    device: str = "/dev/video0"
    url: str = ""
    pipeline: str = ""
    width_px: Annotated[int, Meta(ge=64, le=4096)] = 640
    height_px: Annotated[int, Meta(ge=64, le=4096)] = 480
    fps: Annotated[float, Meta(gt=0, le=120)] = 15.0
    rotation: Literal[0, 90, 180, 270] = 0
    mirror: bool = False
    realtime: bool = True
    loop: bool = False


class MotionConfig(_Section, frozen=True):
    """When a frame is worth a look."""

    min_changed_share: Share = 0.003


class DetectorConfig(_Section, frozen=True):
    """What counts as a face."""

    min_confidence: Share = 0.8
    min_face_px: Annotated[int, Meta(ge=16, le=1024)] = 40
    max_side_px: Annotated[int, Meta(ge=160, le=2048)] = 640
    rate_hz: Positive = 15.0


class QualityConfig(_Section, frozen=True):
    """Which faces are fit for recognition."""

    min_sharpness: NonNegative = 150.0
    min_brightness: Annotated[float, Meta(ge=0, le=255)] = 30.0
    max_brightness: Annotated[float, Meta(ge=0, le=255)] = 210.0
    min_contrast: NonNegative = 12.0
    max_yaw: Share = 0.6


class RecognitionConfig(_Section, frozen=True):
    """How an identity is decided."""

    model: ModelName = "lightcnn9"
    backend: Literal["onnxruntime", "litert"] = "onnxruntime"
    threads: Annotated[int, Meta(ge=1, le=16)] = 1
    rate_hz: Positive = 5.0
    fmr: float = 1e-3
    margin: Share = 0.05
    min_embeddings: Count = 3
    max_embeddings: Count = 8
    encounter_timeout_s: Positive = 4.0

    def __post_init__(self) -> None:
        """Refuse rates that no calibration of ours holds, and numbers of embeddings in the wrong order."""
        if not 1e-4 <= self.fmr <= 1e-2:
            raise ValueError("fmr must lie in 1e-4..1e-2: the calibration holds no other rate")
        if not self.min_embeddings <= self.max_embeddings:
            raise ValueError("min_embeddings <= max_embeddings is needed")


class LivenessConfig(_Section, frozen=True):
    """Whether a picture of a person counts as the person."""

    mode: Literal["off", "mark", "deny"] = "mark"
    model: ModelName = "minifasnet-v2"
    bpcer: float = 0.005
    deny_unknown: bool = False

    def __post_init__(self) -> None:
        """Refuse a key that would have no effect."""
        if not 0 < self.bpcer < 1:
            raise ValueError("bpcer is a share above 0 and below 1")
        if self.deny_unknown and self.mode != "deny":
            raise ValueError('deny_unknown = true needs mode = "deny"')


class StoreConfig(_Section, frozen=True):
    """Where templates are kept and which key opens them."""

    key: Annotated[str, form(r"^(file:[^\x00]+|credential:[^/\x00]+)\Z", _KEY)] = "file:store.key"
    counter: Literal["none", "tpm2"] = "none"
    templates_per_person: Annotated[int, Meta(ge=1, le=12)] = 12
    keep_crops: bool = False


class OutboxConfig(_Section, frozen=True):
    """How long events wait for a broker."""

    max_events: Annotated[int, Meta(ge=10, le=1_000_000)] = 100_000
    max_age_h: Positive = 168.0


class MqttConfig(_Section, frozen=True):
    """The broker that the publisher speaks to."""

    host: str = "localhost"
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    prefix: TopicPrefix = "edge"
    username: str = ""
    password_file: str = ""
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 30
    reconnect_s: Annotated[float, Meta(ge=0.1, le=3600)] = 1.0
    reconnect_max_s: Annotated[float, Meta(ge=0.1, le=3600)] = 60.0
    session_expiry_s: Annotated[int, Meta(ge=0, le=86_400)] = 60
    acks: bool = False
    late_after_s: Positive = 60.0
    discovery: bool = True
    discovery_prefix: TopicPrefix = "homeassistant"
    state_every_s: Positive = 30.0

    def __post_init__(self) -> None:
        """Refuse waits in the wrong order."""
        if not self.reconnect_s <= self.reconnect_max_s:
            raise ValueError("reconnect_s <= reconnect_max_s is needed")


class PowerConfig(_Section, frozen=True):
    """How long the battery must last, and what the power governor may and must do."""

    governor: bool = True
    run_time: Annotated[str, form(r"^(|[0-9]{1,3}(\.[0-9]+)?h|until ([01][0-9]|2[0-3]):[0-5][0-9])\Z", _RUN_TIME)] = (
        "12h"
    )
    board: Literal["auto", "pi-zero-2", "pi-4", "pi-5", "jetson-orin-nano", "generic"] = "auto"
    sensor: Annotated[
        str,
        form(r"^(auto|none|serial:/.{1,100}|i2c:[0-9]{1,2}:0x[0-9a-f]{2}:(ina219|ina226|ina3221))\Z", _SENSOR),
    ] = "auto"
    shunt_ohm: Annotated[float, Meta(ge=-10, le=10)] = 0.1
    battery_wh: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    battery_cells: Annotated[int, Meta(ge=0, le=8)] = 1
    reserve_percent: Annotated[float, Meta(ge=1, le=50)] = 5.0
    suspend_percent: Annotated[float, Meta(ge=0, le=50)] = 2.0
    floor_look_s: Annotated[float, Meta(ge=0.1, le=60)] = 2.0
    critical_look_s: Annotated[float, Meta(ge=0.1, le=60)] = 10.0
    hot_c: Annotated[float, Meta(ge=30, le=120)] = 75.0
    overheated_c: Annotated[float, Meta(ge=30, le=120)] = 82.0
    suspend_c: Annotated[float, Meta(ge=30, le=120)] = 95.0
    hysteresis_s: Annotated[float, Meta(ge=10, le=3600)] = 60.0

    def __post_init__(self) -> None:
        """Refuse what no pattern and no range can: nothing for a wish or a shunt, and limits in the wrong order.

        The stricter mode must come later.
        """
        if re.fullmatch(r"[0.]+h", self.run_time):
            raise ValueError("run_time is more than 0h, or empty for no wish")
        if not abs(self.shunt_ohm) > 0.0:
            raise ValueError("shunt_ohm is not 0: the resistance in Ω, negative where it is wired the other way round")
        if not self.hot_c < self.overheated_c < self.suspend_c:
            raise ValueError("hot_c < overheated_c < suspend_c is needed")
        if not self.suspend_percent < self.reserve_percent:
            raise ValueError("suspend_percent < reserve_percent is needed")
        if not self.floor_look_s <= self.critical_look_s:
            raise ValueError("floor_look_s <= critical_look_s is needed")


class PeopleConfig(_Section, frozen=True):
    """What the device remembers of visits, beside the events that wait for the broker."""

    correct_min: Annotated[float, Meta(ge=0, le=60)] = 0.0
    seen_days: Annotated[int, Meta(ge=0, le=366)] = 0


class PrivacyConfig(_Section, frozen=True):
    """Data that may leave the device besides the opaque id."""

    publish_names: bool = False
    presence: Annotated[dict[PersonId, PublishedName], Meta(max_length=MAX_PRESENCE)] = {}


class ProvisionConfig(_Section, frozen=True):
    """How the owner sets the device up over a cable."""

    port: str = "/dev/ttyGS0"
    armed_minutes: ArmedMinutes = 15
    set_clock: bool = True
    update_key: Annotated[str, form(r"^([0-9a-f]{64})?\Z", _UPDATE_KEY)] = ""


class Config(_Section, frozen=True):
    """The whole of edge.toml."""

    device: DeviceConfig = DeviceConfig()
    camera: CameraConfig = CameraConfig()
    motion: MotionConfig = MotionConfig()
    detector: DetectorConfig = DetectorConfig()
    quality: QualityConfig = QualityConfig()
    recognition: RecognitionConfig = RecognitionConfig()
    liveness: LivenessConfig = LivenessConfig()
    store: StoreConfig = StoreConfig()
    outbox: OutboxConfig = OutboxConfig()
    mqtt: MqttConfig = MqttConfig()
    power: PowerConfig = PowerConfig()
    people: PeopleConfig = PeopleConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    provision: ProvisionConfig = ProvisionConfig()

    @property
    def data(self) -> DataFolder:
        """The folder of everything that the device keeps."""
        return DataFolder(Path(self.device.data_dir))
