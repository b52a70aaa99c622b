"""Install the engines that the fleet's commands start: `python -m tools.fleet install [NAME…]`.

apt needs root. What pip and npm bring lies in ~/.cache/edge-fleet, not in the system.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path

from tools.rig import Missing

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edge-fleet"
EXPORTER = CACHE / "mqtt-exporter"
AEDES = CACHE / "aedes"
_EXPORTER_VERSION = "mqtt-exporter==1.12.1"
_AEDES_VERSION = "aedes@1.2.0"


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        raise Missing(f"{' '.join(command[:3])}: {(done.stdout + done.stderr)[-800:]}")


def _apt(*packages: str) -> Callable[[], None]:
    def install() -> None:
        command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
        _run("env", "DEBIAN_FRONTEND=noninteractive", *command)

    return install


def _exporter() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    venv.create(EXPORTER, with_pip=True, clear=True)
    _run(str(EXPORTER / "bin/pip"), "install", "--quiet", _EXPORTER_VERSION)


def _aedes() -> None:
    AEDES.mkdir(parents=True, exist_ok=True)
    if shutil.which("npm") is None:
        raise Missing("npm is not installed (apt install npm)")
    _run("npm", "install", "--no-audit", "--no-fund", _AEDES_VERSION, cwd=AEDES)


ENGINES: dict[str, Callable[[], None]] = {
    "rabbitmq": _apt("rabbitmq-server", "iproute2"),
    "postgresql": _apt("postgresql"),
    "mosquitto": _apt("mosquitto", "mosquitto-clients"),
    "prometheus": _apt("prometheus", "prometheus-node-exporter"),
    "mqtt-exporter": _exporter,
    "aedes": _aedes,
}


def install(names: list[str], say: Callable[[str], None]) -> None:
    """Install these engines, or all; raises Missing where one cannot be installed."""
    for name in names or ENGINES:
        say(f"{name}: is installed")
        ENGINES[name]()


def exporter() -> Path:
    """Return mqtt-exporter's program; raises Missing."""
    return _installed(EXPORTER / "bin/mqtt-exporter", "mqtt-exporter")


def aedes() -> Path:
    """Return the folder of aedes' modules; raises Missing."""
    return _installed(AEDES / "node_modules", "aedes")


def _installed(path: Path, name: str) -> Path:
    if not path.exists():
        raise Missing(f"{name} is not installed (python -m tools.fleet install {name})")
    return path
