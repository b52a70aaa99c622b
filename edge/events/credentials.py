"""Password, certificates and keys of the connection to the broker, read from the files that the configuration names."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from edge.config import MqttConfig
from edge.errors import PublisherError


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials. They are read at each attempt, so a changed file needs no restart."""

    password: str | None
    tls: ssl.SSLContext | None


def credentials(mqtt: MqttConfig) -> Credentials:
    """Read password and TLS files; raises PublisherError naming the file and what is wrong with it."""
    if not mqtt.tls and (mqtt.ca_file or mqtt.cert_file or mqtt.key_file):
        raise PublisherError("[mqtt] names TLS files but tls is false", "set tls = true, or remove the files")
    if mqtt.password_file and not mqtt.username:
        raise PublisherError("[mqtt] password_file is set but username is empty", "set username")
    password = _secret(mqtt.password_file).strip("\r\n") if mqtt.password_file else None
    return Credentials(password, _tls(mqtt) if mqtt.tls else None)


def _secret(name: str) -> str:
    """Return the text of a file that other users may not read."""
    path = Path(name)
    try:
        if path.stat().st_mode & 0o007:
            raise PublisherError(f"{name}: others can read it", f"chmod o-rwx {name}")
        return path.read_text(encoding="utf-8")
    except OSError as e:
        raise PublisherError(f"{name}: {e.strerror}", "check the path and that this user may read it") from None
    except UnicodeDecodeError:
        raise PublisherError(f"{name}: not UTF-8 text", "write the password alone into it") from None


class _ClosingSocket(ssl.SSLSocket):
    """Closes itself where the handshake fails: paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _tls(mqtt: MqttConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=mqtt.ca_file or None)
    except (OSError, ValueError) as e:
        raise PublisherError(f"{mqtt.ca_file}: not a CA certificate: {e}", "name a PEM file in ca_file") from None
    context.sslsocket_class = _ClosingSocket
    if mqtt.key_file:
        _secret(mqtt.key_file)
    if mqtt.cert_file:
        try:
            # the empty password makes an encrypted key an error instead of a question on a terminal
            context.load_cert_chain(mqtt.cert_file, mqtt.key_file or None, password="")
        except (OSError, ValueError) as e:
            what = f"{mqtt.cert_file}, {mqtt.key_file or 'no key_file'}: no client certificate with its key: {e}"
            raise PublisherError(
                what, "name matching PEM files in cert_file and key_file, the key unencrypted"
            ) from None
    return context
