"""The first hour with the product, step by step, where `first_hour.py` has put this checkout.

Each command is run as it is shown, and its output is checked. The last line is one JSON object: the transcript as
Markdown, and what did not hold. It needs the standard library alone, as it runs before anything is installed.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LIMIT_S, _INSTALL_LIMIT_S = 300.0, 1800.0  # for a machine that has much else to do
_CUT = "[…]"
_PASSWORDS = {"glasses": "first-hour", "reader": "reads-along"}

CONFIG = """\
[device]
id = "glasses"
data_dir = "data"

[camera]
source = "{source}"
{where}

[mqtt]
host = "127.0.0.1"
port = {port}
username = "glasses"
password_file = "mqtt-password"
"""
MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous false
password_file broker/users
"""


@dataclass
class Terminal:
    """One command that runs in a terminal of its own."""

    command: str
    process: subprocess.Popen[bytes]
    log: Path
    told: int = 0  # characters that the transcript has shown

    def said(self) -> str:
        """Return its whole output so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def fresh(self) -> str:
        """Return its output since the last call."""
        text = self.said()
        new, self.told = text[self.told :], len(text)
        return new


@dataclass
class Walk:
    """Runs commands in a folder, checks them, and writes down what a person would have seen."""

    folder: Path
    binaries: str  # where the venv's commands lie, as the transcript writes it
    terminals: list[Terminal] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    checks: int = 0

    def part(self, title: str, *prose: str) -> None:
        """Begin a section."""
        self.lines += ["", f"### {title}", "", *prose]

    def note(self, *prose: str) -> None:
        """Say something between two commands."""
        self.lines += ["", *prose]

    def file(self, name: str, text: str) -> None:
        """Write a file, and show it."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")
        self._block(f"# {name}\n{text}", "toml" if name.endswith(".toml") else "")

    def run(
        self,
        command: str,
        *expected: str,
        code: int = 0,
        never: Sequence[str] = (),
        last: int = 40,
        limit_s: float = _LIMIT_S,
    ) -> str:
        """Run a command to its end and show its output; raises AssertionError where code or output are not as promised.

        `last`: how many of its last lines are shown.
        """
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s,
            check=False,
        )
        said = done.stdout.decode("utf-8", "replace")
        assert done.returncode == code, f"`{command}` ends with {done.returncode}, expected {code}:\n{said[-3000:]}"
        self.judge(command, said, expected, never)
        self._shown(command, said, last)
        return said

    def judge(self, command: str, said: str, expected: Sequence[str], never: Sequence[str] = ()) -> None:
        """Raise AssertionError where an output lacks what was promised, or shows what nobody should see."""
        for pattern in expected:
            assert re.search(pattern, said), f"`{command}` does not say {pattern!r}:\n{said[-3000:]}"
        for pattern in ("Traceback", r"\[ WARN:", *never):
            assert not re.search(pattern, said), f"`{command}` says {pattern!r}:\n{said[-3000:]}"
        self.checks += len(expected) + 1

    def begin(self, command: str) -> Terminal:
        """Start a command in a terminal of its own."""
        log = self.folder / f".terminal-{len(self.terminals)}"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {command}"], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
        terminal = Terminal(command, process, log)
        self.terminals.append(terminal)
        self._block(f"$ {command}", "sh")
        return terminal

    def sees(self, terminal: Terminal, *expected: str, never: Sequence[str] = (), show: bool = True) -> str:
        """Wait until all of it stands in a terminal's new output, and show that output."""
        end_s = time.monotonic() + _LIMIT_S
        while not all(re.search(pattern, terminal.said()[terminal.told :]) for pattern in expected):
            fresh = terminal.said()[terminal.told :]
            if terminal.process.poll() is not None or time.monotonic() > end_s:
                self.judge(terminal.command, fresh, expected, never)
            time.sleep(0.05)
        text = terminal.fresh()
        self.judge(terminal.command, text, expected, never)
        if show:
            self._block(_cut(text.strip("\n"), 40))
        return text

    def receives(self, reader: Terminal, *expected: str) -> str:
        """Wait until the subscriber has all of it, and show what it received."""
        self.note("The subscriber receives:")
        return self.sees(reader, *expected)

    def stop(self, terminal: Terminal) -> None:
        """Press Ctrl-C in a terminal."""
        terminal.process.send_signal(signal.SIGINT)
        terminal.process.wait(_LIMIT_S)

    def close(self) -> None:
        """End whatever still runs."""
        for terminal in self.terminals:
            if terminal.process.poll() is None:
                terminal.process.terminate()
                terminal.process.wait(_LIMIT_S)

    def _shown(self, command: str, said: str, last: int) -> None:
        self._block(f"$ {command}\n{_cut(said.strip(), last)}".rstrip(), "sh")

    def _block(self, text: str, language: str = "") -> None:
        self.lines += ["", f"```{language}", *(line.rstrip() for line in text.splitlines()), "```"]


