"""The owner's requests: settings, credentials, clock, diagnostics, reset."""

from __future__ import annotations

import base64
import datetime
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge import config as configuration
from edge import files
from edge.errors import ConfigError, ProvisionError
from edge.events.outbox import Outbox
from edge.provision.protocol import messages
from edge.provision.protocol.fields import Message
from edge.provision.protocol.replies import Csr, DeviceInfo, Diagnostics, DiagnosticText, Done, Failed
from tests.events.samples import match, moment
from tests.provision.harness import OnTable, client, enrol_man


def refusal(table: OnTable, request: Message) -> str:
    return table.must(request, Failed).what


def test_info_says_what_the_device_is(table: OnTable) -> None:
    info = table.must(messages.Info(), DeviceInfo)
    assert (info.name, info.people, info.broker, info.model_slot) == ("glasses", 0, "localhost:1883", "built-in")
    assert 3590 < info.armed_s <= 3600


def test_the_name_is_kept_over_a_restart_and_edge_toml_stays_as_it_was(table: OnTable) -> None:
    before = table.path.read_text()
    table.must(messages.SetName(name="kitchen"), Done)
    assert configuration.load(table.path).device.id == "kitchen"
    assert table.config.device.id == "kitchen"  # vision has read it
    table.restart()
    assert table.must(messages.Info(), DeviceInfo).name == "kitchen"
    assert table.path.read_text() == before


def test_unnamed_broker_settings_stay(table: OnTable) -> None:
    table.must(messages.SetMqtt(host="broker.lan", port=8883, username="ada", password="geheim", tls=True), Done)
    table.must(messages.SetMqtt(prefix="home"), Done)
    mqtt = configuration.load(table.path).mqtt
    assert (mqtt.host, mqtt.port, mqtt.username, mqtt.tls, mqtt.prefix) == ("broker.lan", 8883, "ada", True, "home")
    password = Path(mqtt.password_file)
    assert password.read_text() == "geheim"
    assert password.stat().st_mode & 0o077 == 0
    table.must(messages.SetMqtt(password=""), Done)
    assert not password.exists()
    assert configuration.load(table.path).mqtt.password_file == ""


@pytest.mark.parametrize("change", [{"host": "evil.example"}, {"port": 1883}, {"tls": False}])
def test_a_password_is_used_only_for_the_broker_it_was_given_for(table: OnTable, change: dict[str, Any]) -> None:
    first = messages.SetMqtt(host="broker.lan", port=8883, username="ada", password="geheim", tls=True)
    table.must(first, Done)
    before = configuration.load(table.path).mqtt
    assert "given for another broker" in refusal(table, messages.SetMqtt(**change))
    assert configuration.load(table.path).mqtt == before
    assert Path(before.password_file).read_text() == "geheim"
    table.must(messages.SetMqtt(host="broker.lan", port=8883, tls=True, acks=True), Done)  # the same broker
    table.must(messages.SetMqtt(password="another", **change), Done)
    assert Path(configuration.load(table.path).mqtt.password_file).read_text() == "another"


