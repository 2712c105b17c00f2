"""Policies: what is dropped, changed or refused, each time counted and told, never a value of a secret."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.cli.app import app
from hubdpo.errors import ConfigError, DataError

A, B = "It is a good answer.", "It is a bad answer."


def write(tmp_path: Path, values: list[dict[str, Any]]) -> str:
    path = tmp_path / "raw.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return str(path)


def pair(prompt: str, chosen: str = A, rejected: str = B) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def make(tmp_path: Path, values: list[dict[str, Any]], **options: Any) -> PrepareManifest:
    manifest = prepare(source=write(tmp_path, values), output_dir=tmp_path / "out", **{"test_size": 0, **options})
    assert manifest is not None
    assert manifest.funnel.adds_up()
    return manifest


CONFLICT = [pair("q"), pair("q"), pair("q", B, A), pair("other"), pair("even"), pair("even", B, A)]


@pytest.mark.parametrize(
    ("policy", "kept", "dropped"),
    [
        ("drop", 1, {"contradiction": 5}),
        ("majority", 2, {"contradiction": 3, "duplicate_pair": 1}),
        ("keep", 5, {"duplicate_pair": 1}),
    ],
)
def test_what_contradicts_itself(tmp_path: Path, policy: str, kept: int, dropped: dict[str, int]) -> None:
    funnel = make(tmp_path, CONFLICT, on_conflict=policy).funnel
    assert (funnel.kept, funnel.dropped) == (kept, dropped)


def test_a_contradiction_can_be_an_error_that_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="raw.jsonl, line 2: contradiction"):
        make(tmp_path, [pair("x"), *CONFLICT], on_conflict="error")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("dedupe", "kept"), [("exact", 2), ("none", 3)])
def test_equal_pairs(tmp_path: Path, dedupe: str, kept: int) -> None:
    assert make(tmp_path, [pair("q"), pair("q"), pair("r")], dedupe=dedupe).funnel.kept == kept


def test_a_tie_can_be_an_error_that_names_the_line(tmp_path: Path) -> None:
    vote = {"prompt": "q", "response_a": "x", "response_b": "y"}
    values = [{**vote, "winner": "model_a"}, {**vote, "winner": "tie"}]
    with pytest.raises(DataError, match="raw.jsonl, line 2: tie") as caught:
        make(tmp_path, values, on_tie="error")
    assert "--on-tie error" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ([pair("a"), pair("b", "", "x"), {"broken": 1}], "line 2: empty_answer"),
        ([pair("a"), pair("a"), pair("b")], "line 2: duplicate_pair"),
    ],
)
def test_strict_stops_at_the_first_loss(tmp_path: Path, values: list[dict[str, Any]], where: str) -> None:
    with pytest.raises(DataError, match=where):
        make(tmp_path, values, strict=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.4, "40%"])
def test_the_accepted_loss_may_be_a_percentage(tmp_path: Path, share: Any) -> None:
    make(tmp_path, [pair("a"), pair("b"), pair("c", "x", "x")], max_reject=share)
    with pytest.raises(DataError, match="33.3%"):
        make(tmp_path, [pair("a"), pair("b"), pair("c", "x", "x")], max_reject="5%", seed=1)


LONG = " ".join(f"word{i}" for i in range(30))
TEXT = (
    "The river runs down from the hills through a narrow valley, past two old mills and a village with a church, and "
    "then it turns to the south and becomes slow and wide before it comes to the sea near the harbour of the town."
)


def test_near_duplicates_of_a_pair_are_dropped(tmp_path: Path) -> None:
    values = [pair(TEXT, LONG), pair(TEXT + " Really?", LONG), pair(TEXT.upper(), LONG), pair(LONG, TEXT)]
    assert make(tmp_path, values, dedupe="near").funnel.dropped == {"near_duplicate_pair": 2}


def test_near_prompts_are_in_one_split(tmp_path: Path) -> None:
    numbers = [" ".join(str((group + 3) ** power) for power in range(2, 22)) for group in range(60)]
    values = [pair(f"Number {g}: {numbers[g]} v{i}", f"a{g}{i}") for g in range(60) for i in range(3)]
    make(tmp_path, values, dedupe="near", test_size=0.4)
    data = load_preferences(tmp_path / "out")
    groups = {split: {row["prompt"][0]["content"].split(":")[0] for row in table} for split, table in data.items()}
    assert groups["train"]
    assert groups["test"]
    assert not groups["train"] & groups["test"]


def test_lengths_are_counted_with_the_tokenizer_of_the_base(tmp_path: Path, tiny_base: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    manifest = make(tmp_path, [pair("What is it?")], model=str(tiny_base))
    messages = [{"role": "user", "content": "What is it?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": A}], return_dict=False)
    tokens = manifest.statistics["train"]["tokens"]
    assert tokens["prompt"]["max"] == len(prompt)
    assert tokens["chosen"]["max"] == len(whole) - len(prompt)


def test_pairs_are_counted_again_with_another_template_in_the_folder(tmp_path: Path, tiny_base: Path) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    before = make(tmp_path, [pair("q")], model=str(base))
    template = (base / "chat_template.jinja").read_text()
    (base / "chat_template.jinja").write_text("Be brief. " + template)
    after = make(tmp_path, [pair("q")], model=str(base))
    tokens = [manifest.statistics["train"]["tokens"]["prompt"]["max"] for manifest in (before, after)]
    assert tokens[0] < tokens[1]


def test_the_place_of_a_model_is_not_published(tmp_path: Path, tiny_base: Path) -> None:
    make(tmp_path, [pair("q")], model=str(tiny_base))
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or str(tiny_base).encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("policy", "kept", "reason"), [("drop", 1, "over_length"), ("keep", 2, None), ("truncate", 1, "over_length")]
)
def test_pairs_that_are_too_long(tmp_path: Path, tiny_base: Path, policy: str, kept: int, reason: str | None) -> None:
    values = [pair("short"), pair("long", "x " + LONG * 9, "y " + LONG * 8)]
    funnel = make(tmp_path, values, model=str(tiny_base), max_length=96, over_length=policy).funnel
    assert (funnel.kept, funnel.dropped) == (kept, {reason: 1} if reason else {})


def test_a_pair_that_is_too_long_can_be_an_error(tmp_path: Path, tiny_base: Path) -> None:
    with pytest.raises(DataError, match="line 2: over_length"):
        make(tmp_path, [pair("a"), pair(LONG * 9)], model=str(tiny_base), max_length=96, over_length="error")


def test_truncation_takes_the_oldest_turns(tmp_path: Path, tiny_base: Path) -> None:
    def turn(i: int) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{i} {LONG}"}, {"role": "assistant", "content": "Yes."}]

    prompt = [{"role": "system", "content": "Be kind."}, *turn(1), *turn(2), {"role": "user", "content": "last"}]
    manifest = make(
        tmp_path, [{"prompt": prompt, "chosen": A, "rejected": B}], model=str(tiny_base), max_length=190,
        over_length="truncate",
    )  # fmt: skip
    kept = load_preferences(tmp_path / "out")["train"][0]["prompt"]
    assert manifest.changed == {"prompt_cut_by_message": 1}
    assert [message["role"] for message in kept][:2] == ["system", "user"]
    assert kept[1]["content"] != prompt[1]["content"]
    assert manifest.statistics["train"]["tokens"]["pair"]["max"] <= 190


def test_pairs_that_training_would_cut_to_equal_answers_are_dropped(tmp_path: Path, tiny_base: Path) -> None:
    values = [pair("q"), pair("q2", LONG * 9 + "x", LONG * 9 + "y")]
    funnel = make(tmp_path, values, model=str(tiny_base), max_length=96, over_length="keep").funnel
    assert funnel.dropped == {"zero_signal": 1}


def test_answers_that_the_tokenizer_makes_equal_are_dropped(tmp_path: Path, tiny_base: Path) -> None:
    values = [pair("q"), pair("q2", "caf\u00e9", "cafe\u0301")]
    assert make(tmp_path, values, model=str(tiny_base)).funnel.dropped == {"zero_signal": 1}


def test_auto_takes_the_length_that_keeps_99_percent(tmp_path: Path, tiny_base: Path) -> None:
    values = [pair(f"q{i}") for i in range(199)] + [pair("long", LONG * 20)]
    manifest = make(tmp_path, values, model=str(tiny_base), max_length="auto")
    assert manifest.max_length == 64
    assert manifest.funnel.dropped == {"over_length": 1}
    assert "no pair has more than 64" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 512}, "--model"),
        ({"model": "x/y", "max_length": "auto", "over_length": "truncate"}, "truncate"),
        ({"redact": True}, "--scan secrets"),
        ({"model": "nowhere", "max_length": 64}, "nowhere"),
    ],
)
def test_options_that_do_not_belong_together(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(tmp_path, [pair("q")], **options)


def test_a_dry_run_reports_and_writes_nothing(tmp_path: Path) -> None:
    manifest = make(tmp_path, [pair("q"), pair("q")], dry_run=True)
    assert manifest.funnel.kept == 1
    assert [path.name for path in tmp_path.iterdir()] == ["raw.jsonl"]


def test_explain_shows_a_row_from_raw_to_tokens(tmp_path: Path, tiny_base: Path) -> None:
    source = write(tmp_path, [pair("What is it?"), pair("r", "x", "x")])
    command = ["prepare", source, "-o", str(tmp_path / "out"), "--explain", "2", "--model", str(tiny_base)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    for part in ('raw: {"prompt":"What is it?"', "prompt [user]: What is it?", "<|im_start|>user", "tokens:"):
        assert part in done.stderr
    assert "identical_answers" in done.stderr
    assert not (tmp_path / "out").exists()


SECRETS = {
    "AWS Access Key": "AKIA" + "IOSFODNN7EXAMPLQ",
    "GitHub Token": "ghp_" + "a1B2" * 9,
    "GitHub Fine-grained Token": "github_pat_" + "11ABCDEFG0" * 4,
    "GitLab Token": "glpat-" + "x1Y2z3W4v5U6t7S8r9Q0",
    "Hugging Face Token": "hf_" + "AbCdEfGhIj" * 4,
    "OpenAI or Anthropic Key": "sk-ant-" + "api03-" + "Zz9Yy8Xx7W" * 4,
    "Google API Key": "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "Slack Token": "xoxb-" + "123456789012-123456789012-abcDEFghiJKLmnoPQRstuVWX",
    "Stripe Access Key": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "Twilio API Key": "SK" + "0123456789abcdef" * 2,
    "SendGrid API Key": "SG." + "abcdefghijklmnopqrstuv" + "." + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v",
    "NPM tokens": "//registry.example.org/:_authToken=npm_" + "a1B2c3D4e5" * 4,
    "PyPI Token": "pypi-" + "AgEIcHlwaS5vcmc" + "CiQ5" * 20,
    "Mailchimp Access Key": "0123456789abcdef" * 2 + "-us12",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0."
    + "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "Telegram Bot Token": "110201543:" + "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsawA",
    "Basic Auth Credentials": "https://admin:" + "hunter2secret@example.org/x",
    "Private Key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAabc\n-----END RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("place", ["prompt", "chosen", "rejected"])
def test_a_planted_secret_is_found_and_its_value_is_nowhere(tmp_path: Path, kind: str, place: str) -> None:
    planted = {**pair("q"), place: f"take this: {SECRETS[kind]} and go"}
    source = write(tmp_path, [pair("other"), planted])
    command = ["prepare", source, "-o", str(tmp_path / "out"), "--scan", "secrets", "--test-size", "0"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    manifest = PrepareManifest.read(tmp_path / "out" / "prepare.json")
    assert manifest.funnel.dropped == {"secret_found": 1}
    assert sum(manifest.secrets.values()) >= 1
    value = SECRETS[kind].splitlines()[-1 if kind != "Private Key" else 1]
    assert value not in done.stdout + done.stderr
    assert all(value.encode() not in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", SECRETS)
def test_a_redacted_secret_is_gone_and_the_row_is_kept(tmp_path: Path, kind: str) -> None:
    values = [{**pair("other"), "note": f"x {SECRETS[kind]} y"}, pair(f"take: {SECRETS[kind]} and go")]
    manifest = make(tmp_path, values, scan="secrets", redact=True, keep=["note"])
    assert (manifest.funnel.kept, manifest.changed) == (2, {"redacted_secret": 2})
    value = SECRETS[kind].splitlines()[-1 if kind != "Private Key" else 1]
    rows = json.dumps(load_preferences(tmp_path / "out")["train"].to_list())
    assert value not in rows
    assert rows.count("[REDACTED ") == 2


def test_ordinary_text_holds_no_secret(tmp_path: Path) -> None:
    assert make(tmp_path, [pair(TEXT, LONG)], scan="secrets").secrets == {}


def test_without_a_scan_the_card_says_so(tmp_path: Path) -> None:
    make(tmp_path, [pair("q")])
    assert "The rows were not scanned" in (tmp_path / "out" / "README.md").read_text()


def test_explain_hides_what_looks_like_a_secret(tmp_path: Path) -> None:
    source = write(tmp_path, [pair(SECRETS["Hugging Face Token"])])
    code = "from hubdpo.cli.app import main; main()"
    command = [sys.executable, "-c", code, "prepare", source, "-o", "out", "--explain", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert SECRETS["Hugging Face Token"] not in done.stdout + done.stderr
    assert "[REDACTED Hugging Face Token]" in done.stderr
