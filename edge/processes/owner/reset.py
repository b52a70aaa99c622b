"""Factory reset: destroy people, events and model updates. One that was cut off is finished at the next start."""

from __future__ import annotations

import logging
from contextlib import closing, suppress
from pathlib import Path

from edge import files
from edge.config import Config
from edge.errors import EdgeError, StoreError
from edge.events.outbox import Outbox
from edge.models.slots import Slots
from edge.processes import people

_log = logging.getLogger(__name__)


def finish_forgetting(config: Config) -> None:
    """Go on with a reset that was cut off, by a power cut say; what fails again is logged, and waits for the next."""
    if not _mark_of(config).exists():
        return
    try:
        forget_everything(config)
        _log.warning("a factory reset that was cut off is finished")
    except EdgeError as e:
        _log.error("a factory reset was cut off and cannot be finished: %s", e)


def forget_everything(config: Config) -> None:
    """Destroy people, events and model updates; EdgeError where something stays. Each step can be done again."""
    mark = _mark_of(config)
    with suppress(OSError):  # a full disk: a reset that cannot be finished later is better than none
        mark.touch(0o600)
        files.sync_folder(mark.parent)
    people.forget_all(config)
    _forget_events(config)
    Slots(config.models_dir).forget()
    try:
        mark.unlink(missing_ok=True)
        files.sync_folder(mark.parent)  # else a power cut after the next enrolment would bring it back
    except OSError as e:
        raise StoreError(f"{mark}: cannot be removed: {e.strerror}", "check the medium, and reset again") from None


def _mark_of(config: Config) -> Path:
    """Return the file that stands while a reset is under way."""
    return config.data_dir / "resetting"


def _forget_events(config: Config) -> None:
    """Empty the outbox: what waits for the last owner's broker is not for the next one's, nor is who was met when."""
    if config.outbox_path.parent.exists():
        with closing(Outbox.of(config)) as outbox:
            outbox.forget_all()
