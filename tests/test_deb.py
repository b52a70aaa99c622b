"""Fields, scripts and system files of the Debian package. The proof `package` tests the whole package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tools import deb
from tools.deb import RELEASES, Release

INSTALLER = Path(__file__).parents[1] / "systemd/install"


def staged(root: Path, release: Release) -> Path:
    environ = {**os.environ, "DESTDIR": str(root), "SYSTEMD_VERSION": str(release.systemd)}
    subprocess.run([str(INSTALLER), "install"], env=environ, check=True)
    deb._control(root, release, "arm64", "1.0-1+deb")
    return root


@pytest.fixture(params=RELEASES.values(), ids=lambda release: release.name)
def release(request: pytest.FixtureRequest) -> Release:
    found: Release = request.param
    return found


def test_the_package_has_the_system_files_of_make_install_and_those_for_its_systemd(
    tmp_path: Path, release: Release
) -> None:
    root = staged(tmp_path, release)
    units = root / "usr/lib/systemd/system"
    for unit in (INSTALLER.parent).glob("edge*.service"):
        assert (units / unit.name).read_bytes() == unit.read_bytes()
    assert (units / "edge-vision.service.d/backoff.conf").exists() == (release.systemd >= 254)


def test_a_package_depends_on_the_python_of_its_wheels(tmp_path: Path, release: Release) -> None:
    control = (staged(tmp_path, release) / "DEBIAN/control").read_text()
    major, minor = map(int, release.python.split("."))
    assert f"python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1})" in control
    assert "Architecture: arm64\n" in control
    sums = (tmp_path / "DEBIAN/md5sums").read_text()
    assert re.search(r"^[0-9a-f]{32}  usr/lib/systemd/system/edge-vision\.service$", sums, re.MULTILINE)
    assert "DEBIAN" not in sums


@pytest.mark.parametrize("script", ["preinst", "postinst", "prerm", "postrm"])
def test_each_script_holds_the_installer_s_functions_and_none_of_its_commands(tmp_path: Path, script: str) -> None:
    path = staged(tmp_path, RELEASES["trixie"]) / "DEBIAN" / script
    assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0
    text = path.read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "activate() {" in text
    assert "usage: install" not in text, "the installer's own command line would run with dpkg's words"


def test_every_function_that_the_scripts_call_exists() -> None:
    functions = set(re.findall(r"^(\w+)\(\) \{", INSTALLER.read_text(), re.MULTILINE))
    assert {"activate", "halt", "running", "do_purge"} <= functions
    for body in deb._SCRIPTS.values():
        assert set(re.findall(r"^\s+(activate|halt|do_purge)$", body, re.MULTILINE)) <= functions


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="skipped: no dpkg here")
def test_make_install_leaves_an_installed_package_alone(tmp_path: Path) -> None:
    query = tmp_path / "dpkg-query"
    query.write_text("#!/bin/sh\nprintf installed\n")
    query.chmod(0o755)
    fake_root = tmp_path / "id"
    fake_root.write_text("#!/bin/sh\necho 0\n")
    fake_root.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([str(INSTALLER), "install"], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "apt remove edge-face-runtime" in done.stderr
