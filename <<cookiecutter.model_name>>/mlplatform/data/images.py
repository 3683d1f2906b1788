"""Image files as records: as they are, or decoded to an array of numbers, whichever `model.RECORD` describes."""

import base64
import csv
import hashlib
import posixpath
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from mlplatform.contract.errors import CommandError, ExitCode
from mlplatform.data.checking import RecordChecker, media_type
from mlplatform.data.dataset import InputSpec
from mlplatform.data.pictures import is_picture
from mlplatform.data.recording import Found
from mlplatform.data.sources import FILES_AHEAD, THREADS, is_hidden
from mlplatform.store.storage import Storage, open_storage

FILE = "file"


class ImagesError(CommandError):
    """Images cannot become records of this model; the message says why."""

    exit_code = ExitCode.BAD_REQUEST


@dataclass(frozen=True)
class ImageFile:
    """A property of a record that holds an image file in base64.

    media_type: what it has to be, such as image/jpeg, or image/* for every one that Pillow decodes.
    """

    name: str
    media_type: str


@dataclass(frozen=True)
class Picture:
    """A property of a record that holds a picture. channels: 1 or 3; flat: grey without a dimension of its own.

    low, high: what black and white are; integer: whether it holds whole numbers.
    """

    name: str
    height: int
    width: int
    channels: int
    flat: bool
    low: float
    high: float
    integer: bool


def picture_of(schema: Mapping[str, Any], name: str = "") -> Picture | ImageFile:
    """The property of `model.RECORD` with this name, or the only one, that is a picture. Raises ImagesError.

    It is text that stands for an image in base64, or an array of rows, of a fixed number of numbers, or of 1 or 3
    numbers, at least 4 by 4. Its numbers' minimum and maximum are black and white; without them, 0 and 255 are.
    """
    properties = schema.get("properties", {})
    pictures: dict[str, Picture | ImageFile] = {}
    for key, value in properties.items():
        kind = media_type(value, schema)
        found = ImageFile(key, kind) if kind.startswith("image/") else _picture(key, value)
        if found is not None:
            pictures[key] = found
    if name and name not in pictures:
        raise ImagesError(f"--input {name}: model.RECORD has no picture of this name; it has: {_listed(pictures)}")
    if not name and len(pictures) != 1:
        raise ImagesError(
            f"model.RECORD has {len(pictures)} properties that are pictures ({_listed(pictures)}), arrays of a fixed "
            "number of rows, columns and 1 or 3 colours, or images in base64; name one of them by --input"
        )
    return pictures[name or next(iter(pictures))]


def records(
    url: str, labels: Path, picture: Picture | ImageFile, resize: bool, schema: Mapping[str, Any], *truths: str
) -> Iterator[Found]:
    """A record for each row of a table with the columns `file`, the truths', and others of the record's properties.

    url: of the images, a directory or s3://bucket/prefix. A record without an id has the SHA-256 of its file, 32 hex
    digits. resize: whether an image of another size is scaled; else it does not fit. Images that the table does not
    name do not fit either. schema: `model.RECORD`. Raises ImagesError and StorageError.
    """
    source = open_storage(url)
    directory = source.local_path("")
    if directory is not None and not directory.is_dir():
        raise ImagesError(f"{url}: is no directory; name the one that holds the images")
    image = _library()
    checker = RecordChecker(schema)
    known = checker.names
    rows = _rows(labels, known, truths)
    named = [posixpath.normpath(row[FILE]) for row in rows]
    keys = {key for key in source.keys("") if not is_hidden(key) and not key.endswith("/")}
    contents = _contents(source, [key for key in named if key in keys])
    for number, (row, key) in enumerate(zip(rows, named, strict=True), start=2):
        place = f"{labels.name} row {number}"
        if key not in keys:
            yield Found(place, None, f"{row[FILE]!r} is no file below {url}")
            continue
        content = next(contents)
        try:
            values: str | list[Any] = (
                _as_base64(image, content, picture)
                if isinstance(picture, ImageFile)
                else _values(image, content, picture, resize)
            )
        except ValueError as error:
            yield Found(f"{place}, {row[FILE]}", None, str(error))
            continue
        digest = {"id": hashlib.sha256(content).hexdigest()[:32]} if "id" in known else {}
        beside = {name: checker.cell_value(name, cell) for name, cell in row.items() if name in known and cell != ""}
        yield Found(place, {**digest, **beside, picture.name: values})
    for key in sorted(keys.difference(named)):
        if directory is None or (directory / key).resolve() != labels.resolve():
            yield Found(key, None, f"{labels.name} does not name it")