def _cut(text: str, last: int) -> str:
    """Return the last lines of a text, without what a terminal draws over."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.rpartition("\r")[2] for line in plain.splitlines()]
    return "\n".join([_CUT, *lines[-last:]] if len(lines) > last else lines)


def _config(walk: Walk, source: str, where: str, port: int) -> None:
    walk.file("edge.toml", CONFIG.format(source=source, where=where, port=port))


def install(walk: Walk) -> None:
    """Set up, and see it work."""
    walk.part(
        "Install",
        "In a checkout of the project, as an ordinary user. It makes `.venv` and shows a first recognition.",
    )
    demo = r'"match": 1, "unknown": 1, "end": 2, "lost": 0, "duplicates": 0, "false_match": 0'
    walk.run("make demo", demo, last=3, limit_s=_INSTALL_LIMIT_S)


def pictures(walk: Walk) -> None:
    """Lay out pictures of two people."""
    walk.part(
        "Pictures",
        "Take photos of your own: a folder a person. Without any, this writes photos and clips of two people, Carl and",
        "Eileen, from public footage:",
    )
    walk.run(f"{walk.binaries}python -m tools.tutorial pictures my")
    walk.run("ls my my/carl", r"carl\.avi", r"photo4\.png")


def enrol(walk: Walk, port: int) -> None:
    """Enrol from pictures and from a clip, and add pictures to the same person."""
    walk.part("Settings", "What the device watches, and where its events go. First it watches a clip.")
    _config(walk, "video", 'paths = ["my/carl.avi"]', port)
    walk.run("printf first-hour > mqtt-password && chmod 600 mqtt-password")
    walk.run(f"{walk.binaries}edge-daemon check-config --config edge.toml", r"edge\.toml: good")
    walk.part("Enrol", "From a folder of photos:")
    add = f"{walk.binaries}edge-daemon people add"
    walk.run(
        f"{add} Carl --from my/carl --config edge.toml", r"Carl is enrolled as p-\w{8}: \d+ templates? from 4 pictures"
    )
    walk.note("From a clip:")
    walk.run(f"{add} Eileen --from my/eileen.avi --config edge.toml", r"Eileen is enrolled as p-\w{8}: \d+ template")
    walk.note("The same name a second time is no second person, but a question; without a terminal the answer is no:")
    walk.run(
        f"{add} Carl --from my/carl-more --config edge.toml", "Carl .* is enrolled already", "people add --to", code=1
    )
    walk.note("More pictures of the same person:")
    walk.run(f"{add} --to Carl --from my/carl-more --config edge.toml", r"Carl \(p-\w{8}\) has \d+ templates now")
    walk.run(
        f"{walk.binaries}edge-daemon people list --config edge.toml",
        r"p-\w{8}  Carl  \d+ templates",
        r"p-\w{8}  Eileen  \d+ template",
    )
    walk.note("Who is on a picture, without sending anything:")
    walk.run(
        f"{walk.binaries}edge-daemon try my/visit --config edge.toml",
        r"photo1\.png: .*'Carl'.*certain",
        r"photo2\.png: .*'Eileen'.*certain",
    )


def broker(walk: Walk, port: int) -> tuple[Terminal, Terminal]:
    """Start a broker with passwords, and somebody who reads what the device sends."""
    walk.part(
        "A broker with passwords",
        "Here mosquitto; in its own terminal. One user for the device, one for whoever reads along.",
    )
    walk.file("broker/mosquitto.conf", MOSQUITTO.format(port=port))
    users = "\\n".join(f"{user}:{password}" for user, password in _PASSWORDS.items())
    walk.run(f"printf '{users}\\n' > broker/users && chmod 600 broker/users && mosquitto_passwd -U broker/users")
    server = walk.begin("/usr/sbin/mosquitto -c broker/mosquitto.conf")
    walk.sees(server, r"mosquitto version .* running", show=False)
    walk.note("In another terminal, what a subscriber sees. Nothing yet:")
    login = f"-u reader -P {_PASSWORDS['reader']}"
    reader = walk.begin(f"mosquitto_sub -h 127.0.0.1 -p {port} {login} -t 'edge/+/event' -v")
    return server, reader


_RUN = "edge-daemon run --config edge.toml"
_MATCH = r'"event_type":"match".*"person":"p-\w{8}"'
_UNKNOWN = r'"event_type":"unknown"'
_LEFT = "wait in the outbox"


def match(walk: Walk, reader: Terminal, port: int) -> None:
    """Recognise people in a file, in a folder of pictures, and before a network camera."""
    run = walk.binaries + _RUN
    walk.part("Match: a file", "The clip shows Carl.")
    walk.run(run, "broker: connected", "encounter 1: match", "encounter 1: end", never=[_LEFT])
    walk.note("Who it was goes out by id; names stay on the device.")
    walk.receives(reader, _MATCH, r'"event_type":"end"')
    walk.part("Match: a folder", "Each picture is judged by itself; these show Carl and Eileen.")
    _config(walk, "images", 'paths = ["my/visit"]', port)
    walk.run(run, "encounter 1: match", "encounter 2: match", never=[_LEFT])
    seen = walk.receives(reader, rf"{_MATCH}[^\n]*\n(.*\n)*.*{_MATCH}")
    assert len(set(re.findall(r'"person":"(p-\w{8})"', seen))) == 2, f"two pictures of two people gave {seen}"


def camera(walk: Walk, reader: Terminal, port: int, camera_port: int) -> None:
    """Recognise somebody before a network camera, while a second instance is refused."""
    run = walk.binaries + _RUN
    walk.part("Match: a network camera", "Any camera that sends MJPEG over HTTP. Without one, in its own terminal:")
    served = walk.begin(f"{walk.binaries}python -m tools.tutorial camera my/carl.avi --port {camera_port}")
    walk.sees(served, "serving carl.avi at http")
    _config(walk, "mjpeg", f'url = "http://127.0.0.1:{camera_port}/stream.mjpg"', port)
    walk.note("A camera does not end; Ctrl-C does:")
    watching = walk.begin(run)
    walk.sees(watching, "broker: connected", "encounter 1: match")
    walk.receives(reader, _MATCH)
    walk.part("A second instance", "One device is one folder. While the first runs, a second one is refused:")
    walk.run(run, r"\d+", "(?i)already|another", code=1)
    walk.note("What the first says of itself:")
    walk.run(f"{walk.binaries}edge-daemon status --config edge.toml", "vision", "publisher.*connected|connected")
    walk.note("Ctrl-C in its terminal:")
    walk.stop(watching)
    walk.sees(watching, "vision|publisher|edge", show=False)
    walk.stop(served)


def trouble(walk: Walk, server: Terminal, reader: Terminal, port: int) -> Terminal:
    """Go through a wrong password and a broker that is away; returns the broker's new terminal."""
    run = walk.binaries + _RUN
    walk.part("A wrong password", "Recognition goes on without the broker. `doctor` and the log say what is wrong:")
    _config(walk, "video", 'paths = ["my/carl.avi"]', port)
    walk.run("printf wrong > mqtt-password")
    walk.run(
        f"{walk.binaries}edge-daemon doctor --config edge.toml", "(?i)FAIL.*(password|authori[sz]ed)", code=1, last=30
    )
    walk.run(run, "(?i)refuses the connection.*(password|authori[sz]ed)", "encounter 1: match", _LEFT)
    walk.note("With the right one, what has waited arrives as well:")
    walk.run("printf first-hour > mqtt-password")
    walk.run(run, "broker: connected", "encounter 1: match", never=[_LEFT])
    walk.receives(reader, rf"({_MATCH}[^\n]*\n(.*\n)*.*){{2}}")
    walk.part("The broker is away", "Stop it with Ctrl-C.")
    walk.stop(server)
    walk.run(run, "cannot be reached: Connection refused", "encounter 1: match", _LEFT)
    walk.note("It comes back, and the next run sends what has waited:")
    server = walk.begin("/usr/sbin/mosquitto -c broker/mosquitto.conf")
    walk.sees(server, r"mosquitto version .* running", show=False)
    walk.run(run, "broker: connected", never=[_LEFT])
    walk.receives(reader, rf"({_MATCH}[^\n]*\n(.*\n)*.*){{2}}")
    return server