def test_broker_and_password_change_in_one_step(table: OnTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any moment the publisher reads the old broker with its password, or the new broker with its own."""
    table.must(messages.SetMqtt(host="one.lan", username="ada", password="of one"), Done)
    seen: set[tuple[str, str]] = set()
    real = files.replace

    def look() -> None:
        mqtt = configuration.load(table.path).mqtt
        seen.add((mqtt.host, Path(mqtt.password_file).read_text()))

    def replace(path: Path, content: bytes, *, shared: bool = False) -> None:
        look()
        real(path, content, shared=shared)
        look()

    monkeypatch.setattr(files, "replace", replace)
    table.must(messages.SetMqtt(host="two.lan", password="of two"), Done)
    look()
    assert seen == {("one.lan", "of one"), ("two.lan", "of two")}
    folder = table.config.data.settings
    assert len(list(folder.glob("mqtt-password*"))) == 1


@pytest.mark.parametrize("username", ['quo"te', "back\\slash", "ümläut ☂ 🎈", "new line"])
def test_any_text_survives_the_settings_file(table: OnTable, username: str) -> None:
    table.must(messages.SetMqtt(username=username), Done)
    assert configuration.load(table.path).mqtt.username == username


def test_an_invalid_value_changes_nothing(table: OnTable) -> None:
    table.must(messages.SetRunTime(run_time="8h"), Done)
    assert "run_time = 'banana'" in refusal(table, messages.SetRunTime(run_time="banana"))
    assert configuration.load(table.path).power.run_time == "8h"


def test_privacy_and_run_time_are_set(table: OnTable) -> None:
    table.must(messages.SetPrivacy(publish_names=True), Done)
    table.must(messages.SetRunTime(run_time="until 18:00"), Done)
    info = table.must(messages.Info(), DeviceInfo)
    assert (info.publish_names, info.run_time) == (True, "until 18:00")


def test_the_settings_file_can_set_only_the_owners_keys(table: OnTable) -> None:
    table.must(messages.SetName(name="kitchen"), Done)
    path = table.config.data.settings_file
    path.write_text(path.read_text() + '[camera]\nsource = "mjpeg"\n')
    with pytest.raises(ConfigError, match=r"\[camera\] source: not to be set over the cable"):
        configuration.load(table.path)


# ── the broker's credentials ──


def signed(csr: x509.CertificateSigningRequest, days: int = 30) -> tuple[str, str]:
    """Return certificate and authority, PEM, for a signing request."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = datetime.datetime.now(datetime.UTC)

    def issue(subject: x509.Name, public: object) -> str:
        builder = x509.CertificateBuilder(name, subject, public, x509.random_serial_number())  # type: ignore[arg-type]
        builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=days))
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    return issue(csr.subject, csr.public_key()), issue(name, key.public_key())


def test_the_device_makes_its_key_asks_for_a_certificate_and_keeps_the_key(table: OnTable) -> None:
    csr = x509.load_pem_x509_csr(table.must(messages.MakeCsr(), Csr).pem.encode())
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == "CN=glasses"
    again = x509.load_pem_x509_csr(table.must(messages.MakeCsr(), Csr).pem.encode())
    assert again.public_key() == csr.public_key()  # the key is generated once
    certificate, authority = signed(csr)
    table.must(messages.SetCertificate(certificate=certificate, authority=authority), Done)
    mqtt = configuration.load(table.path).mqtt
    assert mqtt.tls
    assert Path(mqtt.cert_file).read_text() == certificate
    assert Path(mqtt.ca_file).read_text() == authority
    assert Path(mqtt.key_file).stat().st_mode & 0o077 == 0


def test_a_certificate_of_another_key_is_refused(table: OnTable) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "glasses")])
    other = x509.CertificateSigningRequestBuilder().subject_name(name)
    foreign = other.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    certificate, _ = signed(foreign)
    assert "another key" in refusal(table, messages.SetCertificate(certificate=certificate))
    assert "not a certificate" in refusal(table, messages.SetCertificate(authority="-----BEGIN NONSENSE"))
    assert configuration.load(table.path).mqtt.cert_file == ""


def altered(certificate: str, old: bytes, new: bytes) -> str:
    der = x509.load_pem_x509_certificate(certificate.encode()).public_bytes(serialization.Encoding.DER)
    assert der.count(old)
    body = base64.encodebytes(der.replace(old, new)).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


def test_a_certificate_whose_key_cannot_be_read_is_refused(table: OnTable) -> None:
    csr = x509.load_pem_x509_csr(table.must(messages.MakeCsr(), Csr).pem.encode())
    certificate, _ = signed(csr)
    form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    public = csr.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    point = public.public_bytes(*form)
    curve, kind = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06072a8648ce3d0201")
    for old, new in (
        (curve, curve[:-1] + b"\x70"),  # an unknown curve
        (kind, kind[:-1] + b"\x70"),  # an unknown kind of key
        (point, point[:-1] + bytes([point[-1] ^ 1])),  # a point that is on no curve
    ):
        assert "another key" in refusal(table, messages.SetCertificate(certificate=altered(certificate, old, new)))


