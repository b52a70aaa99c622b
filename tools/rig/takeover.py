"""The attack of the boot proof: compromised processes attack vision during many restarts of vision.

Each attacker runs `tools/rig/attacker.py` twice: in the sandbox of its unit, and as the unit's user without sandbox. As
a control, the same attack by vision's own user must succeed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.rig.machine import Machine

ATTACKER = Path(__file__).with_name("attacker.py")
SCRIPT = "/srv/attacker.py"
_BEGIN = "/run/edge-proof-begin"
_OUTBOX = "/var/lib/edge/outbox"
_TARGETS = ("/etc/edge-proof-target", "/var/lib/edge/templates.edge", "/var/lib/edge/edge-proof-target")
_CONTROL_STARTS, _WHOLE_EVERY = 3, 10
_START_S = 120.0
_BOXED = {"edge-publisher": f"{_OUTBOX} {' '.join(_TARGETS)}", "edge-provision": ""}
# Commands that root runs during the attack, on folders that the attackers can write, and an upgrade.
_OF_ROOT = (
    ("edge-daemon", "status"),
    ("systemd-tmpfiles", "--create", "edge.conf"),
    ("edge-daemon", "share-files"),
    ("edge-daemon", "people", "list"),
)


def attack(machine: Machine, starts: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Start vision `starts` times under attack; returns figures, raises AssertionError where an attack succeeds."""
    _control(machine)
    for path in (_TARGETS[0], _TARGETS[2]):
        machine.do("sh", "-c", f"umask 077; head -c 4096 /dev/urandom >{path}")
    machine.do("chown", "edge:edge", _TARGETS[2])
    before = _state_of(machine)
    machine.do("systemctl", "stop", "edge-publisher", "edge-provision")
    attackers = [
        *(_boxed(machine, unit, links) for unit, links in _BOXED.items()),
        *(_free(machine, u) for u in _BOXED),
    ]
    _begin(machine)
    started = _restarts(machine, starts, say)
    reports = [_ended(machine, unit) for unit in attackers]
    assert _state_of(machine) == before, f"a link was followed: {before} became {_state_of(machine)}"
    for name, report in zip(attackers, reports, strict=True):
        reached = {act: len(pids) for act, pids in report["reached"].items() if pids}
        assert not reached, f"{name} reached {reached}"
        missed = started - set(report["seen"])
        assert not missed, f"{name} did not see {len(missed)} of {starts} starts of vision: the attack was blind"
    machine.do("sh", "-c", f"rm -rf {_OUTBOX}/* {_OUTBOX}/.outbox*")
    machine.do("systemctl", "restart", "edge-vision", "edge-publisher")
    return {
        "attacked_starts": starts,
        "attackers": len(attackers),
        "processes_attacked": len(set().union(*(report["seen"] for report in reports))),
        "signals_reads_and_debuggers_that_worked": 0,
        "links_put": sum(report["links"] for report in reports),
        "files_changed_through_links": 0,
    }


def _control(machine: Machine) -> None:
    """Run the same attack as vision's own user without sandbox. Where it fails too, the attack itself does not work."""
    _start(machine, "edge-control", "--uid=edge", "--harmless")
    _begin(machine)
    started = _restarts(machine, _CONTROL_STARTS, lambda _: None, ())
    reached = _ended(machine, "edge-control")["reached"]
    machine.do("rm", _BEGIN)
    for act in ("store", "environment", "memory", "descriptors", "signal"):
        assert started & set(reached[act]), f"the control failed: vision's own user did not reach its {act}"


def _restarts(
    machine: Machine, times: int, say: Callable[[str], None], of_root: tuple[tuple[str, ...], ...] = _OF_ROOT
) -> set[int]:
    """Restart vision `times` times; returns its process ids.

    Each run lasts until the process has closed itself to inspection, every tenth until vision recognises.
    """
    seen: set[int] = set()
    for number in range(times):
        whole = number % _WHOLE_EVERY == 0
        machine.do("systemctl", "restart", *(() if whole else ("--no-block",)), "edge-vision")
        machine.until(lambda: machine.main_pid("edge-vision") not in seen | {0}, "vision is started", _START_S)
        pid = machine.main_pid("edge-vision")
        seen.add(pid)
        machine.until(lambda: _is_closed(machine, pid), "vision closes itself", _START_S)  # noqa: B023
        if whole and of_root:
            machine.call(*of_root[number // _WHOLE_EVERY % len(of_root)])  # it may fail on the attackers' files
        if (number + 1) % 20 == 0:
            say(f"attacked at {number + 1} starts")
    return seen


def _is_closed(machine: Machine, pid: int) -> bool:
    """Whether a process refuses inspection: its files in /proc then belong to root."""
    return machine.call("stat", "--format=%u", f"/proc/{pid}/environ").stdout.strip() == "0"


def _begin(machine: Machine) -> None:
    """Start the attackers; they attack processes that start from now on."""
    machine.do("sh", "-c", f"echo $$ >{_BEGIN}.part && mv {_BEGIN}.part {_BEGIN}")


def _boxed(machine: Machine, unit: str, arguments: str) -> str:
    """Start the attacker as a unit's program, within the unit's sandbox."""
    name = f"{unit}-taken"
    left_out = "^(Requires|Wants|After|PartOf|ExecReload|Watchdog|Restart|RuntimeMax|NotifyAccess|LoadCredential)"
    program = f"/usr/bin/python3 {SCRIPT} {_BEGIN} {arguments}"
    edited = f"s#^ExecStart=.*#ExecStart={program}#; s#^Type=.*#Type=exec#; /{left_out}/d"
    kept = f"StandardOutput=truncate:{_report(name)}"
    machine.do(
        "sh",
        "-c",
        f"sed -E '{edited}; s#^\\[Service\\]#[Service]\\n{kept}#' /usr/lib/systemd/system/{unit}.service"
        f" >/run/systemd/system/{name}.service && systemctl daemon-reload && systemctl start {name}",
    )
    return name


def _free(machine: Machine, user: str) -> str:
    name = f"{user}-free"
    _start(machine, name, f"--uid={user}")
    return name


def _start(machine: Machine, name: str, user: str, *arguments: str) -> None:
    kept = f"--property=StandardOutput=truncate:{_report(name)}"
    machine.do("systemd-run", f"--unit={name}", user, kept, "/usr/bin/python3", SCRIPT, _BEGIN, *arguments)


def _ended(machine: Machine, name: str) -> dict[str, Any]:
    machine.do("systemctl", "stop", name)
    report: dict[str, Any] = json.loads(machine.do("cat", _report(name)))
    return report


def _report(name: str) -> str:
    return f"/run/{name}.json"


def _state_of(machine: Machine) -> str:
    """Return hash, owner and mode of all link targets, and owner and mode of the folders."""
    folders = "/var/lib/edge /var/lib/edge/outbox /var/lib/edge/settings /var/lib/edge/provision /etc /etc/edge"
    return machine.do(
        "sh", "-c", f"sha256sum {' '.join(_TARGETS)}; stat -c '%n %U %G %a' {' '.join(_TARGETS)} {folders}"
    )
