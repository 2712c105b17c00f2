"""An organisation is a namespace that its members own together, and nobody else writes to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from hubdpo.errors import ConfigError
from hubdpo.loopback.server import LoopbackHub
from hubdpo.loopback.storage.tokens import parse_org
from tests.loopback.ask import ask

TOKENS = ["carol:hf_carol", "dave:hf_dave", "dave:hf_dave_read:read", "eve:hf_eve"]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub", tokens=TOKENS, orgs=["team:carol,dave"]) as made:
        yield made


def as_user(hub: LoopbackHub, token: str) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def test_every_member_writes(hub: LoopbackHub) -> None:
    carol, dave = as_user(hub, "hf_carol"), as_user(hub, "hf_dave")
    assert carol.create_repo("team/shared").repo_id == "team/shared"
    dave.upload_file(repo_id="team/shared", path_in_repo="a.bin", path_or_fileobj=bytes(100))
    dave.update_repo_settings("team/shared", private=True)
    dave.create_tag("team/shared", tag="v1")
    pull = carol.create_pull_request("team/shared", "a pull request")
    dave.merge_pull_request("team/shared", pull.num)
    slug = carol.create_collection("ours", namespace="TEAM").slug
    dave.add_collection_item(slug, "team/shared", "model")
    dave.delete_repo("team/shared")
    assert not carol.repo_exists("team/shared")


@pytest.mark.parametrize("token", ["hf_eve", "hf_dave_read"])
def test_nobody_else_writes(hub: LoopbackHub, token: str) -> None:
    as_user(hub, "hf_carol").create_repo("team/shared")
    other = as_user(hub, token)
    writes = [
        lambda: other.create_repo("team/new"), lambda: other.delete_repo("team/shared"),
        lambda: other.upload_file(repo_id="team/shared", path_in_repo="a", path_or_fileobj=b"a"),
        lambda: other.move_repo("team/shared", "eve/mine"), lambda: other.create_tag("team/shared", tag="v1"),
        lambda: other.update_repo_settings("team/shared", private=True),
        lambda: other.create_collection("ours", namespace="team"),
    ]  # fmt: skip
    for write in writes:
        with pytest.raises(HfHubHTTPError) as refused:
            write()
        assert refused.value.response.status_code == 403


def test_private_repos_are_for_members(hub: LoopbackHub) -> None:
    as_user(hub, "hf_carol").create_repo("team/secret", private=True)
    assert as_user(hub, "hf_dave_read").model_info("team/secret").private
    with pytest.raises(RepositoryNotFoundError):
        as_user(hub, "hf_eve").model_info("team/secret")
    assert [m.id for m in as_user(hub, "hf_dave").list_models(author="team")] == ["team/secret"]
    assert list(as_user(hub, "hf_eve").list_models(author="team")) == []


def test_whoami_lists_the_organisations(hub: LoopbackHub) -> None:
    (org,) = as_user(hub, "hf_dave").whoami()["orgs"]
    assert (org["name"], org["fullname"], org["type"], org["roleInOrg"]) == ("team", "team", "org", "admin")
    assert as_user(hub, "hf_eve").whoami()["orgs"] == []


def test_a_member_who_left_loses_signed_urls_as_well(hub: LoopbackHub) -> None:
    carol = as_user(hub, "hf_carol")
    carol.create_repo("team/secret", private=True)
    carol.upload_file(repo_id="team/secret", path_in_repo="w.bin", path_or_fileobj=bytes(range(256)) * 40)
    url = ask(hub, "HEAD", "/team/secret/resolve/main/w.bin", token="hf_dave").headers["location"]
    path = url[url.index("/_cdn") :]
    assert ask(hub, "GET", path).status == 200
    hub._store.accounts.add([], [parse_org("team:carol")])
    assert ask(hub, "GET", path).status == 403


def test_members_outlive_the_server_and_are_changed_by_naming_the_organisation(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=TOKENS, orgs=["team:carol,dave", "lab:eve"]) as hub:
        as_user(hub, "hf_carol").create_repo("team/shared")
    with LoopbackHub(tmp_path / "hub", orgs=["team:eve"]) as hub:
        assert hub._store.accounts.orgs() == {"lab": ["eve"], "team": ["eve"]}
        as_user(hub, "hf_eve").upload_file(repo_id="team/shared", path_in_repo="a", path_or_fileobj=b"a")
    with LoopbackHub(tmp_path / "hub", orgs=["team:"]) as hub:
        assert hub._store.accounts.orgs() == {"lab": ["eve"]}
        assert as_user(hub, "hf_eve").repo_exists("team/shared")
        with pytest.raises(HfHubHTTPError, match="403"):
            as_user(hub, "hf_eve").create_repo("team/other")


@pytest.mark.parametrize(
    ("tokens", "orgs", "told"),
    [
        (["team:hf_1"], ["team:team"], "team is a user, so it cannot be an organisation as well"),
        (["team:hf_1", "me:hf_2"], ["Team:me"], "differ only in case"),
        (["Carol:hf_9"], [], "differ only in case"),
        ([], ["lab:carol", "carol:dave"], "carol is a user"),
        (["old:hf_9"], [], "old is a user, so"),
    ],
)
def test_a_name_is_one_namespace(tmp_path: Path, tokens: list[str], orgs: list[str], told: str) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol", "dave:hf_dave"], orgs=["old:carol"]):
        pass
    with pytest.raises(ConfigError, match=told) as refused:
        LoopbackHub(tmp_path / "hub", tokens=tokens, orgs=orgs)
    assert refused.value.hint
    with LoopbackHub(tmp_path / "hub") as hub:  # nothing was changed
        assert (hub._store.accounts.users(), hub._store.accounts.orgs()) == (["carol", "dave"], {"old": ["carol"]})


def test_a_member_without_a_token_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol"], orgs=["team:carol,nobody"]):
        pass
    assert "members of the organisation team without a token: nobody" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["team", "team:a b", ":me", "team:me,api", "--org:me", "a..b:me"])
def test_an_organisation_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="NAME:USER,USER"):
        parse_org(text)


def test_the_command_takes_organisations_from_options_file_and_environment(tmp_path: Path) -> None:
    (tmp_path / "tokens").touch(0o600)
    (tmp_path / "tokens").write_text("carol:hf_carol\norg filed:carol\norg both:dave\n")
    command = [
        sys.executable, "-c", "from hubdpo.cli.app import main; main()", "serve-hub", str(tmp_path / "hub"),
        "--token-file", str(tmp_path / "tokens"), "--org", "given:carol", "--org", "both:carol",
    ]  # fmt: skip
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={"HUBDPO_HUB_ORGS": "named:carol"}
    )
    assert server.stdout is not None
    endpoint = server.stdout.readline().strip().partition("=")[2]
    try:
        orgs = HfApi(endpoint=endpoint, token="hf_carol").whoami()["orgs"]
    finally:
        server.terminate()
        server.communicate(timeout=20)
    assert [org["name"] for org in orgs] == ["both", "filed", "given", "named"]


def test_users_of_an_older_folder_whose_names_differ_in_case_stay_apart(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol", "dave:hf_dave"]) as hub:
        as_user(hub, "hf_carol").create_repo("carol/x", private=True)
        hub._store.query("UPDATE token SET user = 'Carol' WHERE user = 'dave'")
    with LoopbackHub(tmp_path / "hub", tokens=["carol:hf_carol", "Carol:hf_dave"]) as hub:
        other = as_user(hub, "hf_dave")
        with pytest.raises(RepositoryNotFoundError):
            other.model_info("carol/x")
        as_user(hub, "hf_carol").update_repo_settings("carol/x", private=False)
        with pytest.raises(HfHubHTTPError, match="403"):
            other.create_tag("carol/x", tag="v1")
