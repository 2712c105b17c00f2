"""The test suites of other projects, and the small changes with which they run against an embedded Hub."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

LEFT_OUT = Path(__file__).parent / "left_out"
"""What source archives leave out: test configuration and fixtures, written anew for what the tests ask of them."""
QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1"}
STAGING = "https://hub-ci.huggingface.co"
USER = "DummyHubUser"
"""Name of the suites' user: theirs, `__DUMMY_HUB_USER__`, does not begin with a letter or digit."""

ORG = "valid_org_hub"
"""An organisation of that user, which has no other name here."""


@dataclass(frozen=True)
class Setup:
    """What a suite needs besides its files."""

    tokens: list[str]
    """`NAME:VALUE`, as for `serve-hub`."""
    organisations: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Tests in the source archive of a package that is installed in the same version."""

    files: list[str]
    """What pytest is given, below the folder `tests`."""
    adapt: Callable[[Path, str], Setup]
    """A function of the folder `tests`, which it changes, and the endpoint."""
    needs: list[str]
    """Packages that the tests import, besides the dependencies of hubdpo."""
    options: list[str] = field(default_factory=list)
    """Further options of pytest."""


def _huggingface_hub(tests: Path, endpoint: str) -> Setup:
    module = tests / "testing_constants.py"
    _replace(module, r'^USER = ".*"', f'USER = "{USER}"')
    _replace(module, r'^FULL_NAME = ".*"', f'FULL_NAME = "{USER}"')
    for path in (module, tests / "test_hf_api.py", tests / "test_kernels.py"):
        _replace(path, re.escape(STAGING), endpoint)
    _replace(tests / "test_hf_api.py", "Dummy Hub Org", ORG)
    shutil.copy(LEFT_OUT / "huggingface_hub_conftest.py", tests / "conftest.py")
    cards = tests / "fixtures" / "cards"
    cards.mkdir(parents=True)
    (cards / "sample_simple.md").write_text("---\nlicense: mit\ndatasets:\n- foo\n- bar\n---\n\nHello\n", "utf-8")
    known = _constants(module)
    users = [(USER, "TOKEN"), (known["OTHER_USER"], "OTHER_TOKEN"), (known["ENTERPRISE_USER"], "ENTERPRISE_TOKEN")]
    return Setup(
        [f"{name}:{known[token]}" for name, token in users],
        [f"{known['ENTERPRISE_ORG']}:{known['ENTERPRISE_USER']}", f"{ORG}:{USER}"],
        {"HF_TOKEN": "", "UPSTREAM_TOKEN": known["TOKEN"], "DISABLE_SYMLINKS_IN_WINDOWS_TESTS": "1"},
    )


def _datasets(tests: Path, endpoint: str) -> Setup:
    (tests / "fixtures").mkdir(exist_ok=True)
    shutil.copy(LEFT_OUT / "datasets_conftest.py", tests / "conftest.py")
    shutil.copy(LEFT_OUT / "datasets_utils.py", tests / "utils.py")
    shutil.copy(LEFT_OUT / "datasets_hub.py", tests / "fixtures" / "hub.py")
    return Setup([f"{USER}:hf_datasets_suite"], environment={"UPSTREAM_TOKEN": "hf_datasets_suite", **QUIET})


def _peft(tests: Path, endpoint: str) -> Setup:
    shutil.copy(LEFT_OUT / "peft_conftest.py", tests / "conftest.py")
    _replace(tests / "test_auto.py", r"\.testing_common", ".testing_utils")  # the other needs diffusers
    owners = ("peft-internal-testing", "hf-internal-testing", "Qwen")
    return Setup([f"{owner}:hf_{owner}" for owner in owners], environment=QUIET)


def _replace(path: Path, pattern: str, text: str) -> None:
    """Replace what is found in a file. Stop if nothing is: the suite has changed, and so must this module."""
    content, count = re.subn(pattern, text, path.read_text("utf-8"), flags=re.MULTILINE)
    if not count:
        raise SystemExit(f"{path} has no {pattern}")
    path.write_text(content, "utf-8")


def _constants(module: Path) -> dict[str, str]:
    """Return the texts that a module assigns to names, without running it."""
    found = {}
    for node in ast.parse(module.read_text("utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                found[name] = text
    return found


PYTEST = ["pytest-asyncio", "pytest-mock", "pytest-rerunfailures"]
SUITES = {
    "huggingface_hub": Suite(["."], _huggingface_hub, [*PYTEST, "fastapi", "duckdb", "jedi", "parso"]),
    "datasets": Suite(
        [
            "test_upstream_hub.py", "test_hub.py::test_delete_from_hub",
            *(f"test_load.py::test_load_{name}" for name in (
                "streaming_private_dataset", "dataset_builder_private_dataset",
                "streaming_private_dataset_with_zipped_data", "dataset_private_zipped_images",
            )),
            "test_inspect.py::test_get_dataset_config_info_private",
            *(f"test_file_utils.py::test_{name}_private" for name in (
                "xexists", "xlistdir", "xisdir", "xisfile", "xgetsize", "xglob", "xwalk",
            )),
        ],
        _datasets, [],
    ),
    "peft": Suite(["test_hub_features.py", "test_auto.py"], _peft, ["parameterized"], ["-W", "ignore::FutureWarning"]),
}  # fmt: skip
