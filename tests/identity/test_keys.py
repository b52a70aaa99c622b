"""A store key is found and checked, never shown, and never generated in place of a missing one."""

from __future__ import annotations

import copy
import os
import pickle
import stat
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge.errors import StoreKeyError
from edge.identity.keys import StoreKey, create_key_file, load_key, load_or_create_key, strength

SECRET = bytes(range(100, 132))


def _write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def _same(a: StoreKey, b: StoreKey) -> bool:
    return a.derive("test", b"salt") == b.derive("test", b"salt")


def _refusal(spec: str, data_dir: Path, environ: dict[str, str] | None = None) -> StoreKeyError:
    with pytest.raises(StoreKeyError) as caught:
        load_key(spec, data_dir, environ or {})
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    "content",
    [
        SECRET,
        SECRET.hex().encode(),
        SECRET.hex().upper().encode() + b"\n",
        b" " + SECRET.hex().encode() + b"\r\n",
    ],
)
def test_key_file_holds_raw_bytes_or_hexadecimal(content: bytes, tmp_path: Path) -> None:
    _write(tmp_path / "k", content)
    assert _same(load_key("file:k", tmp_path, {}), StoreKey(SECRET))


def test_an_absolute_path_is_used_unchanged(tmp_path: Path) -> None:
    path = _write(tmp_path / "k", SECRET)
    assert _same(load_key(f"file:{path}", tmp_path / "elsewhere", {}), StoreKey(SECRET))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        SECRET[:-1],
        SECRET + b"\n",
        SECRET.hex().encode()[:-1],
        b"g" * 64,
        b"\xff" * 64,
        b"a b" * 21 + b"c",
    ],
)
def test_a_malformed_key_is_refused_with_only_its_length_in_the_message(content: bytes, tmp_path: Path) -> None:
    _write(tmp_path / "k", content)
    error = _refusal("file:k", tmp_path)
    assert f"not a store key: {len(content)} bytes" in error.what


@pytest.mark.parametrize("content", [bytes(32), b"0" * 64, b"\xff" * 32, b"ab" * 32])
def test_key_that_is_not_random_is_refused(content: bytes, tmp_path: Path) -> None:
    _write(tmp_path / "k", content)
    assert "not random" in _refusal("file:k", tmp_path).what


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_key_file_open_to_others_is_refused(mode: int, tmp_path: Path) -> None:
    _write(tmp_path / "k", SECRET, mode)
    error = _refusal("file:k", tmp_path)
    assert f"{mode:04o}" in error.what
    assert "chmod 600" in error.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root can give files away")
def test_key_file_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(_write(tmp_path / "k", SECRET), 12345, 12345)
    assert "uid 12345" in _refusal("file:k", tmp_path).what


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root can give files away")
def test_root_may_use_the_key_of_the_data_folders_owner_and_makes_it_theirs(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    key = load_or_create_key("file:k", tmp_path, tmp_path / "store", {})
    assert (tmp_path / "k").stat().st_uid == 12345
    assert _same(key, load_key("file:k", tmp_path, {}))


def test_symbolic_link_is_followed_and_its_target_is_what_is_checked(tmp_path: Path) -> None:
    target = _write(tmp_path / "target", SECRET)
    (tmp_path / "link").symlink_to(target)
    assert _same(load_key("file:link", tmp_path, {}), StoreKey(SECRET))
    target.chmod(0o644)
    assert "0644" in _refusal("file:link", tmp_path).what


def test_pipe_folder_and_missing_file_are_refused_without_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "not a regular file" in _refusal("file:pipe", tmp_path).what
    (tmp_path / "folder").mkdir(mode=0o700)
    _refusal("file:folder", tmp_path)
    assert "no such store key" in _refusal("file:nothing", tmp_path).what


def test_credential_is_read_from_where_systemd_puts_it(tmp_path: Path) -> None:
    _write(tmp_path / "edge-store", SECRET, 0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert _same(load_key("credential:edge-store", tmp_path / "data", environ), StoreKey(SECRET))
    assert "LoadCredential" in _refusal("credential:other", tmp_path, environ).remedy
    assert "systemd unit" in _refusal("credential:edge-store", tmp_path).remedy


@pytest.mark.parametrize("name", ["../k", "a/b", "/etc/passwd", ".", ".."])
def test_credential_with_a_path_is_refused(name: str, tmp_path: Path) -> None:
    assert "not a path" in _refusal(f"credential:{name}", tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).what


@pytest.mark.parametrize("spec", ["", "file", "file:", "credential:", "store.key", "tpm:1", "FILE:k", "file:a\0b"])
def test_an_unknown_key_spec_is_refused(spec: str, tmp_path: Path) -> None:
    assert "not understood" in _refusal(spec, tmp_path).what
    with pytest.raises(StoreKeyError):
        strength(spec, tpm2=True)


def test_created_key_is_private_random_and_never_overwritten(tmp_path: Path) -> None:
    paths = [tmp_path / "new" / name for name in ("a", "b")]
    for path in paths:
        create_key_file(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, second = (path.read_bytes() for path in paths)
    assert first != second
    with pytest.raises(StoreKeyError, match="never overwritten"):
        create_key_file(paths[0])
    assert paths[0].read_bytes() == first


def test_key_is_made_only_while_there_is_neither_key_nor_store(tmp_path: Path) -> None:
    store = tmp_path / "templates.edge"
    first = load_or_create_key("file:k", tmp_path, store, {})
    assert _same(first, load_or_create_key("file:k", tmp_path, store, {}))
    store.write_bytes(b"sealed")
    assert _same(first, load_or_create_key("file:k", tmp_path, store, {}))
    (tmp_path / "k").unlink()
    with pytest.raises(StoreKeyError, match="was sealed with it"):
        load_or_create_key("file:k", tmp_path, store, {})
    assert not (tmp_path / "k").exists()


def test_missing_credential_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(StoreKeyError, match="no such store key"):
        load_or_create_key("credential:c", tmp_path, tmp_path / "s", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


def test_key_bytes_are_in_no_text() -> None:
    key = StoreKey(SECRET)
    texts = [repr(key), str(key), f"{key}", repr([key]), repr(vars(StoreKey))]
    for text in texts:
        assert SECRET.hex() not in text
        assert repr(SECRET)[2:-1] not in text
    for attempt in (lambda: pickle.dumps(key), lambda: copy.copy(key), lambda: copy.deepcopy(key)):
        with pytest.raises(TypeError, match="never pickled"):
            attempt()


def test_malformed_key_is_in_no_error_text(tmp_path: Path) -> None:
    almost = SECRET.hex()[:-1] + "x"
    _write(tmp_path / "k", almost.encode())
    error = _refusal("file:k", tmp_path)
    shown = "".join(traceback.format_exception(error))
    assert almost[:8] not in shown
    assert "'x'" not in shown


def test_derived_keys_differ_by_purpose_and_salt_and_follow_rfc_5869() -> None:
    key = StoreKey(SECRET)
    derived = {key.derive(purpose, salt) for purpose in ("seal", "wrap") for salt in (b"a" * 16, b"b" * 16)}
    assert len(derived) == 4
    assert key.derive("seal", b"a" * 16) == HKDF(SHA256(), 32, b"a" * 16, b"edge-face store 1 seal").derive(SECRET)


def test_the_protection_of_each_kind_of_key_is_described() -> None:
    assert strength("file:store.key", tpm2=True).level == "WEAK"
    assert strength("credential:store", tpm2=True).level == "PLATFORM"
    assert strength("credential:store", tpm2=False).level == "WEAK"
