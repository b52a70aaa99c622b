"""Processes of one user cannot inspect each other: the publisher reaches neither the store's folder nor its key."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tools.rig.workbench import Bench

# As a service's process is after exec: an ordinary user, and dumpable.
AS_USER = """
import ctypes, encodings.ascii, os, sys  # now: this user may not enter the folder of Python
from pathlib import Path
from edge.inspection import refuse_inspection
from edge.provision.device.control_socket import address_of
from edge.processes.sandbox import leave_network
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
"""
VICTIM = """
if sys.argv[1] == "closed":
    leave_network()
    refuse_inspection()
with address_of(Path("/tmp/any")) as folder:  # goes by /proc/self/fd, as the control socket does
    os.listdir(Path(folder).parent)
secret = ctypes.create_string_buffer(b"key")
print(os.getpid(), ctypes.addressof(secret), flush=True)
sys.stdin.read()
"""
PUBLISHER = """
pid, address = map(int, sys.argv[1:])

class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def copied(name):
    mine = ctypes.create_string_buffer(3)
    here, there = Vector(ctypes.addressof(mine), 3), Vector(address, 3)
    if getattr(ctypes.CDLL(None), name)(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) != 3:
        raise PermissionError

for name, look in {
    "root": lambda: os.listdir(f"/proc/{pid}/root"),
    "fd": lambda: os.listdir(f"/proc/{pid}/fd"),
    "environ": lambda: Path(f"/proc/{pid}/environ").read_bytes(),
    "mem": lambda: Path(f"/proc/{pid}/mem").open("rb").close(),
    "process_vm_readv": lambda: copied("process_vm_readv"),
    "process_vm_writev": lambda: copied("process_vm_writev"),
}.items():
    try:
        look()
        print(name)
    except PermissionError:
        pass
"""


@contextmanager
def victim(way: str) -> Iterator[list[str]]:
    command = [sys.executable, "-c", AS_USER + VICTIM, way]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()


def reached(place: list[str]) -> set[str]:
    """Return the accesses to the victim that another process of the same user has."""
    command = [sys.executable, "-c", AS_USER + PUBLISHER, *place]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.skipif(sys.platform != "linux", reason="skipped: /proc is Linux's")
def test_another_process_of_the_user_cannot_inspect_one_that_refuses() -> None:
    with victim("open") as place:
        assert {"root", "fd", "environ"} <= reached(place), "the check itself does not work"
    with victim("closed") as place:
        assert reached(place) == set()


# Each program, with its work replaced by a test whether its user may inspect it.
REPLACED = {
    "vision": "import edge.processes.vision as m; m.run = tell",
    "publish": "import edge.processes.publish as m; m.run = tell",
    "provision": "import edge.processes.provision as m; m.run = tell",
    "arm": "import edge.processes.provision as m; m.arm = tell",
    "status": "import edge.processes.status as m; m.status = tell",
}
TELL = """
import ctypes, os
def tell(*_, **__):
    os.write(1, b"dumpable: %d" % ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
    os._exit(0)
"""


def told(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", TELL + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", REPLACED)
def test_each_command_on_the_device_refuses_before_it_works(bench: Bench, name: str) -> None:
    code = f"{REPLACED[name]}\nfrom edge.cli.daemon import main; main()"
    assert told(code, name, "--config", str(bench.path)) == "dumpable: 0"


def test_the_cameras_process_refuses_before_it_works() -> None:
    code = "import edge.cameras.capture as m; m.socket.socket = tell; m.main()"
    assert told(code, "0") == "dumpable: 0"
