"""TLS, passwords and access lists against a real mosquitto: refusals are reported, and no event is lost."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.config import MqttConfig
from edge.errors import PublisherError
from edge.events.credentials import credentials
from tools.rig.brokers import Consumer, Mosquitto, password_lines, until
from tools.rig.publishing import add, configured, depth, problem, publishing, vision

Key = ec.EllipticCurvePrivateKey


class Authority:
    """A certificate authority for a test."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._name, self._key = folder, name, ec.generate_private_key(ec.SECP256R1())
        self.file = self._issue(name, self._key, authority=True)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate for `name` at 127.0.0.1 and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        key_file = self._folder / f"{name}.key"
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key_file.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
        key_file.chmod(0o600)
        return self._issue(name, key, authority=False), key_file

    def _issue(self, name: str, key: Key, *, authority: bool) -> Path:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(self._name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        )
        file = self._folder / f"{name}.crt"
        file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return file


def secret(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def brokers() -> Iterator[list[Mosquitto]]:
    """A list of brokers; they are killed at the end of the test."""
    started: list[Mosquitto] = []
    yield started
    for broker in started:
        broker.kill()


def test_a_client_certificate_is_accepted_and_its_absence_is_reported(tmp_path: Path, brokers: list[Mosquitto]) -> None:
    authority = Authority(tmp_path / "pki", "authority")
    stranger = Authority(tmp_path / "other", "stranger")
    server, server_key = authority.issue("server")
    client, client_key = authority.issue("glasses")
    plain = Mosquitto(tmp_path)  # asks for a free port and skips where there is none installed
    lines = ["allow_anonymous true", f"cafile {authority.file}", f"certfile {server}", f"keyfile {server_key}"]
    inside = plain.port
    broker = Mosquitto(tmp_path, *lines, "require_certificate true", f"listener {inside} 127.0.0.1")
    brokers.append(broker)
    broker.start()
    tls = f'tls = true\nca_file = "{authority.file}"'
    with Consumer(inside) as consumer:
        bare = configured(tmp_path, broker.port, tls)
        with vision(bare) as backlog:
            add(backlog, 3)
        with publishing(bare):
            until(lambda: "cert_file" in problem(bare), "the missing certificate is said")
        wrong = configured(tmp_path, broker.port, f'tls = true\nca_file = "{stranger.file}"')
        with publishing(wrong):
            until(lambda: "TLS failed" in problem(wrong), "the unknown authority is said")
        assert not consumer.received
        right = configured(tmp_path, broker.port, f'{tls}\ncert_file = "{client}"\nkey_file = "{client_key}"')
        with publishing(right):
            until(lambda: [event.seq for event in consumer.new] == [1, 2, 3], "the events")
            until(lambda: problem(right) == "", "the problem is over")


def test_a_denied_event_is_kept_and_reported_and_sent_once_it_is_allowed(
    tmp_path: Path, brokers: list[Mosquitto]
) -> None:
    acl = tmp_path / "acl"
    common = "user reader\ntopic readwrite #\nuser glasses\ntopic read edge/glasses/+/set\n"
    denied = common + "topic write edge/glasses/availability\ntopic write edge/glasses/state\n"
    acl.write_text(denied)
    acl.chmod(0o600)
    users = {"glasses": "open sesame", "reader": "let me read"}
    broker = Mosquitto(tmp_path, *password_lines(tmp_path, users), f"acl_file {acl}")
    brokers.append(broker)
    broker.start()
    word = secret(tmp_path / "word", "open sesame\n")
    settings = configured(tmp_path, broker.port, f'username = "glasses"\npassword_file = "{word}"')
    with (
        Consumer(broker.port, login=("reader", users["reader"])) as consumer,
        vision(settings) as backlog,
        publishing(settings),
    ):
        add(backlog, 30)
        until(lambda: "denies edge/glasses/event" in problem(settings), "the denial is said")
        until(lambda: consumer.has_state and consumer.state.publisher.link == "event_denied", "the state says it")
        assert consumer.state.publisher.denied > 0
        assert depth(settings) == 30
        acl.write_text(common + "topic write edge/glasses/#\n")
        broker.reload()
        until(lambda: len(consumer.new) == 30, "all events once it is allowed")
        until(lambda: depth(settings) == 0, "an empty outbox")
        until(lambda: consumer.state.publisher.link == "connected", "the state says that it is over")
    assert [event.seq for event in consumer.new] == list(range(1, 31))


def test_a_wrong_password_is_reported_without_showing_it_and_a_corrected_file_needs_no_restart(
    tmp_path: Path, brokers: list[Mosquitto]
) -> None:
    broker = Mosquitto(tmp_path, *password_lines(tmp_path, {"glasses": "open sesame"}))
    brokers.append(broker)
    broker.start()
    word = secret(tmp_path / "word", "open barley")
    settings = configured(tmp_path, broker.port, f'username = "glasses"\npassword_file = "{word}"')
    with vision(settings) as backlog, publishing(settings):
        add(backlog, 5)
        until(lambda: "refuses the connection" in problem(settings), "the refusal is said")
        assert "barley" not in problem(settings)
        assert "password_file" in problem(settings)
        assert depth(settings) == 5
        word.write_text("open sesame")
        until(lambda: depth(settings) == 0, "delivery with the right password")
        until(lambda: problem(settings) == "", "the problem is over")


def test_the_example_configuration_serves_a_device_and_its_consumer(tmp_path: Path, brokers: list[Mosquitto]) -> None:
    text = (Path(__file__).parents[2] / "config" / "mosquitto.conf.example").read_text(encoding="utf-8")
    acl = secret(
        tmp_path / "edge.acl", "\n".join(re.findall(r"^#   (pattern .*|user .*|topic .*)$", text, re.MULTILINE))
    )
    authority = Authority(tmp_path / "pki", "ca")
    server, server_key = authority.issue("server")
    device, device_key = authority.issue("glasses")
    places = {
        "/etc/mosquitto/certs/ca.crt": str(authority.file),
        "/etc/mosquitto/certs/server.crt": str(server),
        "/etc/mosquitto/certs/server.key": str(server_key),
        "/etc/mosquitto/edge.acl": str(acl),
        "/var/lib/mosquitto/": f"{tmp_path}/",
    }
    for place, here in places.items():
        assert place in text
        text = text.replace(place, here)
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "listener"))]
    broker = Mosquitto(tmp_path, *lines)
    brokers.append(broker)
    broker.start()
    files = f'ca_file = "{authority.file}"\ncert_file = "{device}"\nkey_file = "{device_key}"'
    settings = configured(tmp_path, broker.port, f"tls = true\nacks = true\n{files}")
    with (
        Consumer(broker.port, acks=True, tls=(authority.file, *authority.issue("consumer"))) as consumer,
        vision(settings) as backlog,
        publishing(settings),
    ):
        add(backlog, 30)
        until(lambda: len(consumer.new) == 30, "30 events")
        until(lambda: depth(settings) == 0, "an outbox emptied by acks")
        consumer.say("edge/glasses/recognition/set", b"false")
        until(lambda: not backlog.settings().recognition, "the switch reaches vision")
        until(lambda: consumer.has_state and consumer.state.publisher.denied == 0, "a state without denials")
    assert "Denied" not in (tmp_path / "broker.log").read_text()


