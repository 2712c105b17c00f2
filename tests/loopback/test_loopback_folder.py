"""The Hub folder is private and consistent, and a failed start gives a one-line error."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from hubdpo.errors import ConfigError, MachineError
from hubdpo.loopback.server import LoopbackHub
from hubdpo.loopback.storage.folder import bytes_below, hold
from hubdpo.loopback.storage.store import Store
from hubdpo.loopback.storage.tokens import declared_in_environment, declared_in_file, parse_tokens


def serve(folder: Path, *options: str, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a `serve-hub` that must fail to start."""
    command = [sys.executable, "-c", "from hubdpo.cli.app import main; main()", "serve-hub", str(folder), *options]

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(command, capture_output=True, text=True, timeout=100, preexec_fn=limit)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_secret_that_is_not_whole_is_refused(tmp_path: Path, size: int) -> None:
    Store(tmp_path / "hub").close()
    (tmp_path / "hub" / "secret").write_bytes(bytes(size))
    with pytest.raises(ConfigError, match=f"{size} bytes instead of 32") as problem:
        Store(tmp_path / "hub")
    assert str(problem.value.hint).startswith(f"rm {tmp_path / 'hub' / 'secret'}")
    (tmp_path / "hub" / "secret").unlink()
    Store(tmp_path / "hub").close()


