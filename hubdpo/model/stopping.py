"""Where generation stops: at the token with which the chat template ends a turn, also where the base's does not.

A base that was never tuned to chat stops at `<|endoftext|>`, while ChatML ends a turn with `<|im_end|>`. An adapter
that learned to end its answers so would run on for ever if only the base's own token stopped it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hubdpo.artefacts.manifests.manifest import canonical_json, write_atomic
from hubdpo.artefacts.manifests.run import EndOfTurn, RunManifest
from hubdpo.model.adapters.files import read_json

GENERATION_FILE, CONFIG_FILE = "generation_config.json", "config.json"


def unstopped(base: Path, end_of_turn: tuple[str, int] | None) -> EndOfTurn | None:
    """Return the end of a turn, when the generation of the base in this folder does not stop there."""
    if end_of_turn is None:
        return None
    stops = _stops(base)
    return None if end_of_turn[1] in stops else EndOfTurn(token=end_of_turn[0], id=end_of_turn[1], base_stops_at=stops)


def write_stops(folder: Path, end: EndOfTurn) -> None:
    """Have the generation config of a folder, the base's as far as it is there, stop at the end of a turn too."""
    place = folder / GENERATION_FILE
    settings = read_json(place) if place.exists() else {}
    settings.pop("_from_model_config", None)  # with it transformers may go by config.json after all
    write_atomic(place, canonical_json({**settings, "eos_token_id": end.all_stops}))


def use_stops(model: Any, run: RunManifest) -> None:
    """Let a loaded base stop where the run that adapts it ends its answers."""
    if run.end_of_turn is not None:
        model.generation_config.eos_token_id = run.end_of_turn.all_stops


def stops_elsewhere(run: RunManifest) -> str | None:
    """Return the sentence for whoever trains or publishes a run whose base stops elsewhere; None when it does not."""
    end = run.end_of_turn
    if end is None:
        return None
    stops = " and ".join(map(str, end.base_stops_at)) or "no token"
    return (
        f"the chat template ends a turn with `{end.token}` (id {end.id}), at which the generation of "
        f"`{run.base.name}` does not stop (it stops at {stops}); {GENERATION_FILE} of the run stops at both, and "
        f"programs that read the base's need `stop_token_ids` [{end.id}]"
    )


def _stops(base: Path) -> list[int]:
    for name in (GENERATION_FILE, CONFIG_FILE):
        if (base / name).exists():
            found = read_json(base / name).get("eos_token_id")
            if found is not None:
                return [id_ for id_ in (found if isinstance(found, list) else [found]) if isinstance(id_, int)]
    return []
