"""Factory reset: destroy people, events and model updates. An interrupted reset is finished at the next start."""

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
from edge.processes.keys import key_of
from edge.processes.register import forget_all

_log = logging.getLogger(__name__)
_SEAL_BYTES = 32
_WITHOUT_KEY = bytes(_SEAL_BYTES)  # the content of the mark if no key can be read


def finish_forgetting(config: Config) -> None:
    """Finish an interrupted reset, for example after a power cut. A failure is logged; the next start tries again."""
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
    """Destroy people, events and model updates; EdgeError if something stays. Each step can be repeated."""
    mark = _mark_of(config.data)
    with suppress(OSError):  # on a full disk, a reset without a mark is better than none
        if not _is_ours(mark, config):
            files.replace(mark, _seal(config) or _WITHOUT_KEY)
    forget_all(config)
    _forget_events(config)
    Slots(config.data.models).forget()
    try:
        mark.unlink(missing_ok=True)
        files.sync_folder(mark.parent)  # else the mark may return after a power cut, and destroy the next enrolment
    except OSError as e:
        raise StoreError(f"{mark}: cannot be removed: {e.strerror}", "check the medium, and reset again") from None


def _is_ours(mark: Path, config: Config) -> bool:
    """Whether a reset of this device wrote the mark, not another user who can write into the folder.

    The mark holds a value that only the store key can make. If the reset has already destroyed the key, nothing
    can be checked and no readable store can be lost. Then the form and the owner of the file are enough.
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
    """Return the mark of a reset, derived from the store key; None if no key can be read."""
    try:
        key = key_of(config)
    except StoreKeyError:
        return None
    return key.derive("factory reset", b"mark")


def _mark_of(data: DataFolder) -> Path:
    """Return the file that exists during a reset."""
    return data.path / "resetting"


def _forget_events(config: Config) -> None:
    """Empty the outbox: the next owner must not receive the events of this owner."""
    if config.data.outbox.parent.exists():
        with closing(Outbox.of(config.data, config.outbox)) as outbox:
            outbox.forget_all()
