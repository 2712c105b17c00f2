"""Credentials planted wherever one can get in: each is found or refused, and its value is in no file, line or error."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from hubdpo import console
from hubdpo.cli.app import app, main
from hubdpo.config import PrepareConfig, PushConfig
from hubdpo.errors import ConfigError, HubdpoError
from hubdpo.secrets import find_secrets, known_secrets, redact

# put together here, so that no scanner of repos takes this file for a leak
SECRETS = {
    "hugging face": "hf_" + "QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi",
    "openai": "sk-" + "proj-" + "a1B2c3D4" * 6,
    "anthropic": "sk-" + "ant-api03-" + "z9Y8x7W6" * 6,
    "google": "AI" + "za" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "github": "gh" + "p_" + "0123456789abcdefghijABCDEFGHIJ012345",
    "github fine-grained": "github" + "_pat_" + "11ABCDEFG0" + "abcdefghijKLMNOPQRST_0123456789",
    "gitlab": "gl" + "pat-" + "abcDEF123456ghiJKL78",
    "npm": "npm" + "_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "pypi": "pypi-" + "AgEIcHlwaS5vcmc" + "CJDAwMDAw" * 9,
    "aws": "AK" + "IA" + "IOSFODNN7EXAMPL3",
    "slack": "xo" + "xb-" + "123456789012-123456789012-abcdefghijklmnopqrstuvwx",
    "stripe": "sk" + "_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "sendgrid": "S" + "G." + "abcdefghijklmnopqrstuv" + "." + "a" * 20 + "B" * 23,
    "jwt": "ey"
    + "JhbGciOiJIUzI1NiJ9"
    + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0"
    + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "private key": "-----BEGIN " + "PRIVATE KEY-----MIIEvQIBADANBgkq-----END " + "PRIVATE KEY-----",
}
PLACES = ("prompt", "answer", "role", "column name", "file name", "config", "commit message")
VARIABLES = ("HF_TOKEN", "OPENAI_API_KEY", "SOME_SETTING")


@dataclass
class Outcome:
    """What one prepare of rows with every credential left: all text of its files and of its output, and the funnel."""

    dropped: dict[str, int]
    texts: dict[str, str] = field(default_factory=dict)

    def where(self, secret: str) -> list[str]:
        return [name for name, text in self.texts.items() if secret in text]


def pair(number: int, secret: str = "") -> dict[str, object]:
    return {
        "prompt": [{"role": "user", "content": f"{number}? {secret}"}],
        "chosen": [{"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }


def planted() -> list[dict[str, object]]:
    rows = [pair(number) for number in range(40)]
    for number, secret in enumerate(SECRETS.values(), start=100):
        in_answer = pair(number + 100)
        in_answer["chosen"] = [{"role": "assistant", "content": f"use {secret}, then"}]
        as_role = pair(number + 200)
        as_role["prompt"] = [{"role": secret, "content": "hello"}]
        as_column = {**pair(number + 300), secret: "kept out"}
        as_column_of_a_lost_row = {**pair(number + 400), secret: 1, "chosen": [{"role": "assistant", "content": ""}]}
        rows += [pair(number, secret), in_answer, as_role, as_column, as_column_of_a_lost_row]
    return rows


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    place = tmp_path_factory.mktemp("secrets")
    (place / "raw.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in planted()))
    environment = dict(zip(VARIABLES, SECRETS.values(), strict=False)) | {
        f"VARIABLE_{number}": secret for number, secret in enumerate(SECRETS.values())
    }
    command = ["prepare", str(place / "raw.jsonl"), "-o", str(place / "out"), "--scan", "secrets", "--json"]
    done = CliRunner().invoke(app, [*command, "--num-proc", "1", "--license", "mit"], env=environment)
    assert done.exit_code == 0, done.stderr
    outcome = Outcome(orjson.loads(done.stdout)["funnel"]["dropped"], {"stdout": done.stdout, "stderr": done.stderr})
    for path in (place / "out").rglob("*"):
        if path.is_file():
            outcome.texts[path.name] = path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            outcome.texts[path.name] += str(pq.read_table(path).to_pylist())
    return outcome


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("place", PLACES)
def test_each_is_found_or_refused_and_its_value_is_nowhere(
    outcome: Outcome, tmp_path: Path, place: str, kind: str
) -> None:
    secret = SECRETS[kind]
    if place in ("prompt", "answer", "role", "column name"):
        assert outcome.where(secret) == []
        return
    (tmp_path / f"a {secret}.jsonl").write_bytes(orjson.dumps(pair(1)))
    with pytest.raises(HubdpoError) as caught:
        if place == "file name":
            from hubdpo.data.raw.sources.find import find_sources

            find_sources([str(tmp_path)], str(tmp_path))
        elif place == "config":
            PrepareConfig.build({"source": ["a.jsonl"], "output_dir": "out", "name": f"My {secret} set"})
        else:
            push = {"folder": "out", "repo": "a/b", "version": "1.0.0", "commit_message": f"Use {secret} now"}
            PushConfig.build(push)
    assert "holds a" in caught.value.message
    assert secret not in f"{caught.value} {caught.value.hint}"


def test_every_planted_row_is_counted(outcome: Outcome) -> None:
    assert outcome.dropped["secret_found"] == 2 * len(SECRETS)
    assert outcome.dropped["unknown_role"] == len(SECRETS)
    assert "[REDACTED" in outcome.texts["rejected.jsonl"]


@pytest.mark.parametrize("kind", SECRETS)
def test_a_line_and_an_error_show_the_kind_alone(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    secret = SECRETS[kind]
    for say in (console.info, console.warn, console.error, console.hint):
        say(f"before {secret} after")
    console.table(["a"], [[secret]], title="t")
    console.result(f"done {secret}", {"value": secret})
    told = capsys.readouterr()
    assert secret not in told.out + told.err
    assert told.err.count("[REDACTED") == 5
    assert secret not in str(ConfigError(f"not valid: {secret}", hint=f"leave out {secret}"))


@pytest.mark.parametrize("value", ["an unknown key", "a value"])
def test_a_config_file_with_a_credential_is_refused_without_it(tmp_path: Path, value: str) -> None:
    secret = SECRETS["hugging face"]
    line = f"{secret}: 1\n" if value == "an unknown key" else f"test_size: {secret}\n"
    (tmp_path / "prepare.yaml").write_text(line)
    with pytest.raises(ConfigError) as caught:
        PrepareConfig.build({"source": ["a"], "output_dir": "out"}, file=tmp_path / "prepare.yaml")
    assert secret not in f"{caught.value} {caught.value.hint}"


def test_the_traceback_of_a_bug_shows_no_credential(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import hubdpo.data.prepare.prepare as stage

    def broken(config: PrepareConfig) -> None:
        raise RuntimeError(f"Authorization: Bearer {SECRETS['hugging face']}")

    monkeypatch.setattr(stage, "prepare", broken)
    monkeypatch.setattr(sys, "argv", ["hubdpo", "prepare", "a.jsonl", "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "Traceback" in told and "RuntimeError: Authorization: Bearer [REDACTED Hugging Face Token]" in told
    assert SECRETS["hugging face"] not in told


@pytest.mark.parametrize(
    "text",
    [
        "see https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized/tree/main/data",
        "commit 4fe7f0c1a2b3c4d5e6f708192a3b4c5d6e7f8091 of sk-learn, hf_hub and a skeleton-key-of-gold",
        "the sha256 is e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft 2026-11-24T21:00:00.000Z",
        "mail to someone@example.com, or git@github.com:user/name.git",
        '{"url":"https://example.com","mail":"someone@example.com"}',
    ],
)
def test_ordinary_text_is_no_credential(text: str) -> None:
    assert find_secrets(text) == known_secrets(text) == []


def test_a_credential_is_cut_out_and_nothing_else() -> None:
    text = f"one {SECRETS['aws']} two {SECRETS['jwt']} three"
    assert redact(text, find_secrets(text)) == "one [REDACTED AWS Access Key] two [REDACTED JSON Web Token] three"


@pytest.mark.parametrize("kind", SECRETS)
def test_a_credential_that_begins_a_line_of_escaped_text_is_found(kind: str) -> None:
    text = f"use:\n{SECRETS[kind]}\tnow"
    for _ in range(3):  # JSON in JSON in JSON, as arguments of a call are
        text = orjson.dumps({"value": text}).decode()
        assert SECRETS[kind] not in redact(text, find_secrets(text)) + redact(text, known_secrets(text))
