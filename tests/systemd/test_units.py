"""The units: systemd accepts every line, sandboxes are strict, and files agree on paths, users and settings."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from edge import config
from edge.provision.device.arming import Arming
from tools import lock
from tools.proof import boot
from tools.rig import Missing
from tools.rig.tpm import software_tpm

FOLDER = Path(__file__).parents[2] / "systemd"
CONSTRAINTS = FOLDER.parent / "tools/constraints.txt"
SERVICES = sorted(FOLDER.glob("edge*.service"))
DROP_INS = [*sorted(FOLDER.glob("edge-gauge-*.conf")), FOLDER / "edge-tpm2.conf"]
PROCESSES = ("edge-vision", "edge-publisher", "edge-provision")


def unit(name: str) -> str:
    return (FOLDER / f"{name}.service").read_text(encoding="utf-8")


def values(name: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit(name), re.MULTILINE)


@pytest.fixture
def analyzer() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        raise Missing("systemd-analyze is not installed (apt install systemd)")
    return found


def verified(analyzer: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Verify the units with systemd, with installed programs in place of the product's."""
    sources = [*SERVICES, *FOLDER.glob("edge*.timer"), FOLDER / "edge.target"]
    for source in sources:
        text = source.read_text(encoding="utf-8")
        text = re.sub(r"/usr/bin/edge-daemon|/usr/lib/edge/edge-gadget", "/bin/true", text)
        (folder / source.name).write_text(text, encoding="utf-8")
    for source in DROP_INS:
        drop_in = folder / "edge-vision.service.d" / source.name
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_bytes(source.read_bytes())
    units = [str(folder / source.name) for source in sources]
    command = [analyzer, "verify", "--recursive-errors=yes", "--man=no", *units]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_understands_every_line(analyzer: str, tmp_path: Path) -> None:
    done = verified(analyzer, tmp_path)
    ours = [line for line in done.stderr.splitlines() if "edge" in line]
    assert ours == []


def test_a_key_that_systemd_does_not_know_is_noticed(analyzer: str, tmp_path: Path) -> None:
    drop_in = tmp_path / "edge-vision.service.d/wrong.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nPrivateNetwrk=yes\n")
    assert "PrivateNetwrk" in verified(analyzer, tmp_path).stderr


def test_each_unit_has_at_most_the_stated_exposure() -> None:
    told = boot.prove(short=True, say=print)["exposure"]
    assert set(told) == set(PROCESSES)


def test_a_unit_with_a_hole_is_refused(tmp_path: Path) -> None:
    for name in PROCESSES:
        text = unit(name)
        if name == "edge-publisher":
            text = text.replace("NoNewPrivileges=yes\n", "").replace("CapabilityBoundingSet=\n", "")
        (tmp_path / f"{name}.service").write_text(text)
    with pytest.raises(AssertionError, match="edge-publisher: an exposure of"):
        boot.exposure(tmp_path)


@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.stem)
def test_the_drop_in_for_a_gauge_does_not_raise_visions_exposure(drop_in: Path, tmp_path: Path) -> None:
    for name in PROCESSES:
        text = unit(name) + (drop_in.read_text(encoding="utf-8") if name == "edge-vision" else "")
        (tmp_path / f"{name}.service").write_text(text)
    assert boot.exposure(tmp_path) == boot.exposure()


@pytest.mark.parametrize("name", PROCESSES)
def test_each_process_is_watched_and_leaves_no_dump(name: str) -> None:
    assert values(name, "Type") == ["notify"]
    assert values(name, "NotifyAccess") == ["main"]
    assert (
        0 < int(values(name, "WatchdogSec")[0]) + int(values(name, "RestartSec")[0]) <= 12
    )  # in service again within 15 s
    assert values(name, "WatchdogSignal") == ["SIGKILL"]
    assert values(name, "LimitCORE") == ["0"]
    assert values(name, "MemorySwapMax") == ["0"]
    assert values(name, "Restart") == ["on-failure"]


def test_each_process_has_its_own_user() -> None:
    users = [values(name, "User") for name in PROCESSES]
    assert users == [values(name, "Group") for name in PROCESSES] == [["edge"], ["edge-publisher"], ["edge-provision"]]
    assert values("edge-arm", "User") == ["edge-provision"]
    assert values("edge-publisher", "PrivateUsers") == ["yes"]


