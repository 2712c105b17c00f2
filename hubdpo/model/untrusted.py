"""Guard the loading of files that others published: check their size and depth first, and turn errors into one line.

The three loaders (`tokenizer.load`, `bases.load`, `adapters.load`) also tell transformers and PEFT never to run code
that a repo names, which transformers would ask about on the terminal, and never to open a pickle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hubdpo.artefacts.folders.model_files import CONFIG
from hubdpo.artefacts.folders.run_folder import train_again
from hubdpo.artefacts.formats.bounded import JsonObject, check_count, parse_file, read_bytes, read_object
from hubdpo.artefacts.manifests.manifest import RUN_FILE
from hubdpo.errors import ArtefactError, HubdpoError
from hubdpo.hub.client import called
from hubdpo.hub.failures import first_line
from hubdpo.machine.refusals import OUT_OF_MEMORY

MOST_COUNTS = {
    "num_hidden_layers": 2_000, "num_layers": 2_000, "n_layer": 2_000, "n_layers": 2_000, "num_decoder_layers": 2_000,
    "num_experts": 10_000, "num_local_experts": 10_000, "n_routed_experts": 10_000, "num_labels": 100_000,
}  # fmt: skip
"""Most parts of a kind that config.json may ask for. The largest model in use has 162 layers."""
AGAIN = "fetch its files again, or tell its owner"
_MAY_NAME_CODE = ("tokenizer_config.json", CONFIG)


def next_step(folder: Path) -> str:
    """Return the hint for a broken file: a run of this machine writes it again, that of others is fetched again."""
    is_run = called(folder) == str(folder) and (folder / RUN_FILE).is_file()
    return train_again(folder) if is_run else AGAIN


def check_files(folder: Path, names: Iterable[str], error: type[HubdpoError]) -> None:
    """Raise `error` when one of these files is there and too large, or its JSON malformed, too deep or too long."""
    for name in names:
        path = folder / name
        if not path.is_file():
            continue
        try:
            data = read_bytes(path, of=called(folder))
            if name in ("tokenizer.json", "vocab.json") or name.endswith(".index.json"):
                check_count(data)  # megabytes, which their reader parses once more
            elif path.suffix == ".json":
                parse_file(data, name)
        except ArtefactError as problem:
            raise error(problem.message, hint=next_step(folder)) from None
        except ValueError as problem:
            message = f"`{name}` of `{called(folder)}` cannot be read: {problem}"
            raise error(message, hint=next_step(folder)) from None


def read_json(path: Path) -> JsonObject:
    """Read a JSON object. Raise ArtefactError, naming the file, when it is missing or holds anything else."""
    folder = path.parent
    try:
        return read_object(path, of=called(folder))
    except OSError as problem:
        raise ArtefactError(f"`{path.name}` cannot be read: {problem}", hint="fetch or make the folder again") from None
    except ArtefactError as problem:
        raise ArtefactError(problem.message, hint=next_step(folder)) from None


def check_counts(folder: Path) -> JsonObject:
    """Return config.json of a folder, empty when there is none. Raise ValueError for a count beyond MOST_COUNTS."""
    if not (folder / CONFIG).is_file():
        return {}
    config = parse_file(read_bytes(folder / CONFIG), CONFIG)
    nested = [config]
    while nested:
        value = nested.pop()
        if not isinstance(value, dict):
            continue
        for name, count in value.items():
            if name in MOST_COUNTS and isinstance(count, (int, float)) and count > MOST_COUNTS[name]:
                raise ValueError(f"`{name}` of {CONFIG} is {count:,}, and at most {MOST_COUNTS[name]:,} are built")
        nested += value.values()
    return config if isinstance(config, dict) else {}


@contextmanager
def one_line_errors(
    folder: Path, subject: str, error: type[HubdpoError], failure: str = "cannot be loaded"
) -> Iterator[None]:
    """Raise `error`, "`subject` of `folder` `failure`: ...", for an error that a library raises in the body.

    Errors of hubdpo and errors that say that memory ran out pass through unchanged.
    """
    try:
        yield
    except HubdpoError:
        raise
    except BaseException as problem:
        # a panic in Rust, such as the tokenizer's at a regular expression that takes too long, is no Exception
        if not isinstance(problem, Exception) and type(problem).__name__ != "PanicException":
            raise
        if isinstance(problem, MemoryError) or OUT_OF_MEMORY.search(str(problem)):
            raise
        for name in _MAY_NAME_CODE:
            if "custom code" in str(problem) and _asks_for_code(folder / name):
                raise error(
                    f"`{called(folder)}` asks to run code of its own (`auto_map` in {name}), which hubdpo never does",
                    hint="use a model whose architecture and tokenizer transformers has itself",
                ) from problem
        kind = "" if type(problem) is ValueError else f"{type(problem).__name__}: "
        message = f"{subject} of `{called(folder)}` {failure}: {kind}{first_line(problem)}"
        raise error(message, hint=next_step(folder)) from problem


def _asks_for_code(path: Path) -> bool:
    try:
        return bool(read_object(path).get("auto_map"))
    except (OSError, ArtefactError):
        return False
