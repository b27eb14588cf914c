"""Parquet files that hold the SHA-256 of their own values, so that a table that was changed is refused."""

import hashlib
import io
import json
from typing import TYPE_CHECKING

from lossline_jax.storage.checksums import NotAsWritten

if TYPE_CHECKING:
    import pyarrow as pa

KEY = b"lossline.sha256"  # the metadata key of the checksum


def sealed_parquet(table: "pa.Table") -> bytes:
    """Return the content of a Parquet file that has the SHA-256 of the table's values in its metadata.

    Args:
        table: the table to write. Its own schema metadata is replaced.
    """
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata({KEY: _digest(table)}), sink)
    return sink.getvalue()


def check_parquet(content: bytes) -> None:
    """Check the values of a Parquet file against the SHA-256 in its metadata. A file without one passes.

    Args:
        content: the bytes of the file.

    Raises:
        NotAsWritten: the values do not match the SHA-256.
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
