"""What the footers of Parquet files tell, no row being read: how many rows there are, and whether DPO takes them."""

from __future__ import annotations

from typing import IO, Any

from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.errors import ArtefactError


def read_footer(stream: IO[bytes], name: str, *, hint: str) -> tuple[int, Any]:
    """Return the rows and the Arrow schema of a Parquet file. Raise ArtefactError when it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.ParquetFile(stream)
        return int(footer.metadata.num_rows), footer.schema_arrow
    except (pa.ArrowException, OSError, ValueError) as problem:
        if isinstance(problem, OSError) and (type(problem) is not OSError or problem.errno is not None):
            raise  # of this machine or of the network, and not of the file
        told = shortened(" ".join(str(problem).split()), 200)
        raise ArtefactError(f"`{name}` is no Parquet file: {told}", hint=hint) from None


def wrong_column(schema: Any, *, prepared: bool) -> str | None:
    """Return what keeps DPO from training on rows of a schema; texts will do where `prepare` is still to come."""
    from hubdpo.artefacts.formats.messages import COLUMNS

    for name in COLUMNS:
        if schema.names.count(name) != 1:
            if name == "prompt" and name not in schema.names and not prepared:  # `prepare` finds what both begin with
                continue
            return f"`{name}` is {'missing' if name not in schema.names else 'there more than once'}"
        kind = schema.field(name).type
        if not is_messages(kind) and (prepared or not _is_text(kind)):
            wanted = "messages" if prepared else "text or messages"
            return f"`{name}` holds {shortened(str(kind), 100)}, and not {wanted}"
    return None


def is_messages(kind: Any) -> bool:
    """Tell whether an Arrow type is that of conversations: lists of structs with the texts `role` and `content`."""
    import pyarrow as pa

    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return False
    texts = [part.name for part in kind.value_type if _is_text(part.type)]
    return {"role", "content"} <= set(texts)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
