"""One daemon per data folder, with a clear error; and a device that generates its id once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge import config
from edge.config import Config
from edge.errors import ConfigError
from edge.processes import instance
from edge.processes.instance import SecondInstanceError
from tools.rig.workbench import Bench

HOLD = """
import pathlib, sys
from edge import config
from edge.processes import instance
with instance.sole(config.load(pathlib.Path(sys.argv[1])), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def unnamed(folder: Path) -> Config:
    return config.parse(f"[device]\ndata_dir = {json.dumps(str(folder / 'data'))}\n", "edge.toml")


@pytest.mark.parametrize("process", ["vision", "publisher"])
def test_a_second_process_on_a_folder_is_refused_and_the_first_is_named(
    bench: Bench, process: instance.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "_PATIENCE_S", 0.1)
    command = [sys.executable, "-c", HOLD, str(bench.path), process]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        assert instance.running(bench.settings.data, process)
        refused = pytest.raises(SecondInstanceError, match=rf"runs on this folder \(process {first.pid}\)")
        with refused, instance.sole(bench.settings, process):
            pass
        answer = bench.call("run")
        assert (answer.code, f"(process {first.pid})" in answer.complaint) == (1, True)
        assert "data_dir of its own" in answer.complaint
        first.kill()
    assert not instance.running(bench.settings.data, process), "a killed process leaves no lock behind"
    with instance.sole(bench.settings, process):
        assert instance.running(bench.settings.data, process)


def test_vision_and_publisher_may_run_together(bench: Bench) -> None:
    with instance.sole(bench.settings, "vision"), instance.sole(bench.settings, "publisher"):
        pass


def test_a_process_that_is_ending_is_waited_for(bench: Bench) -> None:
    held = instance.sole(bench.settings, "vision")
    held.__enter__()
    threading.Timer(0.3, lambda: held.__exit__(None, None, None)).start()
    with instance.sole(bench.settings, "vision"):
        pass


def test_a_data_folder_that_cannot_be_made_names_the_key_to_set(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"\[device\] data_dir"), instance.sole(unnamed(tmp_path), "vision"):
        pass


def test_a_device_generates_an_id_at_its_first_run_and_keeps_it(tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in "ab")
    ids = []
    for folder in (first, second):
        with instance.sole(unnamed(folder), "vision") as named:
            ids.append(named.device.id)
        with instance.sole(unnamed(folder), "publisher") as named:
            assert named.device.id == ids[-1], "vision and publisher agree"
    assert ids[0] != ids[1]
    assert all(re.fullmatch(r"edge-[0-9a-f]{6}", one) for one in ids)
    (first / "edge.toml").write_text(f"[device]\ndata_dir = {json.dumps(str(first / 'data'))}\n", encoding="utf-8")
    assert config.load(first / "edge.toml").device.id == ids[0], "all commands agree"


def test_vision_and_publisher_that_start_together_generate_one_id(tmp_path: Path) -> None:
    for i in range(20):
        settings, gate = unnamed(tmp_path / str(i)), threading.Barrier(2)
        drawn: set[str] = set()

        def draw(settings: Config = settings, drawn: set[str] = drawn, gate: threading.Barrier = gate) -> None:
            gate.wait()
            drawn.add(instance.named(settings).device.id)

        threads = [threading.Thread(target=draw) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(drawn) == 1
        assert drawn != {"edge"}


def test_a_chosen_id_stays_and_so_does_that_of_a_device_of_an_earlier_version(bench: Bench, tmp_path: Path) -> None:
    with instance.sole(bench.settings, "vision") as named:
        assert named.device.id == "bench"
    older = unnamed(tmp_path / "older")
    older.data.outbox.parent.mkdir(parents=True)
    older.data.outbox.write_bytes(b"")
    assert instance.named(older).device.id == "edge"
    assert not older.data.own_id.exists()
