"""Limits guesses at the code: one guess after each arming; after five wrong guesses, a growing wait.

The count is on the disk before a guess is answered, so a pulled cable or a restart cannot undo it. Times are from the
clock that counts suspend and starts at boot: an arming ends with its boot, and a wait starts again at the next one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edge import files
from edge.errors import ProvisionError
from edge.provision.protocol.code import ALPHABET, CODE_CHARACTERS, canonical
from edge.provision.protocol.session import Alert, Refusal

FREE_GUESSES = 5
_FIRST_WAIT_S, _MOST_WAIT_S = 60.0, 86_400.0
_LOCK_S = 5.0
_MAX_FILE_BYTES = 4096


class _Guesses(msgspec.Struct, forbid_unknown_fields=True):
    boot: str = ""
    armed_until_s: float = 0.0
    under_way_until_s: float = 0.0  # the arming before its guess was used
    failures: int = 0  # guesses since the last right one
    wait_until_s: float = 0.0


class Arming:
    """The guesses of one device, in a file that the command `arm` and the provisioning process share.

    A device with this file is armed only by its owner, never by its first start (edge-first-start.service).
    """

    def __init__(self, folder: Path, boot: str, now_s: Callable[[], float]) -> None:
        self._path = folder / "arming.json"
        self._boot = boot
        self._now_s = now_s

    @property
    def is_new(self) -> bool:
        """Whether this device was never armed: its first start arms it."""
        return not self._path.exists()

    def arm(self, minutes: float) -> float:
        """Allow one guess for this time; returns the seconds to wait first, 0: it is armed."""
        with self._changed() as guesses:
            wait_s = self._waiting_s(guesses)
            if wait_s == 0:
                guesses.armed_until_s = self._now_s() + 60 * minutes
            return wait_s

    def disarm(self) -> None:
        """Allow no guess."""
        with self._changed() as guesses:
            guesses.armed_until_s = guesses.under_way_until_s = 0.0

    def left_s(self) -> float:
        """Remaining time in which a guess is allowed, s; 0: not armed."""
        return max(0.0, self._read().armed_until_s - self._now_s())

    def spend(self) -> Refusal | None:
        """Use the guess of this arming, durably; or return why there is none."""
        with self._changed() as guesses:
            if wait_s := self._waiting_s(guesses):
                return Refusal(Alert.WAIT, int(wait_s) + 1)
            if guesses.armed_until_s <= self._now_s():
                return Refusal(Alert.NOT_ARMED)
            guesses.under_way_until_s, guesses.armed_until_s = guesses.armed_until_s, 0.0
            guesses.failures += 1
            guesses.wait_until_s = self._now_s() + wait_after_s(guesses.failures)
            return None

    def proven(self) -> None:
        """Give the guess back: it was right."""
        with self._changed() as guesses:
            guesses.armed_until_s, guesses.under_way_until_s = guesses.under_way_until_s, 0.0
            guesses.failures, guesses.wait_until_s = 0, 0.0

    def _waiting_s(self, guesses: _Guesses) -> float:
        return max(0.0, guesses.wait_until_s - self._now_s())

    def _read(self) -> _Guesses:
        try:
            guesses = msgspec.json.decode(files.read(self._path, _MAX_FILE_BYTES), type=_Guesses)
        except FileNotFoundError:
            return _Guesses(boot=self._boot)
        except (msgspec.MsgspecError, OSError):
            # A file that is not ours counts as the worst that it could say.
            guesses = _Guesses(failures=2 * FREE_GUESSES)
        if guesses.boot != self._boot:
            wait_s = wait_after_s(guesses.failures)
            guesses = _Guesses(self._boot, failures=guesses.failures, wait_until_s=self._now_s() + wait_s)
        return guesses

    @contextmanager
    def _changed(self) -> Iterator[_Guesses]:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with files.locked(self._path.with_suffix(".lock"), _LOCK_S):
                guesses = self._read()
                yield guesses
                files.replace(self._path, msgspec.json.encode(guesses))
        except OSError as e:
            raise ProvisionError(f"{self._path}: cannot be written: {e.strerror}", "check the medium") from None


def wait_after_s(failures: int) -> float:
    """Return the wait after a number of wrong guesses: none up to five, then it doubles each time."""
    if failures < FREE_GUESSES:
        return 0.0
    return min(_MOST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failures - FREE_GUESSES, 20))


def load_or_make_code(folder: Path) -> str:
    """Return the code of this device as it stands on its label, "K7QM-3XPD"; made once, at random.

    ProvisionError where the file holds none: whatever else stood there would be a code that is easier to guess.
    """
    path = folder / "code"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_CHARACTERS))
            files.replace(path, code.encode() + b"\n")
        code = canonical(files.read(path, _MAX_FILE_BYTES).decode("ascii").strip()).decode("ascii")
    except (OSError, UnicodeDecodeError) as e:
        raise ProvisionError(f"{path}: the code cannot be read or made: {e}", "check the medium") from None
    if len(code) != CODE_CHARACTERS or not set(code) <= set(ALPHABET):
        raise ProvisionError(
            f"{path}: not a code of {CODE_CHARACTERS} characters",
            "write the one of the label into it; or remove it, and a new one is made",
        )
    return f"{code[:4]}-{code[4:]}"
