"""At most one vision process and one publisher for a data folder, and the folder's own device id.

The lock is on the folder itself (flock), so no lock file can be left behind: the kernel releases it when the process
ends in any way. Vision locks the data folder; the publisher locks the outbox folder, the only one it may open.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from edge import files
from edge.config import DEFAULT_ID, Config, DataFolder
from edge.errors import ConfigError, EdgeError

_log = logging.getLogger(__name__)

Process = Literal["vision", "publisher"]
_PATIENCE_S = 3.0  # for a process that is ending, and for `running`, which takes the lock for a moment
_POLL_S = 0.05
_ID_CHARACTERS = 6  # hexadecimal: among 100 devices, the chance that two have the same id is 1 in 3,400


class SecondInstanceError(EdgeError):
    """Another process of this kind runs on this folder."""


def folder_of(data: DataFolder, process: Process) -> Path:
    """Return the folder that a process locks."""
    return data.path if process == "vision" else data.outbox.parent


@contextmanager
def sole(config: Config, process: Process) -> Iterator[Config]:
    """Lock a data folder for one process of a kind, and make the folder if needed; yields the named configuration.

    Raises SecondInstanceError, which names the other process, or ConfigError if the folder cannot be made.
    """
    folder = folder_of(config.data, process)
    make_folder(config.data, folder)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(fd, folder, process)
        yield named(config)
    finally:
        os.close(fd)


def refuse_second(data: DataFolder) -> None:
    """Raise the errors of `sole` before anything is started."""
    make_folder(data, data.path)
    for process in ("vision", "publisher"):
        if running(data, process):
            raise _second(folder_of(data, process), process)


def running(data: DataFolder, process: Process) -> bool:
    """Whether a process of this kind runs on the data folder."""
    try:
        fd = os.open(folder_of(data, process), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def make_folder(data: DataFolder, folder: Path) -> None:
    """Make a data folder if there is none; raises ConfigError, which names the key to set."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.R_OK | os.X_OK):
            raise PermissionError(0, "this user may not read it")
    except OSError as e:
        what = f"[device] data_dir = '{data.path}': {folder} cannot be used: {e.strerror}"
        raise ConfigError(what, "set data_dir to a folder of yours, or run as the user whose folder it is") from None


def named(config: Config) -> Config:
    """Return the configuration with the folder's own id, made at the first run. A configured id stays.

    A device of an earlier version has an outbox but no id of its own. It keeps the default id and its topics.
    """
    if config.device.id != DEFAULT_ID:
        return config
    known = config.data.outbox.exists()  # checked before the id: a process makes the id before the outbox
    own = config.data.read_own_id() or ("" if known else _draw(config.data.own_id))
    if not own:
        return config
    return msgspec.structs.replace(config, device=msgspec.structs.replace(config.device, id=own))


def _draw(path: Path) -> str:
    """Write a new id if there is none and return the stored one; "" if it cannot be written."""
    drawn = f"{DEFAULT_ID}-{secrets.token_hex(_ID_CHARACTERS // 2)}"
    temp = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_all(files.create(temp, shared=True), f"{drawn}\n".encode())
        with suppress(FileExistsError):  # the other process was faster
            path.hardlink_to(temp)
            _log.info("the first run: this device calls itself %s; [device] id gives it another name", drawn)
        return path.read_text(encoding="ascii").strip()
    except OSError as e:
        _log.error("%s: the device keeps the default id: %s", path, e.strerror)
        return ""
    finally:
        temp.unlink(missing_ok=True)


def _lock(fd: int, folder: Path, process: Process) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise _second(folder, process) from None
        except OSError as e:  # a file system without locks
            return _log.warning("%s: a second instance would not be noticed: %s", folder, e.strerror)
        time.sleep(_POLL_S)


def _second(folder: Path, process: Process) -> SecondInstanceError:
    holder = holder_of(folder)
    who = f" (process {holder})" if holder else ""
    what = f"{folder}: another edge-daemon {'publish' if process == 'publisher' else process} runs on this folder{who}"
    remedy = "stop it (`systemctl stop edge.target` for the service), or give this one a [device] data_dir of its own"
    return SecondInstanceError(what, remedy)


def holder_of(folder: Path) -> int | None:
    """Return the process that holds the lock of a folder; None if the kernel does not show it (proc_locks(5))."""
    with suppress(OSError, ValueError, IndexError):
        wanted = str(folder.stat().st_ino)
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            parts = line.split()
            if "->" not in parts and parts[1] == "FLOCK" and parts[3] == "WRITE" and parts[5].split(":")[2] == wanted:
                return int(parts[4]) or None
    return None
