"""Everything that token ids depend on, and how a part of a split is encoded, in whichever process."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hubdpo.artefacts.formats.messages import COLUMNS, TOOLS
from hubdpo.artefacts.manifests.manifest import fingerprint
from hubdpo.config.chat_template import NAMES, source_of
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.data.load import AT_ONCE, Split
from hubdpo.data.tokens.tokenize import PairTokenizer
from hubdpo.data.tokens.tokenizer import Model, encoder_of, files_digest
from hubdpo.version import __version__

ROWS_PER_PART = 2000
"""Rows that a worker encodes at a time: their tokens are a few MB."""
LIBRARIES = ("transformers", "tokenizers", "tiktoken", "jinja2")
CODE = ("data/encoded", "data/tokens", "data/pairs", "model/tokenizer")
"""Folders of hubdpo whose code decides the ids."""


@dataclass(frozen=True)
class Encoding:
    """How pairs are encoded: the tokenizer with its chat template, and the limits."""

    model: Model
    max_length: int
    prompt_budget: int

    @classmethod
    def of(
        cls, folder: Path, *, template: str | None, template_kwargs: Mapping[str, object] | None, max_length: int,
        prompt_budget: int,
    ) -> Encoding:  # fmt: skip
        """Encode with the tokenizer in `folder`, and with a `--chat-template` in place of its own."""
        kwargs = json.dumps(template_kwargs, sort_keys=True) if template_kwargs else None
        model = Model(str(folder), files=files_digest(folder), template_kwargs=kwargs, template=template)
        return cls(model, max_length, prompt_budget)

    def key(self, split: Split, limit: int) -> str:
        """Return a hash (hex) of all that the ids of the first `limit` rows of a split depend on."""
        template = self.model.template
        return fingerprint(
            {
                "files": split.digests, "rows": limit, "tokenizer": self.model.files,
                "template": None if template is None else [template if template in NAMES else "", source_of(template)],
                "template_kwargs": self.model.template_kwargs, "max_length": self.max_length,
                "prompt_budget": self.prompt_budget, "code": _code(),
            }
        )  # fmt: skip


@functools.cache
def _code() -> dict[str, str]:
    """Name the code that encodes: an installation from a repository changes without a new version."""
    package = Path(__file__).parents[2]
    sources = sorted(path for folder in CODE for path in (package / folder).glob("*.py"))
    hashed = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"hubdpo": __version__, "sources": hashed, "python": platform.python_version(), **versions}


@dataclass(frozen=True)
class Part:
    """Row groups of a shard: rows `first` to `stop` of a split."""

    shard: Path
    groups: tuple[int, ...]
    first: int
    stop: int
    encoding: Encoding


def parts_of(split: Split, encoding: Encoding, limit: int) -> Iterator[Part]:
    """Cut the first `limit` rows of a split into parts, which depend on its files alone."""
    import pyarrow.parquet as pq

    first = 0
    for shard in split.shards:
        footer = pq.read_metadata(shard)
        groups: list[int] = []
        stop = first
        for group in range(footer.num_row_groups):
            groups.append(group)
            stop += footer.row_group(group).num_rows
            if stop - first >= ROWS_PER_PART or group == footer.num_row_groups - 1:
                if first < limit:
                    yield Part(shard, tuple(groups), first, min(stop, limit), encoding)
                groups, first = [], stop


def encode(part: Part) -> tuple[TokenRows, Counter[str]]:
    """Return the rows of a part that are kept, and what became of all of them."""
    import pyarrow.parquet as pq

    encoding = part.encoding
    encoder = PairTokenizer(
        encoder_of(encoding.model), max_length=encoding.max_length, prompt_budget=encoding.prompt_budget
    )
    rows, first = [], part.first
    with pq.ParquetFile(part.shard) as file:
        columns = [name for name in (*COLUMNS, TOOLS) if name in file.schema_arrow.names]
        for batch in file.iter_batches(AT_ONCE, row_groups=list(part.groups), columns=columns, use_threads=False):
            examples = batch.slice(0, part.stop - first).to_pylist()
            rows += encoder.rows(examples, first)
            first += len(examples)
    return TokenRows.of(rows), encoder.counts
