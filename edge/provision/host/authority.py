"""Signs certificate requests of devices with an authority's key on this computer; a device's key never leaves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.errors import ProvisionError

_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)
_BEFORE = timedelta(hours=1)  # the clock of a broker may be behind


class Authority:
    """An authority with its key."""

    def __init__(self, certificate_pem: str, key_pem: str, *, days: int) -> None:
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
            key = serialization.load_pem_private_key(key_pem.encode(), password=None)
        except _UNREADABLE as e:
            raise ProvisionError(f"authority or its key is not PEM: {e}", "name both, the key unencrypted") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ProvisionError("the authority's key is neither RSA nor of an elliptic curve", "use such a key")
        if key.public_key() != self._certificate.public_key():
            raise ProvisionError("the authority's key is of another certificate", "name matching files")
        self._key, self._life = key, timedelta(days=days)

    def sign(self, request_pem: str, name: str, now: datetime | None = None) -> str:
        """Return a client certificate, PEM, for the key of a request; `name` is its common name."""
        now = now or datetime.now(UTC)
        request = x509.load_pem_x509_csr(request_pem.encode())
        if not request.is_signature_valid:
            raise ProvisionError("the device's request is damaged", "run it again")
        ends = min(now + self._life, self._certificate.not_valid_after_utc)
        if ends <= now:
            raise ProvisionError("the authority's certificate has expired", "make a new one")
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._certificate.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BEFORE)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM).decode()
