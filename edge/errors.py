"""The exceptions of the runtime: each has a fault and a remedy."""

from __future__ import annotations


class EdgeError(Exception):
    """An error the user can act on. `what` names the fault, `remedy` its correction."""

    exit_code = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}\n  → {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class ConfigError(EdgeError):
    """The configuration cannot be used."""

    exit_code = 2


class DependencyError(EdgeError):
    """An optional package that the chosen setting needs is not installed."""


def install_extra(name: str) -> str:
    """Return how an optional part of this project is installed: from a checkout, for no package index has it."""
    extras = name if name == "enroll" else f"enroll,{name}"  # `enroll` is what make install brings unasked
    return f"in a checkout: pip install '.[{name}]', or on a device: sudo make install EXTRAS={extras}"


class DescriptorsError(EdgeError):
    """The process has no file descriptor left."""

    def __init__(self) -> None:
        super().__init__(
            "out of file descriptors: nothing can be opened any more",
            "raise LimitNOFILE= in the unit (ulimit -n in a shell); ls -l /proc/PID/fd shows what holds them",
        )


class SourceError(EdgeError):
    """A camera, video or image cannot be read."""


class ModelError(EdgeError):
    """A model file is missing, altered, or computes wrong results."""


class StoreKeyError(EdgeError):
    """The store key is missing, malformed or readable by others."""


class StoreError(EdgeError):
    """The template store cannot be opened, read or written."""


class EnrolmentError(EdgeError):
    """A person cannot be enrolled from the given pictures."""


class NameTakenError(StoreError):
    """Somebody of this name is enrolled already."""


class DifferentPeopleError(EnrolmentError):
    """The pictures look like different people."""


class EventError(EdgeError):
    """An event breaks the allow-listed schema."""


class OutboxError(EdgeError):
    """The outbox cannot be opened, read or written."""


class PublisherError(EdgeError):
    """The broker cannot be used with these settings."""


class ProvisionError(EdgeError):
    """The device or the host refuses a message over the cable, or the cable is unplugged."""


class SensorError(EdgeError):
    """A power sensor that the configuration names cannot be opened."""