def remove(walk: Walk, reader: Terminal | None, port: int) -> None:
    """Remove a person, who is a stranger from then on, and all that the walk has made."""
    walk.part("Remove", "A person is gone with key and templates, and a stranger from then on:")
    walk.run(f"{walk.binaries}edge-daemon people remove Eileen --yes --config edge.toml", r"Eileen .* is removed")
    people = walk.run(f"{walk.binaries}edge-daemon people list --config edge.toml", "Carl", never=["Eileen"])
    assert len(people.splitlines()) == 1, people
    if reader is not None:
        _config(walk, "images", 'paths = ["my/visit"]', port)
        walk.run(walk.binaries + _RUN, "encounter 1: match", "encounter 2: unknown", never=[_LEFT])
        walk.receives(reader, _MATCH, _UNKNOWN)
    else:
        walk.run(
            f"{walk.binaries}edge-daemon try my/visit --config edge.toml", "'Carl'", "photo2.*(unknown|nobody|stranger)"
        )


def clear(walk: Walk) -> None:
    """Take away what the walk has made."""
    walk.note("Everything that the device has kept lies in one folder:")
    walk.run("rm -rf data mqtt-password broker my edge.toml")
    walk.run(f"{walk.binaries}edge-daemon check-config --config edge.toml", "edge.toml: no such file", code=2)


