"""`check-config`, and the errors of every command about an unusable configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.rig.workbench import Bench

# Words of msgspec, tomllib and Python's re that no message may contain.
LIBRARY_WORDS = re.compile(r"matching regex|Expected `|Invalid enum|Invalid value|Cannot overwrite|Object |\\Z|\$\.")
SHIPPED = Path(__file__).parents[2] / "config" / "edge.toml"


def test_shipped_configuration_is_good(bench: Bench) -> None:
    shipped = SHIPPED.read_text(encoding="utf-8")
    bench.path.write_text(shipped.replace('"/var/lib/edge"', f"'{bench.data}'"), encoding="utf-8")
    answer = bench.call("check-config")
    assert (answer.code, answer.output) == (0, f"{bench.path}: good\n")


def test_a_misspelt_key_is_reported_with_file_line_key_value_and_the_nearest_key(bench: Bench) -> None:
    bench.path.write_text('[device]\nid = "door"\n\n[recognition]\nthread = 3\n', encoding="utf-8")
    answer = bench.call("check-config")
    assert (answer.code, answer.output) == (2, "")
    assert answer.complaint == (
        f"error: {bench.path}:5: unknown key: [recognition] thread = 3\n  → did you mean 'threads'?\n"
    )


def test_a_wrong_type_is_reported_with_file_line_key_and_value(bench: Bench) -> None:
    bench.path.write_text('[mqtt]\nhost = "localhost"\nport = "1883"\n', encoding="utf-8")
    answer = bench.call("check-config")
    assert answer.code == 2
    assert f"{bench.path}:3: [mqtt] port = '1883': " in answer.complaint


def test_invalid_toml_is_reported_with_its_place(bench: Bench) -> None:
    bench.path.write_text("[device\n", encoding="utf-8")
    answer = bench.call("check-config")
    assert answer.code == 2
    assert f"{bench.path}:1: not TOML: a section without its end: [device" in answer.complaint


@pytest.mark.parametrize(
    ("section", "line", "complaint"),
    [
        ("recognition", "fmr = 0.05", "fmr must lie in 1e-4..1e-2"),
        ("recognition", "fmr = 5e-5", "fmr must lie in 1e-4..1e-2"),
        ("recognition", "min_embeddings = 9", "min_embeddings <= max_embeddings is needed"),
        ("recognition", 'model = "Light CNN"', "must be the name of a model: a-z, 0-9"),
        ("store", 'key = "store.key"', "must be file:PATH or credential:NAME"),
        ("store", 'key = "credential:a/b"', "must be file:PATH or credential:NAME"),
        ("camera", 'source = "mjpeg"', "needs [camera] url, which is not set"),
        ("camera", 'source = "rtsp"\nurl = "http://cam/1"', "is no address of a stream"),
        ("camera", 'source = "video"\npaths = ["rtsp://cam/1"]', "holds a network address, not a path"),
        ("camera", 'source = "v4l2"\ndevice = "rtsp://cam/1"', "holds a network address, not a path"),
        ("camera", 'source = "video"', "needs [camera] paths, which is not set"),
        ("camera", 'source = "images"', "needs [camera] paths, which is not set"),
        ("camera", 'source = "gstreamer"', "needs [camera] pipeline, which is not set"),
        ("camera", 'source = "webcam"', "must be one of: gstreamer, images, mjpeg, picamera2, rtsp, v4l2, video"),
        ("mqtt", 'prefix = "home/"', "did you mean 'home'?"),
        ("mqtt", 'discovery_prefix = "/homeassistant"', "did you mean 'homeassistant'?"),
        ("mqtt", 'host = "mqtt://broker"', 'write host = "broker"'),
        ("mqtt", 'host = "mqtts://me@broker:8883/x"', 'write host = "broker", port = 8883, tls = true'),
        ("mqtt", 'host = "localhost:1883"', 'write host = "localhost", port = 1883'),
        ("mqtt", 'host = ""', "names no broker"),
        ("mqtt", "port = 8883", "8883 is the port of TLS, and tls is false"),
        ("mqtt", 'username = "anna"', "has no password_file"),
        ("mqtt", 'tls = true\ncert_file = "/no/cert.pem"', "no such file"),
        ("mqtt", 'password_file = "/no/word"\nusername = "anna"', "no such file"),
        ("camera", 'paths = ["/no/clip.avi"]\nsource = "video"', "/no/clip.avi: no such file or folder"),
    ],
)
def test_values_that_vision_would_refuse_are_reported_with_file_line_and_key(
    bench: Bench, section: str, line: str, complaint: str
) -> None:
    device = f"[device]\ndata_dir = '{bench.data}'"
    bench.path.write_text(f"{device}\n[{section}]\n{line}\n", encoding="utf-8")
    answer = bench.call("check-config")
    assert answer.code == 2
    assert f"{bench.path}:" in answer.complaint
    named = {key.partition(" ")[0] for key in line.splitlines()}
    assert any(f": [{section}] {key} = " in answer.complaint for key in named)
    assert complaint in answer.complaint
    assert not LIBRARY_WORDS.search(answer.complaint)


def test_several_faults_are_all_named_at_once(bench: Bench) -> None:
    bench.configure({"mqtt": {"port": 8883, "username": "anna"}, "camera": {"source": "video", "paths": ["/no/clip"]}})
    answer = bench.call("check-config")
    assert answer.code == 2
    assert all(key in answer.complaint for key in ("[camera] paths", "[mqtt] port", "[mqtt] username"))


def test_a_data_folder_that_this_user_cannot_make_is_named_with_the_key_to_set(bench: Bench) -> None:
    (bench.folder / "file").write_bytes(b"")
    bench.configure()
    text = bench.path.read_text(encoding="utf-8").replace(str(bench.data), str(bench.folder / "file"))
    bench.path.write_text(text, encoding="utf-8")
    answer = bench.call("check-config")
    assert answer.code == 2
    assert "[device] data_dir = " in answer.complaint


def test_an_unknown_model_is_reported_with_the_known_ones(bench: Bench) -> None:
    bench.configure({"recognition": {"model": "facenet"}})
    answer = bench.call("check-config")
    assert (answer.code, answer.output) == (2, "")
    assert answer.complaint == (
        f"error: {bench.path}: [recognition] model: no embedder is called 'facenet'\n  → known: lightcnn9, sface\n"
    )


@pytest.mark.parametrize("command", ["check-config", "run", "vision", "publish", "status", "doctor"])
def test_missing_configuration_ends_every_command_with_code_2(bench: Bench, command: str) -> None:
    bench.path.unlink()
    answer = bench.call(command)
    assert answer.code == 2
    assert answer.complaint.startswith(f"error: {bench.path}: no such file\n  → ")
    assert not bench.data.exists()


def test_unknown_command_and_missing_argument_end_with_code_2_and_no_traceback(bench: Bench) -> None:
    for arguments in (["recognise"], ["people", "rename", "p-aaaaaaaa"], ["people", "add", "Ada"]):
        answer = bench.call(*arguments)
        assert answer.code == 2
        assert "Usage:" in answer.errors
        assert "Traceback" not in answer.errors
