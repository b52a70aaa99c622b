"""TOML → frozen structs. Strict: an unknown key or a wrong type names file, line, key, value and the nearest known key.

The defaults below are the single source. `config/edge.toml` shows every key with its comment, and a test compares the
two.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.config_checks import contradictions
from edge.config_errors import Source, explain, refuse_unknown, table_of, wrong
from edge.errors import ConfigError
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
    acks: bool = False
    late_after_s: Positive = 60.0
    discovery: bool = True
    discovery_prefix: TopicPrefix = "homeassistant"
    state_every_s: Positive = 30.0


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
    def data_dir(self) -> Path:
        """Where store, key and outbox lie."""
        return Path(self.device.data_dir)

    @property
    def store_path(self) -> Path:
        """The encrypted template store."""
        return self.data_dir / "templates.edge"

    @property
    def outbox_path(self) -> Path:
        """The outbox, in a folder of its own: the only one that the publisher may open."""
        return self.data_dir / "outbox" / "outbox.db"

    @property
    def own_id_path(self) -> Path:
        """The id that the device gave itself at its first run; beside the outbox, for vision and publisher."""
        return self.outbox_path.parent / "device-id"

    def own_id(self) -> str:
        """Return that id; "" where there is none."""
        try:
            text = self.own_id_path.read_text(encoding="ascii").strip()
            return str(msgspec.convert(text, Slug))
        except (OSError, UnicodeDecodeError, msgspec.ValidationError):
            return ""

    @property
    def settings_dir(self) -> Path:
        """What the owner set over the cable: written by the provisioning process, read by all."""
        return self.data_dir / "settings"

    @property
    def settings_path(self) -> Path:
        """The settings that stand over those of edge.toml."""
        return self.settings_dir / "settings.toml"

    @property
    def provision_dir(self) -> Path:
        """The provisioning process's own: its code, its guesses, updates on their way."""
        return self.data_dir / "provision"

    @property
    def seen_path(self) -> Path:
        """Who was met, sealed; only where [people] seen_days is set."""
        return self.data_dir / "seen.edge"

    @property
    def control_path(self) -> Path:
        """The socket on which vision hears the provisioning process."""
        return self.data_dir / "control" / "vision.sock"

    @property
    def sight_path(self) -> Path:
        """The socket on which vision shows what is in view, to its own user and to root."""
        return self.data_dir / "watch" / "vision.sock"

    @property
    def models_dir(self) -> Path:
        """The slots of model updates."""
        return self.data_dir / "models"


# Keys of earlier versions, and their replacements.
REPLACED: Mapping[tuple[str, str], str] = {
    ("motion", "still_check_s"): "it is [power] floor_look_s now: a look at least so often, also where nothing moves",
    ("power", "device"): "it is [power] board now",
    ("power", "shutdown_c"): "it is [power] suspend_c now",
}

# What the owner may set over the cable. Nothing here can move a file, a camera or a trusted key.
OWNERS: Mapping[str, frozenset[str]] = {
    "device": frozenset({"id"}),
    "mqtt": frozenset(
        {
            "host", "port", "prefix", "username", "password_file", "tls", "ca_file", "cert_file", "key_file",
            "discovery", "acks",
        }
    ),
    "power": frozenset({"run_time"}),
    "privacy": frozenset({"publish_names"}),
}  # fmt: skip


def load(path: Path) -> Config:
    """Read and check a configuration file, and the owner's settings over it.

    Raises ConfigError with file, line, key, value and remedy.
    """
    config = load_without_owner(path)
    try:
        settings = config.settings_path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return config
    except (OSError, UnicodeDecodeError) as e:
        remedy = "remove it and set up again, or: edge-enroll factory-reset"
        raise ConfigError(f"{config.settings_path}: cannot be read: {e}", remedy) from None
    return overlay(config, settings, str(config.settings_path))


def load_without_owner(path: Path) -> Config:
    """Read and check a configuration file alone: enough to mend the device, not to run it. Raises ConfigError."""
    config = parse(_read(path), str(path))
    if config.device.id != DEFAULT_ID or not (own := config.own_id()):
        return config
    return msgspec.structs.replace(config, device=msgspec.structs.replace(config.device, id=own))


def overlay(config: Config, settings: str, name: str) -> Config:
    """Return the configuration with the owner's settings, TOML, over it; ConfigError for a key that is not theirs."""
    checked = parse(settings, name, whole=False)
    for section, values in tomllib.loads(settings).items():
        if foreign := sorted(set(values) - OWNERS.get(section, frozenset())):
            what = f"{name}: [{section}] {', '.join(foreign)}: not to be set over the cable"
            raise ConfigError(what, "remove it there, and set it in edge.toml")
        chosen = {key: getattr(getattr(checked, section), key) for key in values}
        merged = msgspec.structs.replace(getattr(config, section), **chosen)
        config = msgspec.structs.replace(config, **{section: merged})
    return config


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file", "copy config/edge.toml there, or name another with --config"
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}", "check its permissions and that it is UTF-8 text") from None


def parse(text: str, name: str, *, whole: bool = True) -> Config:
    """Check the text of a configuration; `name` is what errors call it. Not `whole`: it stands over another one."""
    source = Source(text, name)
    table = table_of(source)
    refuse_unknown(table, source, Config, REPLACED)
    try:
        config = msgspec.convert(table, Config)
    except msgspec.ValidationError as e:
        raise explain(e, table, source, Config) from None
    for fault in contradictions(config) if whole else ():
        raise wrong(source, table, fault)
    return config
