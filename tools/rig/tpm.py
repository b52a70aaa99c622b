"""A TPM2 in software (swtpm), for tests: the real commands speak to it over TCP."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tools.rig import Missing
from tools.rig.brokers import until

PROGRAMS = ("swtpm", "tpm2_unseal")


@contextmanager
def software_tpm() -> Iterator[dict[str, str]]:
    """Run a new TPM2; yields the environment that names it. Raises Missing without swtpm or tpm2-tools."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise Missing(f"{program} is needed: apt install swtpm tpm2-tools")
    with tempfile.TemporaryDirectory(prefix="edge-swtpm-") as state:
        port = _two_free_ports()
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear"]
        command += ["--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            until(lambda: _listens(port + 1), "swtpm listens")
            yield {"TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={port}"}
        finally:
            process.terminate()
            process.communicate(timeout=10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _two_free_ports() -> int:
    """Return a port that is free, with the next one: tpm2-tools expect the control channel there."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
        return port
