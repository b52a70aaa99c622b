"""The file of several devices: what is wrong is named before the first cable, and who has what is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.errors import EdgeError, ProvisionError
from edge.provision.host import fleet_file
from edge.provision.host.authority import Authority
from edge.provision.host.fleet import SetUp, wait_for_cable

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def load(tmp_path: Path, text: str) -> fleet_file.FleetFile:
    path = tmp_path / "fleet.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return fleet_file.load(path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[[devices]]\nname = 'a'\n[[devices]]\nname = 'a'\n", "devices: a: more than once"),
        ("[[devices]]\nname = 'a'\nport = '/p'\n[[devices]]\nname = 'b'\nport = '/p'\n", "ports: /p: more than once"),
        ("[[devices]]\nname = 'a'\npeople = ['Anna']\n", "a: Anna: not among"),
        ("[[devices]]\nname = 'Küche 1'\n", "devices"),
        ("[[devices]]\nname = 'a'\nbroker = 'x'\n", "unknown key `broker`"),
        ("[[devices]]\nname = 'a'\ncode = 'short'\n", "a: not a code"),
        ("[mqtt]\nhost = 'x'\n", "devices"),
        ("devices = []\n", "devices"),
        ("[[devices]\n", "not TOML"),
    ],
)
def test_what_cannot_be_set_up_is_named(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(ProvisionError, match=r"fleet\.toml") as e:
        load(tmp_path, text)
    assert what in e.value.what


def test_a_file_with_codes_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text("[[devices]]\nname = 'a'\ncode = 'ABCD-EFGH'\n")
    path.chmod(0o644)
    with pytest.raises(ProvisionError, match="others can read it"):
        fleet_file.load(path)


def test_each_device_knows_the_people_it_names_and_by_default_all(tmp_path: Path) -> None:
    people = "".join(f"[[people]]\nname = '{name}'\nphotos = ['{name}.jpg']\n" for name in ("Anna", "Ben"))
    found = load(tmp_path, f"{people}[[devices]]\nname = 'a'\n[[devices]]\nname = 'b'\npeople = ['Ben']\n")
    first, second = found.devices
    assert [person.name for person in found.people_of(first)] == ["Anna", "Ben"]
    assert [person.name for person in found.people_of(second)] == ["Ben"]


@pytest.mark.parametrize(
    ("section", "what"),
    [
        ("[[people]]\nname = 'Anna'\nphotos = ['anna.jpg']\n", "anna.jpg"),
        ("[mqtt]\nusername = 'u'\npassword_file = 'secret'\n", "secret"),
        ("[certificates]\nauthority = 'ca.pem'\n", "ca.pem"),
    ],
)
def test_a_file_that_is_missing_stops_everything_before_the_first_cable(
    tmp_path: Path, section: str, what: str
) -> None:
    found = load(tmp_path, f"{section}[[devices]]\nname = 'a'\n")
    with pytest.raises(EdgeError, match=what):
        SetUp(found, tmp_path / "fleet.toml")


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


def authority(days: int = 30) -> tuple[x509.Certificate, str, str]:
    """An authority that signs itself: certificate, and both as PEM."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "us")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    return made, made.public_bytes(serialization.Encoding.PEM).decode(), pem_of(key)


def request() -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever it says")])
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_a_certificate_bears_the_name_of_the_file_and_ends_with_its_authority() -> None:
    own, pem, key = authority(days=30)
    asked = request()
    made = x509.load_pem_x509_certificate(Authority(pem, key, days=825).sign(asked, "glasses-1", NOW).encode())
    made.verify_directly_issued_by(own)
    assert made.subject.rfc4514_string() == "CN=glasses-1"
    assert made.not_valid_after_utc == own.not_valid_after_utc
    assert made.public_key() == x509.load_pem_x509_csr(asked.encode()).public_key()
    with pytest.raises(ProvisionError, match="expired"):
        Authority(pem, key, days=825).sign(asked, "glasses-1", NOW + timedelta(days=31))


def test_a_key_of_another_authority_is_refused() -> None:
    _, pem, _ = authority()
    with pytest.raises(ProvisionError, match="another certificate"):
        Authority(pem, authority()[2], days=1)
    with pytest.raises(ProvisionError, match="not PEM"):
        Authority(pem, "nothing", days=1)


def waited(plugged: list[list[str]], before: set[str]) -> list[str | None]:
    there = iter(plugged)
    return list(wait_for_cable(lambda: next(there), before, now_s=lambda: 0.0, limit_s=60.0))


def test_the_next_cable_is_the_one_that_was_not_there_also_in_the_same_socket() -> None:
    before = {"/dev/ttyACM0"}
    assert waited([["/dev/ttyACM0"], ["/dev/ttyACM0", "/dev/ttyACM1"]], before) == [None, "/dev/ttyACM1"]
    assert waited([["/dev/ttyACM0"], [], ["/dev/ttyACM0"]], before) == [None, None, "/dev/ttyACM0"]
    with pytest.raises(ProvisionError, match="2 devices were plugged in at once"):
        waited([["/dev/ttyACM0", "/dev/ttyACM1"]], set())


def test_a_cable_that_does_not_come_is_not_waited_for_for_ever() -> None:
    clock = iter(range(100))
    with pytest.raises(ProvisionError, match="no device was plugged in for 3 s"):
        list(wait_for_cable(list, set(), now_s=lambda: float(next(clock)), limit_s=3.0))