def test_paths_and_users_match_the_settings() -> None:
    settings = config.parse("", "edge.toml")
    data = str(settings.data.path)
    users = re.findall(r"^u (\S+) .* (\S+)$", (FOLDER / "edge-sysusers.conf").read_text(), re.MULTILINE)
    assert users == [("edge", data), ("edge-publisher", "/"), ("edge-provision", "/")]
    lines = [line.split() for line in (FOLDER / "edge-tmpfiles.conf").read_text().splitlines() if line.startswith("d ")]
    assert {Path(path): tuple(rest) for _, path, *rest in lines} == {
        settings.data.path: ("0700", "edge", "edge"),
        settings.data.outbox.parent: ("2770", "edge", "edge-outbox"),
        settings.data.settings: ("2750", "edge-provision", "edge-settings"),
        settings.data.provision: ("2750", "edge-provision", "edge"),
        settings.data.control_socket.parent: ("2750", "edge", "edge-provision"),
    }
    assert values("edge-vision", "StateDirectory") == [Path(data).name]


def test_a_device_that_was_armed_once_is_never_armed_by_a_boot(tmp_path: Path) -> None:
    folder = config.parse("", "edge.toml").data.provision
    mark = Arming(folder, "boot", lambda: 0.0)._path
    assert values("edge-first-start", "ConditionPathExists") == [f"!{mark}"]
    assert (
        "Wants" not in unit("edge-first-start").partition("[Service]")[0]
    )  # a failed condition does not hold back other units
    Arming(tmp_path, "boot", lambda: 0.0).arm(15.0)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".json"] == [mark.name]
    enabled = {path.name for path in FOLDER.glob("edge*") if "[Install]" in path.read_text(encoding="utf-8")}
    assert enabled == {"edge.target"}
    assert "edge-first-start.service" in (FOLDER / "edge.target").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PROCESSES)
def test_no_process_reads_or_writes_the_memory_of_another(name: str) -> None:
    refused = " ".join(value[1:] for value in values(name, "SystemCallFilter") if value.startswith("~")).split()
    assert {"process_vm_readv", "process_vm_writev"} <= set(refused)
    assert "@debug" not in " ".join(values(name, "SystemCallFilter"))  # only this group contains ptrace and pidfd_getfd


def test_only_the_publisher_has_a_network() -> None:
    for name in PROCESSES:
        private = values(name, "PrivateNetwork") == ["yes"] and values(name, "RestrictAddressFamilies") == ["AF_UNIX"]
        assert private == (name != "edge-publisher")