def _contents(source: Storage, keys: Sequence[str]) -> Iterator[bytes]:
    """The bytes of files in order. Several are read ahead: those elsewhere take their time, whatever their size."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="images") as pool:
        coming: deque[Future[bytes]] = deque()
        for key in keys:
            coming.append(pool.submit(source.read, key))
            if len(coming) > FILES_AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _picture(name: str, schema: Any) -> Picture | None:
    sizes: list[int] = []
    inner = schema
    while isinstance(inner, Mapping) and inner.get("type") == "array" and len(sizes) < 3:
        if not inner.get("minItems") or inner["minItems"] != inner.get("maxItems"):
            return None
        sizes.append(int(inner["minItems"]))
        inner = inner.get("items")
    numbers = isinstance(inner, Mapping) and inner.get("type") in ("number", "integer")
    if not numbers or not is_picture(InputSpec(name, tuple(sizes), "float64")):
        return None
    channels = sizes[2] if len(sizes) == 3 else 1
    low, high = float(inner.get("minimum", 0)), float(inner.get("maximum", 255))
    return Picture(name, sizes[0], sizes[1], channels, len(sizes) == 2, low, high, inner["type"] == "integer")


def _rows(labels: Path, known: frozenset[str], truths: Sequence[str]) -> list[dict[str, str]]:
    try:
        with labels.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImagesError(f"{labels}: cannot be read as a table: {error}") from None
    missing = [name for name in (FILE, *truths) if name not in columns]
    unknown = [name for name in columns if name not in known | {FILE, *truths}]
    if missing or unknown:
        said = [f"lacks {', '.join(missing)}"] if missing else []
        said += [f"has {', '.join(unknown)}, which the record has not"] if unknown else []
        raise ImagesError(
            f"{labels}: its header {' and '.join(said)}; it takes file, label, and properties of the record"
        )
    return rows


def _library() -> Any:
    try:
        return import_module("PIL.Image")
    except ModuleNotFoundError:
        raise ImagesError("Pillow, which decodes images, is not installed here; `nox -s data` has it") from None


def _as_base64(image: Any, content: bytes, picture: ImageFile) -> str:
    """An image file in base64. Raises ValueError if it cannot be decoded, or is of another format."""
    try:
        with image.open(BytesIO(content)) as opened:
            opened.load()
            kind = image.MIME.get(opened.format, "")
    except (OSError, SyntaxError, image.DecompressionBombError) as error:
        raise ValueError(f"cannot be decoded: {error}") from None
    if not fnmatchcase(kind, picture.media_type):
        raise ValueError(f"is {kind}, and {picture.name!r} of model.RECORD is {picture.media_type}; convert it")
    return base64.b64encode(content).decode()


def _values(image: Any, content: bytes, picture: Picture, resize: bool) -> list[Any]:
    """The numbers of an image. Raises ValueError with a clause that says why there are none."""
    try:
        with image.open(BytesIO(content)) as opened:
            if opened.mode.startswith(("I", "F")):
                raise ValueError(f"has more than 8 bits for each colour ({opened.mode}); convert it")
            turned = import_module("PIL.ImageOps").exif_transpose(opened)
            decoded = turned.convert("L" if picture.channels == 1 else "RGB")
    except (OSError, SyntaxError, image.DecompressionBombError) as error:
        raise ValueError(f"cannot be decoded: {error}") from None
    size = (picture.width, picture.height)
    if decoded.size != size:
        if not resize:
            taken = f"the model takes {size[0]} x {size[1]}; --resize scales it"
            raise ValueError(f"has {decoded.size[0]} x {decoded.size[1]} pixels, {taken}")
        decoded = decoded.resize(
            size, image.Resampling.BOX if min(decoded.size) >= min(size) else image.Resampling.BICUBIC
        )
    levels = np.asarray(decoded, np.float64) / 255 * (picture.high - picture.low) + picture.low
    values = levels.round().astype(np.int64) if picture.integer else levels.round(6)
    shape = (picture.height, picture.width) + (() if picture.flat else (picture.channels,))
    numbers: list[Any] = values.reshape(shape).tolist()
    return numbers


def _listed(pictures: Mapping[str, Picture | ImageFile]) -> str:
    return ", ".join(pictures) or "none"