@pytest.mark.parametrize("largest_file", [0, 16, 1000])
def test_a_first_start_on_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, largest_file: int) -> None:
    done = serve(tmp_path / "deep" / "hub", largest_file=largest_file)
    assert (done.returncode, done.stdout) == (9, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: the Hub cannot write to") and hint.startswith("hint: df -h")
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_in_its_place_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "hub").mkdir()
    with monkeypatch.context() as patch, pytest.raises(MachineError, match="No space left"):
        patch.setattr("hubdpo.loopback.storage.folder.os.fsync", full)
        Store(tmp_path / "hub")
    assert not [path for path in (tmp_path / "hub").iterdir() if path.name.startswith("secret")]
    Store(tmp_path / "hub").close()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_other_users_cannot_read_the_folder(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as server:
            api = HfApi(endpoint=server.endpoint, token="hf_carol")
            api.create_repo("carol/x", private=True)
            api.upload_file(repo_id="carol/x", path_in_repo="w.bin", path_or_fileobj=b"\0" * 1000)
            api.create_collection("mine")
            top = [tmp_path / "hub", *(tmp_path / "hub").iterdir()]
            assert {path.name for path in top} >= {"hub.sqlite", "hub.sqlite-wal", "secret", "repos", "lfs"}
            assert [path.name for path in top if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    finally:
        os.umask(before)


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    Store(tmp_path / "hub").close()
    opened = [
        tmp_path / "hub",
        tmp_path / "hub" / "repos",
        tmp_path / "hub" / "hub.sqlite",
        tmp_path / "hub" / "secret",
    ]
    for path in opened:
        path.chmod(0o755)
    Store(tmp_path / "hub").close()
    assert [path for path in opened if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_a_folder_of_other_things_keeps_its_rights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "other").touch()
    Store(tmp_path).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert f"hint: chmod 700 {tmp_path}" in capsys.readouterr().err
    assert stat.S_IMODE((tmp_path / "repos").stat().st_mode) == 0o700


def test_a_second_server_leaves_the_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers start at the same time on a new folder."""
    first: list[Store] = []

    def hold_late(root: Path) -> object:
        monkeypatch.undo()
        first.append(Store(root))
        return hold(root)

    monkeypatch.setattr("hubdpo.loopback.storage.store.hold", hold_late)
    with pytest.raises(ConfigError, match="another server"):
        Store(tmp_path / "hub")
    assert (tmp_path / "hub" / "hub.sqlite").exists()
    first[0].close()


def test_a_folder_that_is_no_hub_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "hub.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(MachineError, match="not a database"):
        Store(tmp_path)


def hashes(root: Path) -> list[str]:
    with sqlite3.connect(root / "hub.sqlite") as database:
        return [row[0] for row in database.execute("SELECT hash FROM token")]


def test_tokens_of_an_older_version_are_put_under_the_key(tmp_path: Path) -> None:
    root, bare = tmp_path / "hub", hashlib.sha256(b"hf_old").hexdigest()
    store = Store(root)
    store.query("INSERT INTO token (hash, user, may_write) VALUES (?, 'carol', 1)", bare)
    store.close()
    with LoopbackHub(root) as server:
        assert HfApi(endpoint=server.endpoint, token="hf_old").whoami()["name"] == "carol"
    assert hashes(root) and bare not in hashes(root)
    assert not [path for path in root.rglob("*") if path.is_file() and bare.encode() in path.read_bytes()]


def test_a_hash_says_nothing_without_the_secret(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with LoopbackHub(tmp_path / name, tokens=["carol:hf_local_token"]):
            pass
    assert len({*hashes(tmp_path / "one"), *hashes(tmp_path / "two")}) == 2


def test_tokens_under_a_secret_that_is_gone_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]):
        pass
    (tmp_path / "hub" / "secret").unlink()
    with LoopbackHub(tmp_path / "hub") as server, pytest.raises(HfHubHTTPError):
        HfApi(endpoint=server.endpoint, token="hf_carol").whoami()
    assert "1 tokens were deleted" in capsys.readouterr().err


def test_tokens_come_from_a_file_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.touch(0o600)
    file.write_text("# of this machine\n\ncarol:hf_file\n  eve:hf_eve:read\norg team:carol,eve\n")
    assert declared_in_file(file) == (["carol:hf_file", "eve:hf_eve:read"], ["team:carol,eve"])
    given = {"HUBDPO_HUB_TOKENS": "a:x b:y:read", "HUBDPO_HUB_ORGS": "c:a,b d:"}
    assert declared_in_environment(given) == (["a:x", "b:y:read"], ["c:a,b", "d:"])
    assert declared_in_environment({}) == ([], [])


def a_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.touch()
    path.chmod(mode)
    path.write_bytes(content)


FILES: list[tuple[str, Callable[[Path], object]]] = [
    ("others can read", lambda path: a_file(path, b"a:secret", 0o640)),
    ("cannot be read: No such file", lambda path: None),
    ("cannot be read: Is a directory", lambda path: path.mkdir()),
    ("line 2 of", lambda path: a_file(path, b"a:x\nsecret\n")),
    ("larger than", lambda path: a_file(path, b"#" * 2**20 + b"\n")),
]


@pytest.mark.parametrize(("told", "made"), FILES, ids=[told for told, _ in FILES])
def test_a_token_file_that_cannot_be_taken_is_one_line(
    tmp_path: Path, told: str, made: Callable[[Path], object]
) -> None:
    made(tmp_path / "tokens")
    done = serve(tmp_path / "hub", "--token-file", str(tmp_path / "tokens"))
    assert done.returncode == 2 and not (tmp_path / "hub").exists()
    error, _ = done.stderr.splitlines()
    assert error.startswith("error: ") and told in error.replace("other users can read", "others can read")
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    "name", ["a" * 97, "a" * 300, "api", "API", "datasets", "_cdn", "..", ".", "a..b", "a-", "x.git"]
)
def test_a_name_whose_repos_could_not_be_reached_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="NAME is the owner in a repo id, at most 96") as told:
        parse_tokens([f"{name}:hf_secret"])
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("name", ["a" * 96, "a", "me", "a.b-c_d", "rapid"])
def test_a_name_that_can_be_reached_is_taken(name: str) -> None:
    assert parse_tokens([f"{name}:hf_x", f"{name}:hf_x:read"])[1] == (name, "hf_x", False)


def test_a_token_has_one_user(tmp_path: Path) -> None:
    """In the same start or a later one: the second user must not take over the token silently."""
    both = ["--token", "alice:hf_secret", "--token", "bob:hf_secret"]
    assert_refused(serve(tmp_path / "hub", *both), "alice and bob have the same token")
    assert not (tmp_path / "hub").exists()
    with LoopbackHub(tmp_path / "hub", tokens=["alice:hf_secret"]):
        pass
    before = hashes(tmp_path / "hub")
    done = serve(tmp_path / "hub", "--token", "bob:hf_new", "--token", "bob:hf_secret")
    assert_refused(done, "a token of bob already belongs to alice")
    assert hashes(tmp_path / "hub") == before


def test_a_taken_port_changes_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_refused(serve(tmp_path / "hub", "--port", port, "--token", "bob:hf_secret"), f"port {port} cannot")
    assert not (tmp_path / "hub").exists()


def assert_refused(done: subprocess.CompletedProcess[str], told: str) -> None:
    error, _ = done.stderr.splitlines()
    assert done.returncode == 2 and error.startswith("error: ") and told in error and "secret" not in done.stderr


def test_a_subfolder_that_goes_while_sizes_are_read_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "repo" / name).mkdir(parents=True)
        (tmp_path / "repo" / name / "file").write_bytes(bytes(10))
    read = os.scandir

    def gone_just_before(path: str | Path) -> object:
        if Path(path).name == "b":
            Path(path).rename(tmp_path / "gone")
        return read(path)

    monkeypatch.setattr(os, "scandir", gone_just_before)
    assert bytes_below(tmp_path / "repo") == 20
