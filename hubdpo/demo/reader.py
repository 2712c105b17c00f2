"""Do what a stranger does with a release: load adapter and dataset from the Hub, and compare with the base."""

from __future__ import annotations

import json
import sys


def main(adapter: str, dataset: str) -> None:
    """Write one JSON line: how base and adapter rank the held-out pairs (see `EvalReport`)."""
    from hubdpo.data.load import load_preferences
    from hubdpo.evaluation.ranking import score_pairs
    from hubdpo.model.adapters.load import load_adapter

    loaded = load_adapter(adapter)
    report = score_pairs(loaded.model, loaded.tokenizer, load_preferences(dataset)["test"])
    json.dump(
        {
            "pairs": report.pairs,
            "base_accuracy": report.base_accuracy.value,
            "adapter_accuracy": report.adapter_accuracy.value,
            "base_margin": report.base_margin,
            "adapter_margin": report.adapter_margin,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
