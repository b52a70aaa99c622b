"""A FUSE file system in memory that records every change and every fsync, in order.

Programs use it like any file system. A program that looks up a file called `.mark:TEXT` adds a mark to the log; the
workload marks its acknowledgements this way. The log is written at unmount. `tools/proof/power_cut.py` builds from it
the disks that a power cut could leave.
"""

from __future__ import annotations

import errno
import os
import pickle
import stat
import time
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import mfusepy as fuse  # the import fails without libfuse

from tools.proof.recording import MARK, ROOT, Record, apply_truncate, apply_write

_HIDDEN = ".fuse_hidden"


@dataclass(slots=True)
class Node:
    """A file, or a folder with its entries."""

    mode: int
    data: bytearray = field(default_factory=bytearray)
    names: dict[str, int] = field(default_factory=dict)
    owner: tuple[int, int] = (0, 0)
    changed_ns: int = field(default_factory=time.time_ns)


class Recorder(fuse.Operations):  # type: ignore[misc]
    """The file system."""

    use_ns = True

    def __init__(self, log: str) -> None:
        self._log = log
        self.nodes: dict[int, Node] = {ROOT: Node(stat.S_IFDIR | 0o755)}
        self.records: list[Record] = []
        self._lost: tuple[int, str] | None = None  # the name that an open file has just lost

    def _note(self, record: Record) -> None:
        """Append a record, preceded by the unlink of a lost name unless this record is the rename over it."""
        if self._lost is not None and not (record.what == "rename" and record.other == self._lost):
            self.records.append(Record("unlink", *self._lost))
        self._lost = None
        self.records.append(record)

    # ---- names

    def _find(self, path: str) -> int:
        at = ROOT
        for part in PurePosixPath(path).parts[1:]:
            found = self.nodes[at].names.get(part)
            if found is None:
                raise fuse.FuseOSError(errno.ENOENT)
            at = found
        return at

    def _place(self, path: str) -> tuple[int, str]:
        pure = PurePosixPath(path)
        return self._find(str(pure.parent)), pure.name

    def _add(self, path: str, mode: int) -> int:
        folder, name = self._place(path)
        number = max(self.nodes) + 1
        self.nodes[number] = Node(mode)
        self.nodes[folder].names[name] = number
        kind = "dir" if stat.S_ISDIR(mode) else "file"
        self._note(Record("link", folder, name, (number, kind)))
        return number

    # ---- FUSE operations

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Return attributes; record a mark where the name is one."""
        name = PurePosixPath(path).name
        if name.startswith(MARK):
            self._note(Record("mark", name=name.removeprefix(MARK)))
            raise fuse.FuseOSError(errno.ENOENT)
        number = fh or self._find(path)
        node = self.nodes[number]
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), node.changed_ns)
        return {
            "st_mode": node.mode,
            "st_nlink": 0 if name.startswith(_HIDDEN) else 1,
            "st_size": len(node.data),
            "st_uid": node.owner[0],
            "st_gid": node.owner[1],
            "st_ino": number,
            **times,
        }

    def opendir(self, path: str) -> int:
        """Open a folder."""
        return self._find(path)

    def readdir(self, _path: str, fh: int) -> list[str]:
        """Names."""
        return [".", "..", *(name for name in self.nodes[fh].names if not name.startswith(_HIDDEN))]

    def mkdir(self, path: str, mode: int) -> int:
        """Make a folder."""
        self._add(path, stat.S_IFDIR | mode)
        return 0

    def create(self, path: str, mode: int, _fi: Any = None) -> int:
        """Create and open a file; its handle is its node number."""
        return self._add(path, stat.S_IFREG | mode)

    def open(self, path: str, flags: int) -> int:
        """Open."""
        number = self._find(path)
        if flags & os.O_TRUNC:
            self.truncate(path, 0, number)
        return number

    def read(self, _path: str, size: int, offset: int, fh: int) -> bytes:
        """Read."""
        return bytes(self.nodes[fh].data[offset : offset + size])

    def write(self, _path: str, data: bytes, offset: int, fh: int) -> int:
        """Write."""
        node = self.nodes[fh]
        apply_write(node.data, offset, data)
        node.changed_ns = time.time_ns()
        self._note(Record("write", fh, at=offset, data=bytes(data)))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """Truncate or extend a file."""
        number = fh or self._find(path)
        apply_truncate(self.nodes[number].data, length)
        self._note(Record("truncate", number, at=length))
        return 0

    def fsync(self, _path: str, _datasync: bool, fh: int) -> int:
        """Record that the file's content is synced."""
        self._note(Record("sync", fh))
        return 0

    def fsyncdir(self, _path: str, _datasync: bool, fh: int) -> int:
        """Record that the folder's names are synced."""
        self._note(Record("syncdir", fh))
        return 0

    def unlink(self, path: str) -> int:
        """Remove a name."""
        folder, name = self._place(path)
        del self.nodes[folder].names[name]
        if not name.startswith(_HIDDEN):
            self._note(Record("unlink", folder, name))
        return 0

    def rename(self, old: str, new: str, _flags: int = 0) -> int:
        """Rename a file, replacing the target.

        Before an unlink, or a rename over it, libfuse renames an open file to a hidden name. The next record shows
        which of the two it was.
        """
        folder, name = self._place(old)
        to = self._place(new)
        self.nodes[to[0]].names[to[1]] = self.nodes[folder].names.pop(name)
        if to[1].startswith(_HIDDEN):
            self._lost = (folder, name)
        else:
            self._note(Record("rename", folder, name, to))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        """Ignored: the proof does not cover access rights."""
        node = self.nodes[self._find(path)]
        node.mode = stat.S_IFMT(node.mode) | mode
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        """Ignored: the proof does not cover owners."""
        self.nodes[self._find(path)].owner = (uid, gid)
        return 0

    def utimens(self, _path: str, _times: Any = None) -> int:
        """Ignored: the proof does not cover times."""
        return 0

    def destroy(self, _path: str) -> None:
        """Write the log."""
        if self._lost is not None:
            self.records.append(Record("unlink", *self._lost))
        with open(self._log, "wb") as file:  # noqa: PTH123  # Path is not safe to use at this late hour
            pickle.dump(self.records, file)


def serve(mount: str, log: str) -> None:
    """Serve until unmount."""
    fuse.FUSE(Recorder(log), mount, foreground=True, nothreads=True, use_ino=True)
