"""The counter of removals in a TPM2: once it was raised, no older copy of the store opens any more.

The seal of such a store needs the store key and a random secret of 32 bytes. The TPM2 reveals the secret only while its
counter has the value that the secret is bound to (TPM2_PolicyNV). A removal binds a new secret to the next value,
replaces the file, then raises the counter: the TPM2 never reveals the secrets of earlier files again. A TPM2 cannot set
a counter back; one that is deleted and defined again goes on above the highest value that any counter of this TPM2 had
(TCG TPM 2.0 Library, part 1, "NV counter"). The secret reaches this process over the TPM's bus in clear; without the
store key it opens nothing.

tpm2-tools of the distribution speak to the TPM2. No secret is in their arguments or environment.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from edge.errors import StoreError

SECRET_BYTES = 32
_INDEX = "0x01500edf"  # among the handles for owners
_ATTRIBUTES = "authread|authwrite|ownerread|ownerwrite|no_da|nt=counter"
_VALUE = struct.Struct(">Q")
_LENGTHS = struct.Struct(">HH")  # of the public and the private part of a sealed object
_TIMEOUT_S = 20.0  # of one command; a discrete TPM takes up to 2 s for a primary key
_MAX_PART_BYTES = 1024
_REMEDY = "check that tpm2-tools are installed and that the unit may open the TPM2 (docs/install.md)"


def bound_value(bound: bytes) -> int:
    """Return the value that a secret is bound to; StoreError for what `bind` did not make."""
    if len(bound) < _VALUE.size:
        raise StoreError("damaged: what is bound to the TPM2 is incomplete", "put the file back from a backup")
    value: int = _VALUE.unpack_from(bound)[0]
    return value


class Counter:
    """The counter of this device's TPM2. `environ`: TPM2TOOLS_TCTI names another TPM2 than /dev/tpmrm0."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = {"PATH": environ.get("PATH", os.defpath)}
        self._environ["TPM2TOOLS_TCTI"] = environ.get("TPM2TOOLS_TCTI", "device:/dev/tpmrm0")

    def value(self) -> int:
        """Return the value; 0 where there is no counter yet. Raises StoreError."""
        with _Commands(self._environ) as commands:
            return self._value(commands)

    def raise_above(self, value: int) -> int:
        """Raise the counter once, where it is at `value` or below; returns the value that it has. Raises StoreError."""
        with _Commands(self._environ) as commands:
            now = self._value(commands)
            if now <= value:
                if now == 0 and not self._is_defined(commands):
                    commands.run("tpm2_nvdefine", _INDEX, "-C", "o", "-a", _ATTRIBUTES)
                commands.run("tpm2_nvincrement", _INDEX, "-C", _INDEX)
                now = self._value(commands)
        return now

    def bind(self, secret: bytes, value: int) -> bytes:
        """Return `secret` as only this TPM2 reveals it, while the counter has this value. Raises StoreError."""
        with _Commands(self._environ) as commands:
            commands.run("tpm2_startauthsession", "-S", "trial")  # computes the policy and checks nothing
            self._at(value, "trial", commands)
            commands.run("tpm2_flushcontext", "trial")
            self._primary(commands)
            sealed = ("-u", "public", "-r", "private", "-L", "policy", "-i", "-", "-a", "fixedtpm|fixedparent|noda")
            commands.run("tpm2_create", "-C", "primary", *sealed, stdin=secret)
            public, private = commands.content("public"), commands.content("private")
        return _VALUE.pack(value) + _LENGTHS.pack(len(public), len(private)) + public + private

    def reveal(self, bound: bytes) -> bytes:
        """Return the secret of `bind`; StoreError where the counter has another value, or for another TPM2."""
        value, (public, private) = bound_value(bound), _parts(bound)
        with _Commands(self._environ) as commands:
            commands.put("public", public)
            commands.put("private", private)
            self._primary(commands)
            commands.run("tpm2_load", "-C", "primary", "-u", "public", "-r", "private", "-c", "object")
            commands.forget_objects()
            commands.run("tpm2_startauthsession", "--policy-session", "-S", "session")
            self._at(value, "session", commands)
            return commands.run("tpm2_unseal", "-c", "object", "-p", "session:session")

    def _value(self, commands: _Commands) -> int:
        try:
            value: int = _VALUE.unpack(commands.run("tpm2_nvread", _INDEX, "-C", _INDEX, "-s", str(_VALUE.size)))[0]
        except StoreError:
            if self._is_defined(commands) and "written" in commands.run("tpm2_nvreadpublic", _INDEX).decode():
                raise
            return 0
        return value

    def _is_defined(self, commands: _Commands) -> bool:
        handles = commands.run("tpm2_getcap", "handles-nv-index").decode().replace("-", " ").split()
        return int(_INDEX, 16) in {int(handle, 16) for handle in handles}

    def _primary(self, commands: _Commands) -> None:
        commands.run("tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", "primary")
        commands.forget_objects()

    def _at(self, value: int, session: str, commands: _Commands) -> None:
        """Have a session demand that the counter has a value."""
        operand = ("-i", "-", "-L", "policy", "-C", _INDEX, _INDEX, "eq")
        commands.run("tpm2_policynv", "-S", session, *operand, stdin=_VALUE.pack(value))


def _parts(bound: bytes) -> tuple[bytes, bytes]:
    begin = _VALUE.size + _LENGTHS.size
    lengths = _LENGTHS.unpack_from(bound, _VALUE.size) if len(bound) >= begin else (0, 0)
    if not all(0 < n <= _MAX_PART_BYTES for n in lengths) or len(bound) != begin + sum(lengths):
        raise StoreError("damaged: what is bound to the TPM2 is incomplete", "put the file back from a backup")
    return bound[begin : begin + lengths[0]], bound[begin + lengths[0] :]


class _Commands:
    """A folder of its own in which tpm2-tools run; it goes with the block."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._made = tempfile.TemporaryDirectory(prefix="edge-tpm2-")

    def __enter__(self) -> Self:
        self._folder = Path(self._made.__enter__())
        return self

    def __exit__(self, *_: object) -> None:
        if any(self._folder.glob("session*")):  # /dev/tpmrm0 does so by itself
            with contextlib.suppress(StoreError):
                self.run("tpm2_flushcontext", "--loaded-session")
        self._made.cleanup()

    def put(self, name: str, content: bytes) -> None:
        (self._folder / name).write_bytes(content)

    def content(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def forget_objects(self) -> None:
        """Free the TPM's few places; what is needed lies in files."""
        self.run("tpm2_flushcontext", "--transient-object")

    def run(self, *command: str, stdin: bytes = b"") -> bytes:
        """Run one command; returns what it printed. Raises StoreError."""
        try:
            done = subprocess.run(  # noqa: S603  # a fixed list
                command,
                input=stdin,
                cwd=self._folder,
                env=self._environ,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise StoreError(f"the TPM2 cannot be used: {e}", _REMEDY) from None
        if done.returncode != 0:
            said = [line for line in done.stderr.decode(errors="replace").splitlines() if "rror" in line]
            why = said[-1].rpartition("ERROR: ")[2] if said else f"exit code {done.returncode}"
            raise StoreError(f"the TPM2 refuses {command[0]}: {why}", _REMEDY)
        return done.stdout
