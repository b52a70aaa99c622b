"""Words that several rooms share, each defined once: forms of names, modes and reasons, file suffixes, bit masks.

The rooms import nothing of each other; their common words are defined here. This module needs only msgspec, since the
publisher and the laptop load it too.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

# ── forms; \Z and not $: the latter would let a line break pass at the end ──

WORDS: Final[dict[str, str]] = {}
"""Pattern → its description for a person whose text does not match it (`edge/forms.py`)."""


def form(pattern: str, words: str, *, max_length: int | None = None) -> Meta:
    """Return a pattern for a text, and keep its words."""
    WORDS[pattern] = words
    return Meta(pattern=pattern, max_length=max_length)


Slug = Annotated[
    str,
    form(
        r"^[a-z0-9][a-z0-9_-]{0,31}\Z",
        "a-z, 0-9, '-' and '_', at most 32 characters, beginning with a letter or a digit",
    ),
]
"""A device id: it stands in topics and in events."""

TopicPrefix = Annotated[
    str,
    form(
        r"^(?![/$])[^#+\x00-\x1f\x7f-\x9f]{1,64}(?<!/)\Z",
        "1 to 64 characters without # and +, that begin with neither / nor $ and do not end with /",
    ),
]
"""The start of an MQTT topic: no wildcard and no control character, which brokers refuse, and no empty level."""

PersonId = Annotated[str, form(r"^p-[a-z2-7]{8}\Z", "the id of a person, p-…, as `people list` shows it")]
"""Opaque: "p-" and 8 random base32 characters (`edge/identity/people_image.py` draws them)."""

PublishedName = Annotated[
    str,
    form(
        r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\"\\]{0,40}\Z",
        "a name as it is published, at most 40 characters on one line; empty: the id is published",
    ),
]
"""A person's name outside of the device, if the owner sets one."""

MAX_PRESENCE: Final = 16
"""People whose presence a device may publish: the state must stay small."""

ARMED_MINUTES: Final = (1, 60)
"""Shortest and longest time for which a device may be armed."""

ArmedMinutes = Annotated[int, Meta(ge=ARMED_MINUTES[0], le=ARMED_MINUTES[1])]

# ── modes and reasons, as the state tells them ──

Mode = Literal["active", "saver", "critical", "suspended"]
"""How much the device does, from all to nothing."""

LivenessMode = Literal["off", "mark", "deny", "broken"]  # broken: its model cannot be used
Supply = Literal["battery", "mains", "unknown"]

Wish = Literal[
    "none",  # nothing is wished
    "off",  # the governor is switched off
    "followed",
    "on_mains",  # it begins when the charger is left
    "no_battery",  # no battery is read
    "wrong_cells",  # the voltage does not fit the number of cells
    "gauge_unusable",  # the gauge's values are impossible
]
"""State of `[power] run_time`."""

PowerReason = Literal[
    "normal",
    "mains",
    "budget",
    "infeasible",
    "battery_low",
    "hot",
    "throttled",
    "undervoltage",
    "sensor_lost",
]
"""Why the power governor chose a mode."""

Reason = Literal[
    PowerReason,
    "starting",
    "stopping",
    "paused",
    "camera_lost",
    "camera_stalled",
    "camera_black",
    "camera_frozen",
    "disk",
    "store",  # the template store cannot be opened
    "settings",  # the owner's settings cannot be read
    "liveness",  # the liveness model cannot be used
]
"""Why the device is in its mode."""

SilentReason = Literal[
    "no_face",  # a look that found none
    "upright_after_90",  # a look that found a face only after the picture was turned clockwise by these degrees
    "upright_after_180",
    "upright_after_270",
    "not_confident",  # a find that may be no face
    "too_small",
    "cut_off",
    "too_blurred",
    "too_dark",
    "too_bright",
    "too_flat",
    "turned_away",
    "tilted",
    "misaligned",  # its landmarks do not fit a face
    "undecided",  # an encounter with fewer embeddings than a decision needs
    "nobody_near",  # an encounter that was reported as unknown
    "margin",  # an encounter with one of several enrolled people, but not clear which
    "twice_in_view",  # an encounter with the face of a person in view: a mirror, a photo
    "picture",  # an encounter whose face was not live, and denied
    "not_surely_live",  # an encounter of unknown liveness, and denied
    "paused",
    "no_energy",
]
"""Why there was no event: of looks, of faces, of encounters, and of the time in which nothing is looked at."""

# ── files ──

IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEO_SUFFIXES: Final = frozenset({".mp4", ".avi", ".mkv", ".mov", ".mjpeg", ".mjpg", ".webm"})

# ── hardware ──

PI_THROTTLED: Final = "devices/platform/soc*/soc*firmware/get_throttled"
"""File of the Raspberry Pi's firmware, below /sys: `soc/soc:firmware`; on a Pi 5 `soc@107c000000/soc@…:firmware`."""

PI_THROTTLED_BITS: Final = {
    0x1: "under-voltage",
    0x2: "frequency capped",
    0x4: "throttled",
    0x8: "soft temperature limit",
}
"""Live bits of that file. Source: Raspberry Pi documentation, `vcgencmd get_throttled`."""
