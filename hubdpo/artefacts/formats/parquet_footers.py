"""Read the footer of a Parquet file: its number of rows, and whether its columns are fit for DPO."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, NamedTuple

from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.errors import ArtefactError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class Footer(NamedTuple):
    rows: int
    schema: pa.Schema
    metadata: pq.FileMetaData


def read_footer(stream: IO[bytes], name: str, *, hint: str) -> Footer:
    """Read the footer of the Parquet file `name`. Raise ArtefactError if it is not a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.ParquetFile(stream)
        return Footer(int(footer.metadata.num_rows), footer.schema_arrow, footer.metadata)
    except (pa.ArrowException, OSError, ValueError) as problem:
        if is_of_the_machine(problem):
            raise
        reason = shortened(" ".join(str(problem).split()), 200)
        raise ArtefactError(f"`{name}` is not a Parquet file: {reason}", hint=hint) from None


def is_of_the_machine(problem: Exception) -> bool:
    """Tell whether reading failed because of the machine or the network, and not of the file."""
    return isinstance(problem, OSError) and (type(problem) is not OSError or problem.errno is not None)


def wrong_column(schema: pa.Schema, *, prepared: bool) -> str | None:
    """Return the problem of a schema for DPO, or None. Before `prepare`, columns of text are accepted too."""
    from hubdpo.artefacts.formats.messages import COLUMNS

    for name in COLUMNS:
        if schema.names.count(name) != 1:
            if (
                name == "prompt" and name not in schema.names and not prepared
            ):  # `prepare` extracts the common beginning
                continue
            return f"`{name}` is {'missing' if name not in schema.names else 'repeated'}"
        kind = schema.field(name).type
        if not is_messages(kind) and (prepared or not _is_text(kind)):
            expected = "messages" if prepared else "text or messages"
            return f"`{name}` holds {shortened(str(kind), 100)}, not {expected}"
    return None


def is_messages(kind: pa.DataType) -> bool:
    """Tell whether an Arrow type is a list of structs with the text fields `role` and `content`, or of JSON objects."""
    import pyarrow as pa

    if is_objects(kind):
        return True
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return False
    texts = [part.name for part in kind.value_type if _is_text(part.type)]
    return {"role", "content"} <= set(texts)


def is_objects(kind: pa.DataType) -> bool:
    """Tell whether an Arrow type is a list of JSON objects."""
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return is_list and isinstance(kind.value_type, pa.JsonType)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
