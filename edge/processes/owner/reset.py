"""Factory reset: destroy people, events and model updates. One that was cut off is finished at the next start."""

from __future__ import annotations

import hmac
import logging
import os
import stat
from contextlib import closing, suppress
from pathlib import Path

from edge import files
from edge.config import Config, DataFolder
from edge.errors import EdgeError, StoreError, StoreKeyError
from edge.events.outbox import Outbox
from edge.models.slots import Slots
from edge.processes.register import forget_all
from edge.processes.stores import key_of

_log = logging.getLogger(__name__)
_SEAL_BYTES = 32
_WITHOUT_KEY = bytes(_SEAL_BYTES)  # the mark of a reset that finds no key


def finish_forgetting(config: Config) -> None:
    """Go on with a reset that was cut off, by a power cut say; what fails again is logged, and waits for the next."""
    mark = _mark_of(config.data)
    if not os.path.lexists(mark):
        return
    if not _is_ours(mark, config):
        _log.error("%s was not made by a factory reset of this device: it is removed, and nothing else", mark)
        with suppress(OSError):
            mark.unlink()
        return
    try:
        forget_everything(config)
        _log.warning("a factory reset that was cut off is finished")
    except EdgeError as e:
        _log.error("a factory reset was cut off and cannot be finished: %s", e)


def forget_everything(config: Config) -> None:
    """Destroy people, events and model updates; EdgeError where something stays. Each step can be done again."""
    mark = _mark_of(config.data)
    with suppress(OSError):  # a full disk: a reset that cannot be finished later is better than none
        if not _is_ours(mark, config):
            files.replace(mark, _seal(config) or _WITHOUT_KEY)
    forget_all(config)
    _forget_events(config)
    Slots(config.data.models).forget()
    try:
        mark.unlink(missing_ok=True)
        files.sync_folder(mark.parent)  # else a power cut after the next enrolment would bring it back
    except OSError as e:
        raise StoreError(f"{mark}: cannot be removed: {e.strerror}", "check the medium, and reset again") from None


def _is_ours(mark: Path, config: Config) -> bool:
    """Whether a mark is the work of a reset, and not of somebody who can write into the folder.

    It carries what only the holder of the store key can make. Where the reset has destroyed the key already, nothing
    can be checked, and no store that still opens can be lost: then form and owner are enough.
    """
    try:
        with os.fdopen(os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status, content = os.fstat(file.fileno()), file.read(_SEAL_BYTES + 1)
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in {os.geteuid(), mark.parent.stat().st_uid}:
        return False
    seal = _seal(config)
    if seal is None:
        return len(content) == _SEAL_BYTES
    return hmac.compare_digest(content, seal)


def _seal(config: Config) -> bytes | None:
    """Return what the store key says of a reset of this device; None where there is no key that could be read."""
    try:
        key = key_of(config)
    except StoreKeyError:
        return None
    return key.derive("factory reset", b"mark")


def _mark_of(data: DataFolder) -> Path:
    """Return the file that stands while a reset is under way."""
    return data.path / "resetting"


def _forget_events(config: Config) -> None:
    """Empty the outbox: what waits for the last owner's broker is not for the next one's, nor is who was met when."""
    if config.data.outbox.parent.exists():
        with closing(Outbox.of(config.data, config.outbox)) as outbox:
            outbox.forget_all()
