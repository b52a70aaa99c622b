"""The fleet simulator: its plan, its counts, and the outboxes of its devices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge.events.messages import State
from tests.fleet.test_store import conninfo, event, server
from tools.fleet.consumer import Batch
from tools.fleet.counts import counted
from tools.fleet.devices import depths
from tools.fleet.encounters import stretch, write
from tools.fleet.members import GO, PIDS, Fleet, configured, name_of
from tools.fleet.processes import Publishers, Taken, descendants
from tools.fleet.scenario import plan_of, storm_of
from tools.fleet.store import EventStore
from tools.rig.brokers import until

__all__ = ["conninfo", "server"]  # fixtures


def test_a_thousand_devices_get_the_full_form_and_few_a_short_one() -> None:
    full, short = plan_of(1000), plan_of(20, outage_s=3.0)
    assert (full.outage_s, full.killed_publishers, full.kill_node_every_s) == (120.0, 100, 20.0)
    assert (short.outage_s, short.killed_publishers) == (3.0, 10)


@pytest.mark.parametrize("encounters", [1, 5, 400])
def test_encounters_keep_the_rhythm_of_a_day_within_the_time_they_have(encounters: int) -> None:
    times = stretch(7, encounters, 60.0)
    assert len(times) == encounters
    assert times == sorted(times)
    assert 0.0 <= times[0] <= times[-1] <= 60.0
    assert times != stretch(8, encounters, 60.0) or encounters == 1


def test_host_processes_hold_each_device_once() -> None:
    fleet = Fleet(devices=23, events=2, seconds=1.0, seed=1, host="h", port=1, hosts=3)
    assert sorted(device for host in range(fleet.hosts) for device in fleet.members(host)) == list(range(23))


def test_the_wait_before_a_return_grows_with_the_fleet(tmp_path: Path) -> None:
    few, many = (Fleet(devices=n, events=2, seconds=1.0, seed=1, host="h", port=1) for n in (12, 10_000))
    assert configured(few, tmp_path, 0).mqtt.reconnect_s == 1.0
    assert configured(many, tmp_path, 0).mqtt.reconnect_s == configured(many, tmp_path, 0).mqtt.reconnect_max_s == 200.0


def test_a_publisher_that_is_killed_starts_again_in_a_process_of_its_own(tmp_path: Path) -> None:
    fleet = Fleet(devices=2, events=2, seconds=1.0, seed=1, host="127.0.0.1", port=1)
    (tmp_path / "fleet.json").write_bytes(msgspec.json.encode(fleet))
    host = subprocess.Popen([sys.executable, "-m", "tools.fleet.devices", str(tmp_path), "0"])
    publishers = Publishers(tmp_path, fleet, seed=1)
    try:
        until((tmp_path / PIDS / name_of(1)).exists, "both are started")
        before = publishers.pids()
        assert set(before) <= set(descendants(host.pid))
        publishers.kill_one()
        until(lambda: publishers.pids() != before, "the killed one is back")
        assert len(set(publishers.pids()) - set(before)) == 1
        taken = Taken.by(publishers.pids())
        assert taken.memory_mb > 1.0
    finally:
        host.terminate()
        assert host.wait(30) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in publishers.pids())


def test_chance_kills_each_device_once_before_one_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(devices=9, events=2, seconds=1.0, seed=1, host="h", port=1)
    publishers, killed = Publishers(tmp_path, fleet, seed=1), list[int]()
    monkeypatch.setattr(Publishers, "pid", lambda _, device: device)
    monkeypatch.setattr("tools.fleet.processes.os.kill", lambda pid, _: killed.append(pid))
    for _ in range(9):
        publishers.kill_one()
    assert sorted(killed) == list(range(9))
    assert killed != sorted(killed)


def test_the_return_is_described_by_connections_and_a_second_outage_is_seen() -> None:
    back = [(0.0, 0), (1.0, 40), (2.0, 100), (3.0, 100)]
    assert storm_of(back, 100, up_s=0.5) == {
        "all_connected_after_s": 1.5,
        "most_new_connections_a_second": 60,
        "fewest_connections_afterwards": 100,
        "second_outage": False,
    }
    assert storm_of([*back, (4.0, 20)], 100, up_s=0.5)["second_outage"]
    assert storm_of(back[:2], 100, up_s=0.5)["all_connected_after_s"] is None


def test_devices_write_into_real_outboxes_and_what_is_missing_doubled_or_misplaced_is_counted(
    tmp_path: Path, conninfo: str
) -> None:
    fleet = Fleet(devices=2, events=4, seconds=0.2, seed=1, host="127.0.0.1", port=1)
    (tmp_path / GO).touch()
    write(fleet, tmp_path)
    assert list(depths(fleet, tmp_path)) == [4, 4]
    written = json.loads((tmp_path / "written.json").read_text())
    assert {device: sum(boots.values()) for device, boots in written.items()} == {name_of(0): 4, name_of(1): 4}
    (boot,) = written[name_of(0)]
    store = EventStore(conninfo, log=True)
    for seq in (1, 3, 2, 2):
        store.keep([msgspec.structs.replace(event(seq, name_of(0)), boot=boot)])
    figures = {"events": 8, "lost": 5, "duplicates": 0, "out_of_order": 1, "deliveries": 4, "repeated_deliveries": 1}
    assert counted(tmp_path, conninfo) == figures
    taken_twice = msgspec.structs.replace(event(1, name_of(0)), boot="0" * 16)  # its id is known under another boot
    store.keep([taken_twice])
    store.close()
    assert counted(tmp_path, conninfo)["duplicates"] == 2, "an id that counts twice, and an event that nobody wrote"


def test_a_login_is_read_from_a_file_and_stands_in_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "password").touch(mode=0o600)
    fleet = Fleet(devices=1, events=2, seconds=1.0, seed=1, host="h", port=1, user="fleet")
    mqtt = configured(fleet, tmp_path, 0).mqtt
    assert (mqtt.acks, mqtt.username, mqtt.password_file) == (True, "fleet", str(tmp_path / "password"))


def test_a_batch_accepts_events_and_states_and_acknowledges_invalid_messages() -> None:
    batch = Batch()
    batch.take("event", b"{}", 1)
    batch.take("state", b"", 2)
    batch.take("state", b"\xff", 3)
    assert (batch.events, batch.oldest, batch.tags) == ([], [], [1, 2, 3])
    assert msgspec.structs.fields(State)