def refused(**mqtt: object) -> str:
    with pytest.raises(PublisherError) as caught:
        credentials(MqttConfig(**mqtt))  # type: ignore[arg-type]  # each case gives fitting types
    assert caught.value.remedy
    return str(caught.value)


def test_a_password_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    word = secret(tmp_path / "word", "open sesame")
    assert credentials(MqttConfig(username="glasses", password_file=str(word))).password == word.read_text()
    word.chmod(0o604)
    text = refused(username="glasses", password_file=str(word))
    assert "others can read it" in text
    assert "sesame" not in text


def test_files_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki", "authority")
    certificate, key = authority.issue("glasses")
    _, other_key = authority.issue("other")
    junk = secret(tmp_path / "junk.pem", "no certificate")
    missing = str(tmp_path / "missing")
    assert "missing: No such file" in refused(username="u", password_file=missing)
    assert "username is empty" in refused(password_file=str(junk))
    assert "missing: not a CA certificate" in refused(tls=True, ca_file=missing)
    assert "junk.pem: not a CA certificate" in refused(tls=True, ca_file=str(junk))
    assert "no client certificate" in refused(tls=True, cert_file=str(certificate), key_file=str(other_key))
    assert "tls is false" in refused(cert_file=str(certificate), key_file=str(key))
    key.chmod(0o644)
    assert "others can read it" in refused(tls=True, cert_file=str(certificate), key_file=str(key))
