"""Confine a process that reads foreign bytes: it computes, answers on what it holds open, and can do nothing else.

seccomp(2) with an allow list: no file can be opened, no socket made, no program started, no process signalled. It needs
no privilege, holds for all threads to come, and cannot be taken back.
"""

from __future__ import annotations

import ctypes
import platform
import resource
import struct

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2  # include/uapi/linux/prctl.h, seccomp.h
# BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JSET|K, BPF_RET|K
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # RET_ALLOW, RET_ERRNO|EPERM, RET_KILL_PROCESS
_UNKNOWN = 0x00050000 | 38  # RET_ERRNO|ENOSYS
_AT_NUMBER, _AT_MACHINE, _AT_FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; both machines: its lower half
_CLONE, _CLONE3 = (56, 220), (435, 435)  # numbers as below
_CLONE_THREAD = 0x10000  # include/uapi/linux/sched.h

# machine → AUDIT_ARCH_*, and its column below
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
# call → its number on x86_64 (syscall_64.tbl of the kernel) and on aarch64 (its asm-generic/unistd.h)
_CALLS = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "ftruncate": (77, 46),
    "futex": (202, 98),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "memfd_create": (319, 279),
    "rseq": (334, 293),
    "poll, ppoll": (7, 73),
    "preadv": (295, 69),
    "preadv2": (327, 286),
    "pwrite64": (18, 68),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def limit(memory_bytes: int) -> None:
    """Let the process have so much more address space than it has now, and neither core dumps nor large files."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (before the process is confined)
        now_bytes = int(file.read().split()[0]) * resource.getpagesize()
    most = now_bytes + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def confine(*, threads: bool = False) -> bool:
    """Refuse this process every system call but those of `_CALLS`; False where kernel or machine knows no filter.

    `threads`: it may start threads, for which everything holds too, and still no process.
    """
    known = _MACHINES.get(platform.machine())
    if known is None or struct.calcsize("P") != 8:
        return False
    machine, column = known
    clone = (_CLONE[column], _CLONE3[column]) if threads else None
    filters = _filters(machine, [numbers[column] for numbers in _CALLS.values()], clone)
    raw = b"".join(struct.pack("HBBI", *each) for each in filters)
    buffer = ctypes.create_string_buffer(raw, len(raw))
    program = _Program(len(filters), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filters(machine: int, numbers: list[int], clone: tuple[int, int] | None) -> list[tuple[int, int, int, int]]:
    """Return the program: (code, jump if true, jump if false, operand) each."""
    count = len(numbers)
    checks = [(_JUMP_EQUAL, count - i, 0, number) for i, number in enumerate(numbers)]  # to the last line
    head = [(_LOAD, 0, 0, _AT_MACHINE), (_JUMP_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _AT_NUMBER)]
    if clone is not None:
        head += [
            # clone3 has its flags in memory, where a filter cannot look; without it glibc takes clone
            (_JUMP_EQUAL, 0, 1, clone[1]),
            (_RETURN, 0, 0, _UNKNOWN),
            (_JUMP_EQUAL, 0, 4, clone[0]),
            (_LOAD, 0, 0, _AT_FIRST_ARGUMENT),
            (_JUMP_SET, 1, 0, _CLONE_THREAD),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    return [*head, *checks, (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