def whole(walk: Walk, port: int, camera_port: int) -> None:
    """Walk through all of it."""
    install(walk)
    pictures(walk)
    enrol(walk, port)
    server, reader = broker(walk, port)
    match(walk, reader, port)
    camera(walk, reader, port, camera_port)
    server = trouble(walk, server, reader, port)
    remove(walk, reader, port)
    walk.stop(reader)
    walk.stop(server)
    clear(walk)


def walked(walk: Walk, steps: Callable[[], None]) -> dict[str, object]:
    """Return the transcript and what did not hold, empty where all did."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background, and its children inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    began_s, problem = time.monotonic(), ""
    try:
        steps()
    except (AssertionError, subprocess.TimeoutExpired) as e:
        problem = str(e) or "a step does not hold"
    finally:
        walk.close()
    text = "\n".join(walk.lines).strip()
    commands = len(re.findall(r"^\$ ", text, re.MULTILINE))
    seconds = round(time.monotonic() - began_s)
    return {"problem": problem, "commands": commands, "checks": walk.checks, "seconds": seconds, "text": text}


def main() -> None:
    """Walk in the current folder, where MQTT's own port is free."""
    walk = Walk(Path.cwd(), ".venv/bin/")
    print(json.dumps(walked(walk, lambda: whole(walk, 1883, 8081))), flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
