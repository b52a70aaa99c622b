"""The data folder of a device: where each process keeps what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge.vocabulary import Slug


@dataclass(frozen=True, slots=True)
class DataFolder:
    """`[device] data_dir`, and the paths in it."""

    path: Path

    @property
    def store(self) -> Path:
        """The encrypted template store."""
        return self.path / "templates.edge"

    @property
    def outbox(self) -> Path:
        """The outbox, in a folder of its own: the only folder that the publisher may open."""
        return self.path / "outbox" / "outbox.db"

    @property
    def own_id(self) -> Path:
        """The id that the device gave itself at its first run. It lies beside the outbox, for vision and publisher."""
        return self.outbox.parent / "device-id"

    def read_own_id(self) -> str:
        """Return that id; "" if there is none."""
        try:
            text = self.own_id.read_text(encoding="ascii").strip()
            return str(msgspec.convert(text, Slug))
        except (OSError, UnicodeDecodeError, msgspec.ValidationError):
            return ""

    @property
    def settings(self) -> Path:
        """The folder of what the owner set over the cable: written by the provisioning process, read by all."""
        return self.path / "settings"

    @property
    def settings_file(self) -> Path:
        """The owner's settings. They replace those of edge.toml."""
        return self.settings / "settings.toml"

    @property
    def provision(self) -> Path:
        """The folder of the provisioning process: its code, the count of wrong codes, updates while they arrive."""
        return self.path / "provision"

    @property
    def seen(self) -> Path:
        """Who was met, sealed; only with [people] seen_days."""
        return self.path / "seen.edge"

    @property
    def control_socket(self) -> Path:
        """The socket on which vision takes requests from the provisioning process."""
        return self.path / "control" / "vision.sock"

    @property
    def sight_socket(self) -> Path:
        """The socket on which vision shows what is in view, to its own user and to root."""
        return self.path / "watch" / "vision.sock"

    @property
    def models(self) -> Path:
        """The slots of model updates."""
        return self.path / "models"
