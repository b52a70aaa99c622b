"""The fleet simulator: its plan, its counts, and the outboxes of its devices."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from edge.events.messages import State
from tests.fleet.test_store import conninfo, event, server
from tools.fleet import scenario
from tools.fleet.consumer import Batch
from tools.fleet.devices import Fleet, configured, depths, name_of, stretch, write
from tools.fleet.scenario import plan_of
from tools.fleet.store import EventStore

__all__ = ["conninfo", "server"]  # fixtures


def test_a_thousand_devices_get_the_full_form_and_few_a_short_one() -> None:
    full, short = plan_of(1000), plan_of(20, outage_s=3.0)
    assert (full.outage_s, full.killed_publishers, full.kill_node_every_s) == (120.0, 100, 20.0)
    assert (short.outage_s, short.killed_publishers) == (3.0, 10)
    assert plan_of(1).group == 1


@pytest.mark.parametrize("encounters", [1, 5, 400])
def test_encounters_keep_the_rhythm_of_a_day_within_the_time_they_have(encounters: int) -> None:
    times = stretch(7, encounters, 60.0)
    assert len(times) == encounters
    assert times == sorted(times)
    assert 0.0 <= times[0] <= times[-1] <= 60.0
    assert times != stretch(8, encounters, 60.0) or encounters == 1


def test_groups_hold_each_device_once() -> None:
    fleet = Fleet(devices=23, events=2, seconds=1.0, seed=1, host="h", port=1, group=10)
    assert [device for group in range(fleet.groups) for device in fleet.members(group)] == list(range(23))


def test_devices_write_into_real_outboxes_and_what_is_missing_doubled_or_misplaced_is_counted(
    tmp_path: Path, conninfo: str
) -> None:
    fleet = Fleet(devices=2, events=4, seconds=0.2, seed=1, host="127.0.0.1", port=1, group=1)
    write(fleet, tmp_path)
    assert list(depths(fleet, tmp_path)) == [4, 4]
    written = json.loads((tmp_path / "written.json").read_text())
    assert {device: sum(boots.values()) for device, boots in written.items()} == {name_of(0): 4, name_of(1): 4}
    (boot,) = written[name_of(0)]
    store = EventStore(conninfo)
    for seq in (1, 3, 2):
        store.keep([msgspec.structs.replace(event(seq, name_of(0)), boot=boot)])
    store.close()
    figures = scenario.counted(tmp_path, conninfo)
    assert figures == {"events": 8, "lost": 5, "duplicates": 0, "unexpected": 0, "out_of_order": 1}


def test_a_login_is_read_from_a_file_and_stands_in_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "password").touch(mode=0o600)
    fleet = Fleet(devices=1, events=2, seconds=1.0, seed=1, host="h", port=1, group=1, user="fleet")
    mqtt = configured(fleet, tmp_path, 0).mqtt
    assert (mqtt.acks, mqtt.username, mqtt.password_file) == (True, "fleet", str(tmp_path / "password"))


def test_a_batch_accepts_events_and_states_and_acknowledges_invalid_messages() -> None:
    batch = Batch()
    batch.take("event", b"{}", 1)
    batch.take("state", b"", 2)
    batch.take("state", b"\xff", 3)
    assert (batch.events, batch.oldest, batch.tags) == ([], [], [1, 2, 3])
    assert msgspec.structs.fields(State)
