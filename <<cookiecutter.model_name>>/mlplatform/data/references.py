"""Records that name files: `data add files` puts the bytes of the files into them, in base64.

A property with `format: uri-reference` beside `contentEncoding: base64` may hold, in place of base64, the path of a
file relative to the file of records.
"""

import base64
import posixpath
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import unquote

from mlplatform.data.checking import media_type
from mlplatform.store.storage import Storage


def names(schema: Mapping[str, Any]) -> frozenset[str]:
    """The properties of `model.RECORD` that may name a file."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    return frozenset(
        name
        for name, column in properties.items()
        if media_type(column, schema) and column.get("format") == "uri-reference"
    )


class References:
    """The files of a source that records may name. keys: of all of them. `used`: those that were named."""

    def __init__(self, source: Storage, keys: Collection[str], properties: frozenset[str]) -> None:
        self.properties = properties
        self.used: set[str] = set()
        self._source = source
        self._keys = frozenset(keys)

    def resolved(self, record: Mapping[str, Any], key: str) -> dict[str, Any]:
        """A record with bytes in place of names. key: of the file that it stands in.

        Raises ValueError with a clause that names a value which is neither a file of the source nor base64.
        """
        known = {name: record[name] for name in self.properties if isinstance(record.get(name), str)}
        return {**record, **{name: self._bytes(name, value, key) for name, value in known.items()}}

    def _bytes(self, name: str, value: str, key: str) -> str:
        named = posixpath.normpath(posixpath.join(posixpath.dirname(key), unquote(value)))
        if named in self._keys:
            self.used.add(named)
            return base64.b64encode(self._source.read(named)).decode()
        try:
            base64.b64decode(value, validate=True)
        except ValueError:
            raise ValueError(f"{name}: {value[:100]!r} is no file beside {posixpath.basename(key)}") from None
        return value
