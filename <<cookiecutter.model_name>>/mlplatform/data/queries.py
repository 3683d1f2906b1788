"""Rows of a query as records: of a SQLite database, which Python's standard library reads."""

import base64
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from mlplatform.contract.errors import CommandError, ExitCode
from mlplatform.data.checking import RecordChecker, media_type
from mlplatform.data.recording import Found

MAGIC = b"SQLite format 3\0"


class QueryError(CommandError):
    """A query cannot be made; the message says why."""

    exit_code = ExitCode.BAD_REQUEST


def records(path: Path, query: str, schema: Mapping[str, Any], values: Mapping[str, str]) -> Iterator[Found]:
    """A record for each row of a query, by the names of its columns. values: of `:name` in the query.

    A null is left out where the record's schema does not allow it; text in a column that is an array or an object is
    JSON; bytes become base64 where the schema says so. The database is only read. Raises QueryError.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(len(MAGIC))
    except OSError as error:
        raise QueryError(f"{path}: {error.strerror}") from None
    if begins != MAGIC:
        raise QueryError(
            f"{path}: is no SQLite database, the only one that is read; export other data as CSV or JSON lines for "
            "`data add files`"
        )
    checker = RecordChecker(schema)
    properties = schema.get("properties", {})
    structured = {name for name, value in properties.items() if value.get("type") in ("array", "object")}
    booleans = {name for name, value in properties.items() if value.get("type") == "boolean"}
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            cursor = database.execute(query, dict(values))
            names = [column[0] for column in cursor.description or ()]
            if len(set(names)) < len(names):
                raise QueryError(f"the query has a column twice: {', '.join(names)}; rename one with AS")
            for number, row in enumerate(cursor, start=1):
                record: dict[str, Any] = {}
                reason = ""
                for name, value in zip(names, row, strict=True):
                    if value is None and not checker.may_be_null(name):
                        continue
                    if isinstance(value, bytes) and media_type(properties.get(name), schema):
                        value = base64.b64encode(value).decode()
                    elif isinstance(value, bytes):
                        reason = f"{name}: holds bytes, which a record cannot without contentEncoding in its schema"
                    elif name in structured and isinstance(value, str):
                        try:
                            value = json.loads(value)
                        except ValueError as error:
                            reason = f"{name}: is not valid JSON: {error}"
                    elif name in booleans and value in (0, 1):
                        value = bool(value)
                    record[name] = value
                yield Found(f"row {number}", None if reason else record, reason)
    except sqlite3.Error as error:
        raise QueryError(f"{path}: {error}") from None
