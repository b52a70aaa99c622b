"""The configuration: `sections.py` has the keys, `reading.py` loads a file, `folder.py` has the paths of the data."""

from edge.config.folder import DataFolder
from edge.config.reading import OWNERS, REPLACED, load, load_without_owner, overlay, parse
from edge.config.sections import (
    DEFAULT_ID,
    CameraConfig,
    Config,
    DetectorConfig,
    DeviceConfig,
    LivenessConfig,
    MotionConfig,
    MqttConfig,
    OutboxConfig,
    PeopleConfig,
    PowerConfig,
    PrivacyConfig,
    ProvisionConfig,
    QualityConfig,
    RecognitionConfig,
    StoreConfig,
)

__all__ = [
    "DEFAULT_ID",
    "OWNERS",
    "REPLACED",
    "CameraConfig",
    "Config",
    "DataFolder",
    "DetectorConfig",
    "DeviceConfig",
    "LivenessConfig",
    "MotionConfig",
    "MqttConfig",
    "OutboxConfig",
    "PeopleConfig",
    "PowerConfig",
    "PrivacyConfig",
    "ProvisionConfig",
    "QualityConfig",
    "RecognitionConfig",
    "StoreConfig",
    "load",
    "load_without_owner",
    "overlay",
    "parse",
]
