"""Tokens are listed without their values, and revoked for good; tables of older versions are taken over."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from hubdpo.errors import ConfigError
from hubdpo.loopback.server import LoopbackHub
from hubdpo.loopback.storage import accounts
from hubdpo.loopback.storage.folder import hold
from hubdpo.loopback.storage.store import Store, accounts_in
from hubdpo.loopback.storage.tables import VERSION
from tests.loopback.ask import ask

OLD_TABLES = """
CREATE TABLE repo (kind TEXT, id TEXT, private INT, created REAL, PRIMARY KEY (kind, id));
CREATE TABLE large (kind TEXT, id TEXT, oid TEXT, size INT, PRIMARY KEY (kind, id, oid));
CREATE TABLE token (hash TEXT PRIMARY KEY, user TEXT, may_write INT);
CREATE TABLE xorb (hash TEXT PRIMARY KEY, chunks BLOB);
CREATE TABLE chunk (hash TEXT PRIMARY KEY, xorb TEXT);
CREATE TABLE xet (hash TEXT PRIMARY KEY, oid TEXT, size INT, terms TEXT);
CREATE INDEX xet_by_oid ON xet (oid);
"""
"""The tables of hubdpo before repos could be renamed."""
LARGE = bytes(range(256)) * 40


def as_an_older_version(root: Path) -> None:
    """Write the tables of a Hub folder as an older version had them."""
    with sqlite3.connect(root / "hub.sqlite") as now:
        copied = {
            "repo": now.execute("SELECT kind, id, private, created FROM repo").fetchall(),
            "large": now.execute("SELECT kind, id, oid, size FROM large JOIN repo USING (place)").fetchall(),
            "token": now.execute("SELECT hash, user, may_write FROM token").fetchall(),
            **{name: now.execute(f"SELECT * FROM {name}").fetchall() for name in ("xorb", "chunk", "xet")},
        }
    now.close()
    for file in root.glob("hub.sqlite*"):
        file.unlink()
    with sqlite3.connect(root / "hub.sqlite") as old:
        old.executescript(OLD_TABLES)
        for name, rows in copied.items():
            for row in rows:
                old.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)
    old.close()


@pytest.mark.parametrize("dropped", [[], ["xorb", "chunk", "xet"]], ids=["newer", "before Xet"])
def test_a_folder_of_an_older_version_is_taken_over(tmp_path: Path, dropped: list[str]) -> None:
    root = tmp_path / "hub"
    with LoopbackHub(root, tokens=["carol:hf_carol", "eve:hf_eve:read"]) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.create_repo("carol/x", private=True)
        api.upload_file(repo_id="carol/x", path_in_repo="w.bin", path_or_fileobj=LARGE)
        created = api.model_info("carol/x").created_at
    as_an_older_version(root)
    with sqlite3.connect(root / "hub.sqlite") as old:
        for name in dropped:
            old.execute(f"DROP TABLE {name}")
    old.close()
    for _ in range(2):
        with LoopbackHub(root) as hub:
            api = HfApi(endpoint=hub.endpoint, token="hf_carol")
            info = api.model_info("carol/x", files_metadata=True)
            assert info.private and info.created_at == created
            url = ask(hub, "HEAD", "/carol/x/resolve/main/w.bin", token="hf_carol").headers["location"]
            assert ask(hub, "GET", url[url.index("/_cdn") :]).body == LARGE
            assert ask(hub, "POST", "/api/repos/create", {"name": "y"}, token="hf_eve").status == 403


def test_a_take_over_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path).close()
    as_an_older_version(tmp_path)
    with monkeypatch.context() as patched:
        patched.setitem(
            accounts.Tables._bring_up_to_date.__globals__["COPIED"], "xet", "INSERT INTO nowhere VALUES (1)"
        )
        with pytest.raises(Exception, match="nowhere"):
            Store(tmp_path)
    with sqlite3.connect(tmp_path / "hub.sqlite") as database:
        assert [row[1] for row in database.execute("PRAGMA table_info(repo)")] == ["kind", "id", "private", "created"]
    database.close()
    Store(tmp_path).close()


def test_tables_that_a_server_of_an_older_version_uses_are_left_alone(tmp_path: Path) -> None:
    Store(tmp_path).close()
    as_an_older_version(tmp_path)
    with hold(tmp_path), pytest.raises(ConfigError, match="a server of an older version uses"), accounts_in(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "hub.sqlite") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (0,)
    database.close()


def test_a_folder_of_a_later_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "hub.sqlite") as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    with pytest.raises(ConfigError, match="a later version of hubdpo"):
        Store(tmp_path)


def test_a_token_is_listed_with_what_is_known_and_without_its_value(tmp_path: Path) -> None:
    before = time.time()
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol", "eve:hf_eve:read"]) as hub:
        HfApi(endpoint=hub.endpoint, token="hf_eve").whoami()
        carol, eve = hub._store.accounts.tokens()
    assert (carol.user, carol.may_write, carol.used, carol.revoked) == ("carol", True, None, None)
    assert (eve.user, eve.may_write) == ("eve", False)
    assert carol.added and carol.added >= before and eve.used and eve.used >= before
    assert "hf_" not in str([carol, eve])


def test_a_start_with_the_same_tokens_keeps_their_dates(tmp_path: Path) -> None:
    listed = []
    for _ in range(2):
        with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as hub:
            HfApi(endpoint=hub.endpoint, token="hf_carol").whoami()
            listed.append(hub._store.accounts.tokens())
    assert listed[0] == listed[1]


def test_a_revoked_token_is_never_accepted_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_1", "carol:hf_2", "dave:hf_dave"]) as hub:
        first = hub._store.accounts.tokens()[0]
        assert [each.id for each in hub._store.accounts.revoke(first.id)] == [first.id]
        left = [token for token in ("hf_1", "hf_2") if ask(hub, "GET", "/api/whoami-v2", token=token).status == 200]
        assert len(left) == 1
        assert len(hub._store.accounts.revoke("carol")) == 1 and hub._store.accounts.revoke("carol") == []
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_1", "carol:hf_3"]) as hub:
        statuses = [ask(hub, "GET", "/api/whoami-v2", token=f"hf_{n}").status for n in (1, 2, 3, "dave")]
    assert statuses == [401, 401, 200, 200]
    assert "a token of carol was revoked and is not accepted" in capsys.readouterr().err


def test_signed_urls_end_with_the_tokens_of_their_reader(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"]) as hub:
        api = HfApi(endpoint=hub.endpoint, token="hf_carol")
        api.create_repo("carol/x", private=True)
        api.upload_file(repo_id="carol/x", path_in_repo="w.bin", path_or_fileobj=LARGE)
        url = ask(hub, "HEAD", "/carol/x/resolve/main/w.bin", token="hf_carol").headers["location"]
        path = url[url.index("/_cdn") :]
        assert ask(hub, "GET", path).status == 200
        hub._store.accounts.revoke("carol")
        assert ask(hub, "GET", path).status == 403
        with pytest.raises(HfHubHTTPError):
            api.whoami()
