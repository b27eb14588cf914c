"""Parquet files that carry the SHA-256 of their own values, so that a table that was changed is not read."""

import hashlib
import io
import json
from typing import TYPE_CHECKING

from lossline_jax.storage.checksums import NotAsWritten

if TYPE_CHECKING:
    import pyarrow as pa

KEY = b"lossline.sha256"


def sealed_parquet(table: "pa.Table") -> bytes:
    """The table as a Parquet file with the SHA-256 of its values in its metadata."""
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata({KEY: _digest(table)}), sink)
    return sink.getvalue()


def check_parquet(content: bytes) -> None:
    """Compare the values of a Parquet file with the SHA-256 in its metadata; one without is taken as it is.

    Raises:
        NotAsWritten: they are not those that were written.
    """
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(content))
    written = (table.schema.metadata or {}).get(KEY)
    if written is not None and written.decode("latin-1") != _digest(table):
        raise NotAsWritten


def _digest(table: "pa.Table") -> str:
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table[name]
        digest.update(json.dumps([name, str(column.type), len(column)]).encode("utf-8"))
        digest.update(column.is_null().to_numpy().tobytes())
        digest.update(_values(column))
    return digest.hexdigest()


def _values(column: "pa.ChunkedArray") -> bytes:
    import pyarrow as pa

    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.fill_null(0).to_numpy().tobytes()
    return json.dumps(column.to_pylist()).encode("utf-8")
