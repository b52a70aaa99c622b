"""Detects damage of a write-ahead log after it was written, so that the loss is counted.

SQLite stops reading a log at the first invalid frame, without an error. An invalid frame has one of two causes. After a
power cut the last transaction is incomplete; it was never acknowledged, so no event is lost. Or complete data were
damaged. Damage is detected by either of two signs:

- One flipped bit explains the invalid frame or header. An incomplete write differs in more than one bit.
- At least two later commits with the log's present salts follow. A power cut leaves at most one unfinished commit.

Damage of many bits at once, in the last two transactions, is taken for a power cut. Format and checksum:
https://www.sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

_HEADER_BYTES, _FRAME_BYTES, _SUMMED_BYTES = 32, 24, 24  # checksummed: 24 bytes of the header, 8 of a frame's header
_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683  # byte order of the checksummed words
_VERSION = 3007000
_WORD = 0xFFFFFFFF
_MAX_BYTES = 64 << 20  # larger logs are not examined; the outbox truncates an unused log to 1 MB
_LOCK_BYTE = 128  # byte of the -shm file on which each connection holds a read lock

Sums = tuple[int, int]


def is_damaged(path: Path) -> bool:
    """Whether the log of this database was damaged. False while another process has the database open."""
    log = path.with_name(path.name + "-wal")
    try:
        if not 0 < log.stat().st_size <= _MAX_BYTES or _is_open(path.with_name(path.name + "-shm")):
            return False
        fd = os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(fd, "rb") as file:
        return shows_damage(file.read(_MAX_BYTES))


def shows_damage(log: bytes) -> bool:
    """Whether the bytes of a log show damage, and not only that its last transaction is incomplete."""
    if len(log) < _HEADER_BYTES + _FRAME_BYTES:
        return False
    head = log[:_HEADER_BYTES]
    if not _is_header(head):
        return any(_is_header(_flipped(head, bit)) for bit in range(8 * _HEADER_BYTES))
    magic, _, page_bytes, _, *salts = struct.unpack(">6I", head[:_SUMMED_BYTES])
    order = "<" if magic == _MAGIC_LITTLE else ">"
    size = _FRAME_BYTES + page_bytes
    running = _summed((0, 0), head[:_SUMMED_BYTES], order)
    for at in range(_HEADER_BYTES, len(log) - size + 1, size):
        frame = log[at : at + size]
        data = frame[:8] + frame[_FRAME_BYTES:]
        sums = _summed(running, data, order)
        if sums != _sums_of(frame) or _salts_of(frame) != salts:
            return _one_bit_off(frame, sums, salts, len(data)) or _commits(log, at, size, salts) > 1
        running = sums
    return False


def _is_header(head: bytes) -> bool:
    magic, version, page_bytes = struct.unpack(">3I", head[:12])
    sane = 512 <= page_bytes <= 65536 and page_bytes & (page_bytes - 1) == 0
    if magic not in (_MAGIC_LITTLE, _MAGIC_BIG) or version != _VERSION or not sane:
        return False
    order = "<" if magic == _MAGIC_LITTLE else ">"
    return _summed((0, 0), head[:_SUMMED_BYTES], order) == struct.unpack(">2I", head[_SUMMED_BYTES:])


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _sums_of(frame: bytes) -> Sums:
    first, second = struct.unpack(">2I", frame[16:24])
    return first, second


def _salts_of(frame: bytes) -> list[int]:
    return list(struct.unpack(">2I", frame[8:16]))


def _one_bit_off(frame: bytes, sums: Sums, salts: list[int], summed_bytes: int) -> bool:
    """Whether this frame is valid with one bit flipped. `sums`: the checksum of its data."""
    stored, theirs = _sums_of(frame), _salts_of(frame)
    off_salts = sum((one ^ other).bit_count() for one, other in zip(theirs, salts, strict=True))
    off_sums = sum((one ^ other).bit_count() for one, other in zip(stored, sums, strict=True))
    if off_salts + off_sums == 1:
        return True  # the bit is in the salts, which are not checksummed, or in the checksum
    return off_salts == 0 and _explains((sums[0] - stored[0], sums[1] - stored[1]), summed_bytes)


def _explains(error: Sums, summed_bytes: int) -> bool:
    """Whether one flipped bit of the data changes the checksum by `error`.

    The checksum is linear. If a word increases by d, the checksum changes by d times a vector: (1, 1) for the first
    word of a pair, (0, 1) for the second, each carried through the remaining words as zeros (`_after`).
    """
    wanted = (error[0] & _WORD, error[1] & _WORD)
    steps = [sign << bit for bit in range(32) for sign in (1, -1)]
    first, second = (1, 1), (0, 1)
    for _ in range(summed_bytes // 8):  # from the last pair to the first
        for one, other in (first, second):
            if (wanted[0] * other - wanted[1] * one) & _WORD:
                continue  # no d at all makes both changes: this spares nearly all trials
            if any((step * one & _WORD, step * other & _WORD) == wanted for step in steps):
                return True
        first, second = _after(first), _after(second)
    return False


def _after(sums: Sums) -> Sums:
    """Return the checksum after one more pair of zero words."""
    first = sums[0] + sums[1] & _WORD
    return first, sums[1] + first & _WORD


def _commits(log: bytes, start: int, size: int, salts: list[int]) -> int:
    """Count the commit frames from `start` on that have the log's present salts."""
    frames = (log[at : at + _FRAME_BYTES] for at in range(start, len(log) - size + 1, size))
    return sum(_salts_of(frame) == salts and any(frame[4:8]) for frame in frames)


def _summed(start: Sums, data: bytes, order: str) -> Sums:
    first, second = start
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one in words:
        first = (first + one + second) & _WORD
        second = (second + next(words) + first) & _WORD
    return first, second


def _is_open(shared: Path) -> bool:
    """Whether a process has the database open, from `/proc/locks`: closing the file here would release our locks."""
    try:
        status = shared.stat()
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(line.split()[-3:] == [place, f"{_LOCK_BYTE}", f"{_LOCK_BYTE}"] for line in locks.splitlines())
