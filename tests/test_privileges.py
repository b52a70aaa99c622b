"""Commands run by root continue as the owner of the data folder; files of earlier versions get the current owners."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.privileges import drop_to_owner, share

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="skipped: being another user needs root")
NOBODY = 65534
_DROPPED = """
import os, sys
from pathlib import Path
from edge.privileges import drop_to_owner
drop_to_owner(Path(sys.argv[1]))
print(os.getresuid(), os.getgid())
print(Path(sys.argv[2]).read_text())
try:
    Path(sys.argv[2]).write_text("changed")
except PermissionError:
    print("not written")
os.execvp("cat", ["cat", sys.argv[2]])
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):  # noqa: S108  # pytest's own, closed to others
            folder.chmod(0o755)
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    os.chown(made, NOBODY, NOBODY)
    return made


@ROOT
def test_root_becomes_the_owner_and_keeps_only_the_right_to_read_given_files(tmp_path: Path, data: Path) -> None:
    photo = tmp_path / "photo"
    photo.write_text("of root")
    photo.chmod(0o600)
    command = [sys.executable, "-c", _DROPPED, str(data / "not" / "there" / "yet"), str(photo)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"({NOBODY}, {NOBODY}, {NOBODY}) {NOBODY}", "of root", "not written"]
    assert "Permission denied" in done.stderr  # its child processes may not read it
    assert photo.read_text() == "of root"


@ROOT
def test_a_command_of_root_writes_as_the_owner_and_through_no_link(tmp_path: Path, data: Path) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(f'[device]\ndata_dir = "{data}"\n')
    command = [sys.executable, "-m", "edge.cli.daemon", "arm", "--config", str(config)]
    subprocess.run(command, check=True, capture_output=True)
    made = list((data / "provision").iterdir())
    assert made
    assert {path.stat().st_uid for path in made} == {NOBODY}
    secret = tmp_path / "shadow"
    secret.write_text("of root")
    for path in made:
        path.unlink()
        path.symlink_to(secret)
    subprocess.run(command, check=False, capture_output=True)
    assert (secret.read_text(), secret.stat().st_uid) == ("of root", 0)


def test_with_an_own_folder_nothing_changes(tmp_path: Path) -> None:
    before = os.getresuid()
    drop_to_owner(tmp_path)
    assert os.getresuid() == before


@ROOT
def test_files_of_an_earlier_version_get_owner_and_mode_of_their_folder(tmp_path: Path) -> None:
    folder, target = tmp_path / "shared", tmp_path / "target"
    folder.mkdir()
    target.write_text("of root")
    for name in ("settings.toml", "code"):
        (folder / name).touch(0o600)
    (folder / "link").symlink_to(target)
    (folder / "hard").hardlink_to(target)
    os.chown(folder, NOBODY, NOBODY)
    share(folder)
    assert (folder / "code").stat().st_uid == 0  # not a shared folder yet
    folder.chmod(0o2750)
    share(folder, only={"settings.toml"})
    seen = {path.name: (path.stat().st_uid, path.stat().st_mode & 0o777) for path in folder.iterdir()}
    assert seen["settings.toml"] == (NOBODY, 0o640)
    assert seen["code"] == (NOBODY, 0o600)
    assert target.stat().st_uid == 0
