"""Arming: one guess per arming; after five failures a growing wait that survives restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ProvisionError
from edge.provision.device.arming import FREE_GUESSES, Arming, load_or_make_code, wait_after_s
from edge.provision.protocol.code import canonical
from edge.provision.protocol.session import Alert


class Clock:
    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def arming(tmp_path: Path, clock: Clock) -> Arming:
    return Arming(tmp_path, "boot-1", clock)


def refused(arming: Arming) -> Alert | None:
    refusal = arming.spend()
    return None if refusal is None else refusal.alert


def fail(arming: Arming, clock: Clock, times: int) -> None:
    for _ in range(times):
        clock.now += arming.arm(10)
        assert arming.arm(10) == 0
        assert refused(arming) is None


def test_without_arming_no_guess_is_accepted(arming: Arming) -> None:
    assert arming.is_new
    assert refused(arming) is Alert.NOT_ARMED


def test_an_arming_gives_one_guess_and_ends_with_its_time(arming: Arming, clock: Clock) -> None:
    arming.arm(10)
    assert refused(arming) is None
    assert refused(arming) is Alert.NOT_ARMED
    arming.arm(10)
    clock.now += 601
    assert refused(arming) is Alert.NOT_ARMED


def test_a_right_guess_leaves_the_device_armed_for_the_rest_of_its_time(arming: Arming, clock: Clock) -> None:
    arming.arm(10)
    assert refused(arming) is None
    arming.proven()
    clock.now += 599
    assert refused(arming) is None
    arming.proven()
    clock.now += 2
    assert refused(arming) is Alert.NOT_ARMED


def test_after_disarming_no_guess_is_accepted(arming: Arming) -> None:
    arming.arm(10)
    arming.disarm()
    assert arming.left_s() == 0
    assert refused(arming) is Alert.NOT_ARMED


def test_five_guesses_then_a_wait_that_doubles_with_each_further_one(arming: Arming, clock: Clock) -> None:
    fail(arming, clock, FREE_GUESSES)
    waits = []
    for _ in range(4):
        waits.append(arming.arm(10))
        refusal = arming.spend()
        assert refusal is not None
        assert refusal.alert is Alert.WAIT
        assert refusal.wait_s >= waits[-1]
        clock.now += waits[-1]
        fail(arming, clock, 1)
    assert waits == pytest.approx([60, 120, 240, 480])
    assert wait_after_s(1000) == 86_400


def test_a_right_guess_after_four_wrong_ones_resets_the_count(arming: Arming, clock: Clock) -> None:
    fail(arming, clock, FREE_GUESSES - 1)
    arming.arm(10)
    assert refused(arming) is None
    arming.proven()
    fail(arming, clock, FREE_GUESSES)
    assert arming.arm(10) == pytest.approx(60)


def test_neither_a_restart_nor_a_reboot_gives_a_guess_back_or_shortens_a_wait(
    tmp_path: Path, arming: Arming, clock: Clock
) -> None:
    arming.arm(10)
    assert refused(arming) is None  # the process is killed here, before it answers
    assert refused(Arming(tmp_path, "boot-1", clock)) is Alert.NOT_ARMED
    fail(arming, clock, FREE_GUESSES - 1)
    clock.now += 50
    assert Arming(tmp_path, "boot-1", clock).arm(10) == pytest.approx(10)
    clock.now = 3.0  # the clock starts at boot
    assert Arming(tmp_path, "boot-2", clock).arm(10) == pytest.approx(60)


def test_an_arming_ends_with_its_boot(tmp_path: Path, arming: Arming, clock: Clock) -> None:
    arming.arm(60)
    assert refused(Arming(tmp_path, "boot-2", clock)) is Alert.NOT_ARMED


@pytest.mark.parametrize("content", [b"", b"{", b'{"failures": -5, "x": 1}', bytes(100), bytes(10_000)])
def test_a_damaged_count_is_treated_as_the_highest_count(tmp_path: Path, arming: Arming, content: bytes) -> None:
    arming.arm(10)
    (tmp_path / "arming.json").write_bytes(content)
    assert refused(arming) is Alert.WAIT


def test_the_code_is_generated_once_and_is_readable(tmp_path: Path) -> None:
    code = load_or_make_code(tmp_path)
    assert load_or_make_code(tmp_path) == code
    assert load_or_make_code(tmp_path / "other") != code
    assert len(canonical(code)) == 8
    assert (tmp_path / "code").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"K7QM", b"K7QM3XPD9", b"K7QM3XP*", b"\0" * 8, b"K7QM3XPU\n", b"\xff" * 8]
)
def test_a_file_that_holds_no_code_gives_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "code").write_bytes(content)
    with pytest.raises(ProvisionError, match="code"):
        load_or_make_code(tmp_path)
    assert (tmp_path / "code").read_bytes() == content, "the owner can restore the code of the label"


def test_a_code_may_stand_in_its_file_as_on_the_label(tmp_path: Path) -> None:
    (tmp_path / "code").write_text("k7qm-3xpd\n")
    assert load_or_make_code(tmp_path) == "K7QM-3XPD"


def test_a_code_is_understood_however_it_is_typed() -> None:
    assert canonical("k7qm-3xpd") == canonical(" K7QM 3XPD ") == b"K7QM3XPD"
    assert canonical("OIL0-1111") == b"01101111"


def test_an_unwritable_medium_is_reported(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProvisionError, match="cannot be written"):
        Arming(tmp_path / "file" / "folder", "boot-1", clock).arm(1)
