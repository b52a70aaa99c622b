"""Findings of `doctor` about broker, switch and processes, against real brokers; and two devices with one id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import Config, parse
from edge.processes import checkup
from edge.processes.findings import Finding
from tools.rig.brokers import Amqtt, Consumer, Mosquitto, password_lines, silent_port, until
from tools.rig.publishing import configured, problem, publishing, vision
from tools.rig.workbench import Bench

ACL = "user glasses\ntopic write edge/glasses/availability\ntopic read edge/glasses/+/set\n"


def tried(settings: Config) -> list[Finding]:
    return list(checkup.broker(settings))


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker with a password for `glasses`, whose access list denies events."""
    (tmp_path / "acl").write_text(ACL)
    (tmp_path / "acl").chmod(0o600)
    broker = Mosquitto(tmp_path, *password_lines(tmp_path, {"glasses": "right"}), f"acl_file {tmp_path / 'acl'}")
    broker.start()
    yield broker
    broker.kill()


def login(folder: Path, word: str) -> str:
    path = folder / "word"
    path.write_text(word)
    path.chmod(0o600)
    return f'username = "glasses"\npassword_file = "{path}"\ndiscovery = false'


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Amqtt]:
    broker = Amqtt(tmp_path)
    broker.start()
    yield broker
    broker.kill()


def test_an_absent_broker_is_a_fault_with_its_address(tmp_path: Path) -> None:
    (found,) = tried(configured(tmp_path, silent_port()))
    assert found.level == "FAIL"
    assert found.said == f"broker 127.0.0.1:{silent_port()}: cannot be reached: Connection refused"


def test_a_wrong_password_is_a_fault(tmp_path: Path, guarded: Mosquitto) -> None:
    for word in ("wrong", ""):
        (found,) = tried(configured(tmp_path, guarded.port, login(tmp_path, word)))
        assert (found.level, "refuses the connection: not authorised" in found.said) == ("FAIL", True)
        assert "password_file" in found.remedy


def test_an_access_list_that_denies_events_is_a_fault_that_names_the_topic(tmp_path: Path, guarded: Mosquitto) -> None:
    settings = configured(tmp_path, guarded.port, login(tmp_path, "right"))
    (found,) = tried(settings)
    assert found.level == "FAIL"
    assert "does not let the device publish to edge/glasses/event: not authorised" in found.said
    (tmp_path / "acl").write_text(ACL + "topic write edge/glasses/event\n")
    guarded.reload()
    until(lambda: tried(settings)[0].level == "ok", "the access list is read again")


def test_tls_on_a_plain_port_is_distinguished_from_an_absent_broker(tmp_path: Path, guarded: Mosquitto) -> None:
    (found,) = tried(configured(tmp_path, guarded.port, "tls = true"))
    assert (found.level, "TLS failed: the port does not speak TLS" in found.said) == ("FAIL", True), found


def test_a_broker_that_accepts_everything_is_ok_and_no_retained_message_is_left(tmp_path: Path, plain: Amqtt) -> None:
    (found,) = tried(configured(tmp_path, plain.port))
    assert found.level == "ok"
    with Consumer(plain.port) as late:
        assert late.last == {}


def test_recognition_that_was_switched_off_is_named_with_the_remedy(bench: Bench) -> None:
    assert json.loads(bench.call("recognition", "--json").output) == {"recognition": True}
    assert bench.call("recognition", "off").output == "recognition is off\n"
    (found,) = checkup.recognition(bench.settings)
    assert (found.level, "switched off" in found.said) == ("WEAK", True)
    assert "edge-daemon recognition on" in found.remedy
    assert (
        f"mosquitto_pub -h 127.0.0.1 -p {silent_port()} -q 1 -r -t edge/bench/recognition/set -m true" in found.remedy
    )
    bench.call("recognition", "on")
    assert next(iter(checkup.recognition(bench.settings))).level == "ok"


def test_a_default_id_is_weak(tmp_path: Path) -> None:
    settings = Config()
    assert next(iter(checkup.device(settings.device.id, settings.data))).level == "ok"
    settings = parse(f"[device]\ndata_dir = {json.dumps(str(tmp_path))}", "edge.toml")
    settings.data.outbox.parent.mkdir()
    settings.data.outbox.touch()
    (found,) = checkup.device(settings.device.id, settings.data)
    assert (found.level, "set [device] id" in found.remedy) == ("WEAK", True)


def test_two_devices_with_one_id_detect_each_other_and_retry_less_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Mosquitto(tmp_path)
    broker.start()
    settings = []
    for name in "ab":
        (tmp_path / name).mkdir()
        settings.append(configured(tmp_path / name, broker.port))
    with vision(settings[0]), vision(settings[1]), publishing(settings[0]), publishing(settings[1]):
        text = "another client connects as 'edge-glasses'"
        until(lambda: any(text in problem(one) for one in settings), "one of the two recognises the other", 60.0)
    broker.kill()
    assert caplog.text.count(text) <= len(settings), "each names it once"
