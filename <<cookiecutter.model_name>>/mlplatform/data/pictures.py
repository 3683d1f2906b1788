"""Inputs as a person looks at them: pictures as PNG, texts, numbers."""

import base64
import struct
import zlib
from typing import Any

import numpy as np
from markupsafe import Markup

from mlplatform.data.columns import Array
from mlplatform.data.dataset import InputSpec
from mlplatform.reporting.page import as_input

# Pixels along an edge of a picture beyond which only every n-th is shown.
EDGE = 192
SHOWN_VALUES = 12
SHOWN_TEXT = 400
# Of an image file that is shown as it is.
SHOWN_BYTES = 256 << 10


def is_picture(spec: InputSpec) -> bool:
    """Whether an input is shown as a picture: numbers of shape (h, w), (h, w, 1) or (h, w, 3), at least 4 by 4."""
    if spec.length or spec.dtype == "string" or len(spec.sizes) not in (2, 3):
        return False
    channels = spec.sizes[2] if len(spec.sizes) == 3 else 1
    return channels in (1, 3) and min(spec.sizes[:2]) >= 4


def png(array: Array, low: float, high: float) -> Markup:
    """An array (h, w), (h, w, 1) or (h, w, 3) as the data URL of a PNG; `low` is black, NaN too, `high` white."""
    every = -(-max(array.shape[:2]) // EDGE)
    pixels = array[::every, ::every].astype(np.float64).reshape(*array[::every, ::every].shape[:2], -1)
    pixels = np.nan_to_num(pixels, nan=low)
    levels = np.clip((pixels - low) / ((high - low) or 1) * 255, 0, 255).round().astype(np.uint8)
    height, width, channels = levels.shape
    # Each line begins with the filter that it went through: none.
    lines = np.concatenate([np.zeros((height, 1), np.uint8), levels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return Markup("data:image/png;base64,") + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def url(content: bytes, media_type: str) -> str:
    """An image file as a data URL; empty if it is no image that a browser shows, or too large for a page."""
    shown = media_type.startswith("image/") and len(content) <= SHOWN_BYTES
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}" if shown else ""


def bytes_as_text(content: bytes) -> str:
    """UTF-8, or how many bytes it is."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"{len(content):,} bytes"


def as_text(value: Any) -> str:
    """An input of one example as a line of text: what is long is shortened."""
    array = np.asarray(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)
    flat = array.reshape(-1)[:SHOWN_VALUES].tolist()
    shown = [bytes_as_text(item) if isinstance(item, bytes) else as_input(float(item)) for item in flat]
    text = (" · " if flat and isinstance(flat[0], bytes) else ", ").join(shown)
    text = text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]}…"
    return f"{text}, … ({array.size} values)" if array.size > SHOWN_VALUES else text