def test_a_staged_installation_has_every_file_and_removal_deletes_each(tmp_path: Path) -> None:
    staged = {"DESTDIR": str(tmp_path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.run([FOLDER / "install", "install"], env=staged, check=True)
    have = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in SERVICES} | {"edge.target", "edge-gadget", "edge.toml", "edge.conf"} <= have
    assert config.load(tmp_path / "usr/share/edge/edge.toml")
    subprocess.run([FOLDER / "install", "uninstall"], env=staged, check=True, capture_output=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_failed_download_leaves_units_and_program_as_they_were(tmp_path: Path) -> None:
    log = tmp_path / "log"
    changes = ("awk", "chown", "cp", "install", "ln", "mkdir", "mv", "rm", "systemctl", "systemd-sysusers")
    for name in changes:  # commands with effects only print their names
        stub(tmp_path / name, f'echo {name} "$@" >>{log}')
    stub(tmp_path / "id", "echo 0")
    stub(tmp_path / "python3", "exit 1")
    stub(tmp_path / "setpriv", "exit 1")
    for name in ("date", "dirname", "tr"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run([FOLDER / "install", "install"], env={"PATH": str(tmp_path)}, check=False)
    assert done.returncode != 0
    left = [line for line in log.read_text().splitlines() if not re.search(r"/opt/edge/2\S+(/edge|/locked)?$", line)]
    assert left == ['systemd-sysusers --inline u edge-build - "Edge Face Runtime build"', "install -d /opt/edge"]
    assert re.fullmatch(r"rm -rf (/opt/edge/2\S+) \1\.build", log.read_text().splitlines()[-1])


def stub(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


def test_installed_packages_are_locked_by_hash_to_the_tested_versions() -> None:
    tested = dict(
        re.findall(r"^([a-z0-9._-]+)==(\S+)$", CONSTRAINTS.read_text().lower().replace("_", "-"), re.MULTILINE)
    )
    locked = {path.stem: lock.blocks(path.read_text()) for path in (FOLDER / "locked").glob("*.txt")}
    assert set(locked) == {"base", "build", *lock.EXTRAS}
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {"base": project["dependencies"]} | {name: project["optional-dependencies"][name] for name in lock.EXTRAS}
    for name, requirements in wanted.items():
        there = {re.split(r"[<>=]", requirement)[0] for requirement in requirements}
        assert there <= set(locked["base"]) | set(locked[name]), f"run python -m tools.lock: {name}.txt lacks {there}"
    for package, text in {
        **locked["base"],
        **locked["enroll"],
        **locked["gauge"],
        **locked["sface"],
        **locked["tflite"],
    }.items():
        assert re.search(r"^    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE), package
        version = re.split(r"==|\s", text)[1]
        assert tested.get(package, version) == version, package


def test_pip_refuses_a_file_that_is_not_the_locked_one(tmp_path: Path) -> None:
    locked = tmp_path / "locked.txt"
    wheel = tmp_path / "edge_test_nothing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        info = "edge_test_nothing-1.dist-info"
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: edge-test-nothing\nVersion: 1\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    options = re.search(r'pip" install (.*--require-hashes.*) "\$@"', (FOLDER / "install").read_text(encoding="utf-8"))
    assert options
    pip = [sys.executable, "-m", "pip", "install", *options[1].split(), "--target", str(tmp_path / "to"), "--no-index"]
    for digest, code in ((hashlib.sha256(wheel.read_bytes()).hexdigest(), 0), ("0" * 64, 1)):
        locked.write_text(f"edge-test-nothing==1 --hash=sha256:{digest}\n")
        done = subprocess.run(
            [*pip, "--find-links", str(tmp_path), "-r", str(locked)], capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr


def test_the_installer_says_how_it_is_used() -> None:
    done = subprocess.run([FOLDER / "install", "everything"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "install | uninstall | purge" in done.stderr


def test_a_new_device_with_a_tpm2_has_its_store_key_sealed_by_it(tmp_path: Path) -> None:
    """The part of `make install`, with systemd-creds itself and a TPM2 in software."""
    if shutil.which("systemd-creds") is None:
        pytest.skip("systemd-creds is needed: apt install systemd")
    (tmp_path / "etc/edge").mkdir(parents=True)
    (tmp_path / "usr/share/edge").mkdir(parents=True)
    shutil.copy2(FOLDER / "edge-tpm2.conf", tmp_path / "usr/share/edge")
    settings = tmp_path / "etc/edge/edge.toml"
    shutil.copy2(FOLDER.parent / "config/edge.toml", settings)
    functions = (FOLDER / "install").read_text().partition("# ── command line")[0]
    with software_tpm() as tpm:
        device = tpm["TPM2TOOLS_TCTI"]
        environ = {"PATH": os.environ["PATH"], "DESTDIR": str(tmp_path), "TPM2_DEVICE": device}
        made = subprocess.run(
            ["sh", "-c", f"{functions}\nuse_tpm2"], cwd=FOLDER, env=environ, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
        sealed = tmp_path / "etc/credstore.encrypted/edge-store-key"
        opening = ["systemd-creds", "decrypt", "--name=edge-store-key", f"--tpm2-device={device}", str(sealed), "-"]
        opened = subprocess.run(opening, capture_output=True, check=False)
    assert (opened.returncode, len(opened.stdout)) == (0, 32), made.stdout + opened.stderr.decode()
    assert opened.stdout not in sealed.read_bytes()
    chosen = config.load(settings).store
    assert chosen.key == "credential:edge-store-key"
    has_group = subprocess.run(["getent", "group", "tss"], stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert chosen.counter == ("tpm2" if has_group else "none")
    assert (tmp_path / "etc/systemd/system/edge-vision.service.d/tpm2.conf").exists() == has_group


def test_without_a_tpm2_the_store_gets_a_key_file(tmp_path: Path) -> None:
    functions = (FOLDER / "install").read_text().partition("# ── command line")[0]
    creds = tmp_path / "systemd-creds"
    creds.write_text("#!/bin/sh\nexit 3\n")  # what it answers on a machine without a TPM2
    creds.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DESTDIR": str(tmp_path)}
    subprocess.run(["sh", "-c", f"{functions}\nuse_tpm2"], cwd=FOLDER, env=environ, check=True)
    assert list(tmp_path.iterdir()) == [creds]