@pytest.mark.parametrize(
    "content", [b"", bytes(200), b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_of_the_device_is_reported_and_a_reset_removes_it(table: OnTable, content: bytes) -> None:
    csr = x509.load_pem_x509_csr(table.must(messages.MakeCsr(), Csr).pem.encode())
    (table.config.data.settings / "mqtt-key.pem").write_bytes(content)
    assert "not a key of this program" in refusal(table, messages.MakeCsr())
    assert "not a key of this program" in refusal(table, messages.SetCertificate(certificate=signed(csr)[0]))
    table.must(messages.FactoryReset(name="glasses"), Done)
    table.must(messages.MakeCsr(), Csr)


# ── clock ──


def test_a_clock_that_is_off_is_set_and_one_that_is_right_is_left(table: OnTable) -> None:
    assert "right" in table.must(messages.SetTime(unix_s=table.clocks.wall + 1), Done).note
    wanted = table.clocks.wall + 3600
    assert "-3600" in table.must(messages.SetTime(unix_s=wanted), Done).note
    assert table.clocks.wall == wanted


def test_a_clock_that_may_not_be_set_is_left(tmp_path: Path) -> None:
    table = OnTable(tmp_path, provision={"set_clock": False})
    before = table.clocks.wall
    assert "forbids" in refusal(table, messages.SetTime(unix_s=before + 3600))
    assert table.clocks.wall == before


# ── diagnostics and reset ──


def test_diagnostics_are_listed_first_and_hold_no_name_address_or_credential(table: OnTable) -> None:
    table.must(messages.SetName(name="secretname"), Done)
    table.must(messages.SetMqtt(host="secrethost.lan", username="secretuser", password="secretpassword"), Done)
    host = client(table)
    host.connect()
    enrol_man(host, "Secret Person")
    parts = table.must(messages.ListDiagnostics(), Diagnostics).parts
    assert all(part.holds for part in parts)
    for part in parts:
        text = table.must(messages.ReadDiagnostics(name=part.name), DiagnosticText).text
        assert len(text) == part.size
        assert json.loads(text)
        assert "secret" not in text.lower()
        assert str(table.folder) not in text
    assert "no part is called" in refusal(table, messages.ReadDiagnostics(name="store"))


def test_a_factory_reset_needs_the_name_and_erases_all_personal_data(table: OnTable) -> None:
    host = client(table)
    host.connect()
    enrol_man(host)
    table.must(messages.SetMqtt(host="broker.lan", password="geheim"), Done)
    table.must(messages.MakeCsr(), Csr)
    assert "not this device's name" in refusal(table, messages.FactoryReset(name="other"))
    assert table.must(messages.Info(), DeviceInfo).people == 1
    with closing(Outbox.of(table.config.data, table.config.outbox)) as outbox:
        outbox.append(match(), moment())
        table.must(messages.FactoryReset(name="glasses"), Done)
        assert outbox.counts().depth == 0  # the old owner's events must not reach the new owner's broker
    info = table.must(messages.Info(), DeviceInfo)
    assert (info.people, info.broker) == (0, "localhost:1883")
    left = {p.name for p in (table.folder / "data").rglob("*") if p.is_file() and p.parent.name != "outbox"}
    assert left <= {"templates.edge.lock", "arming.json", "arming.lock", "slots.json"}
    enrol_man(host)  # and it can be set up again


def test_absent_vision_is_reported_and_settings_are_kept(table: OnTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: object) -> None:
        raise ProvisionError("the vision process cannot be asked: gone")

    monkeypatch.setattr(table.requests, "_vision", away)
    assert "not used yet" in table.must(messages.SetName(name="kitchen"), Done).note
    assert table.must(messages.Info(), DeviceInfo).camera.startswith("the vision process cannot be asked")
    assert "cannot be asked" in refusal(table, messages.ListPeople())
    assert configuration.load(table.path).device.id == "kitchen"
