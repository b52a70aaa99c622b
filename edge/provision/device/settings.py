"""The owner's settings over the cable, in their own folder: settings over edge.toml, and the broker's credentials.

Vision and publisher read this folder and never write it: on a device it belongs to the provisioning user, and its group
may read it. The settings pass the same checks as edge.toml before they are written. Each file is replaced as a whole.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge import config as configuration
from edge import files
from edge.config import Config, DataFolder, MqttConfig
from edge.errors import ConfigError, ProvisionError

_MAX_FILE_BYTES = 1 << 16
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)  # errors of `cryptography` for a damaged key or certificate
_KEY, _CERTIFICATE, _AUTHORITY = "mqtt-key.pem", "mqtt-cert.pem", "mqtt-ca.pem"
_PASSWORDS = ("mqtt-password", "mqtt-password-2")  # one is in use; a new password goes into the other


class OwnerSettings:
    """The settings folder of one device."""

    def __init__(self, config_path: Path) -> None:
        self._config_path = config_path

    def current(self) -> Config:
        """Return the configuration with the owner's settings over it; raises ConfigError."""
        return configuration.load(self._config_path)

    def readable(self) -> Config:
        """Return the configuration, without the owner's settings if they are damaged: enough for a reset."""
        try:
            return self.current()
        except ConfigError:
            return configuration.load_without_owner(self._config_path)

    def change(self, section: str, values: Mapping[str, Any]) -> None:
        """Set keys of one section, durably. After a ConfigError for a wrong value nothing has changed."""
        config = self.current()
        table = tomllib.loads(self._text(config.data))
        table.setdefault(section, {}).update(values)
        text = _toml(table)
        configuration.overlay(config, text, str(config.data.settings_file))
        self._write(config.data, config.data.settings_file.name, text.encode())

    def set_broker(self, values: Mapping[str, Any], password: str | None) -> None:
        """Set keys of [mqtt] and the password, empty for none, in one step; None leaves the password as it is.

        A stored password is never sent to another broker, nor in clear text if it was given for TLS: ProvisionError.
        After a ConfigError for a wrong value nothing has changed.
        """
        config = self.current()
        if password is None:
            if config.mqtt.password_file and _goes_elsewhere(config.mqtt, values):
                raise ProvisionError(
                    "the password that is set was given for another broker, or for TLS", "give the password again"
                )
            self.change("mqtt", values)
            return
        paths = [config.data.settings / name for name in _PASSWORDS]
        path = next(p for p in paths if str(p) != config.mqtt.password_file)  # the one that is not in use
        try:
            if password:
                self._write(config.data, path.name, password.encode())
            self.change("mqtt", {**values, "password_file": str(path) if password else ""})
        finally:
            used = self.current().mqtt.password_file
            for each in paths:
                if str(each) != used and each.parent.is_dir():
                    files.discard(each)

    def csr(self) -> str:
        """Return a request for a client certificate, PEM; makes the device's key when there is none."""
        config = self.current()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, config.device.id)])
        request = (
            x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key(config.data), hashes.SHA256())
        )
        return request.public_bytes(serialization.Encoding.PEM).decode()

    def set_certificate(self, certificate: str | None, authority: str | None) -> dict[str, Any]:
        """Store the certificates; return the keys of [mqtt] that name them."""
        config = self.current()
        chosen: dict[str, Any] = {"tls": True}
        parts: list[tuple[str, str, str]] = []
        if authority is not None:
            _parsed(authority)
            parts.append((_AUTHORITY, authority, "ca_file"))
        if certificate is not None:
            if not _same_key(_parsed(certificate), self._key(config.data)):
                raise ProvisionError(
                    "the certificate belongs to another key", "have the request that this device made signed: make-csr"
                )
            parts.append((_CERTIFICATE, certificate, "cert_file"))
            chosen["key_file"] = str(config.data.settings / _KEY)
        for name, pem, key in parts:
            self._write(config.data, name, pem.encode())
            chosen[key] = str(config.data.settings / name)
        return chosen

    def forget(self) -> None:
        """Remove all settings, the key of the broker's certificate first."""
        folder = self.readable().data.settings
        for name in (_KEY, *_PASSWORDS, _CERTIFICATE, _AUTHORITY, "settings.toml"):
            if folder.is_dir():
                files.discard(folder / name)

    def _text(self, data: DataFolder) -> str:
        try:
            return files.read(data.settings_file, _MAX_FILE_BYTES).decode()
        except FileNotFoundError:
            return ""

    def _key(self, data: DataFolder) -> ec.EllipticCurvePrivateKey:
        path = data.settings / _KEY
        try:
            raw = files.read(path, _MAX_FILE_BYTES)
        except FileNotFoundError:
            made = ec.generate_private_key(ec.SECP256R1())
            plain = serialization.NoEncryption()  # as safe as the medium: the file belongs to the device, mode 0600
            form = serialization.PrivateFormat.PKCS8
            self._write(data, _KEY, made.private_bytes(serialization.Encoding.PEM, form, plain))
            return made
        try:
            key = serialization.load_pem_private_key(raw, None)
        except _UNREADABLE:
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ProvisionError(f"{path}: not a key of this program", "reset the device, or remove the file")
        return key

    def _write(self, data: DataFolder, name: str, content: bytes) -> None:
        try:
            data.settings.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.replace(data.settings / name, content, shared=True)  # vision and publisher read it
        except OSError as e:
            raise ProvisionError(
                f"{data.settings / name}: cannot be written: {e.strerror}", "check the medium"
            ) from None


def _toml(table: Mapping[str, Mapping[str, Any]]) -> str:
    # JSON's strings, numbers and booleans are TOML's too; DEL is the exception, and no value may hold it.
    lines = ["# Written by edge-enroll; replaces the values of edge.toml."]
    for section, values in sorted(table.items()):
        lines += [
            f"[{section}]",
            *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()),
        ]
    return "\n".join(lines) + "\n"


def _parsed(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except _UNREADABLE:
        raise ProvisionError("not a certificate in PEM", "hand in the file that the authority has issued") from None


def _same_key(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        theirs = certificate.public_key().public_bytes(*form)
    except _UNREADABLE:  # an unknown kind of key or curve, or a point that is on none
        return False
    return theirs == key.public_key().public_bytes(*form)


def _goes_elsewhere(mqtt: MqttConfig, values: Mapping[str, Any]) -> bool:
    """Whether these values name another broker, or switch the encryption off."""
    wanted = {key: values.get(key, getattr(mqtt, key)) for key in ("host", "port", "tls")}
    return (wanted["host"], wanted["port"]) != (mqtt.host, mqtt.port) or (mqtt.tls and not wanted["tls"])
