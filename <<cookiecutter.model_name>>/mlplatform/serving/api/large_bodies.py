"""Large JSON bodies, read so that the event loop is never held up for long.

orjson and NumPy keep the interpreter to themselves until they are done. The usual form
of a large request, rows of numbers, is read in pieces between which others have their turn; every other on a thread.
"""

import gc
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import gevent
import numpy as np
import orjson
from gevent.threadpool import ThreadPool

from mlplatform.serving.errors import RequestError
from mlplatform.serving.model.signature import Array, Signature, Tensor
from mlplatform.serving.protocols import v1
from mlplatform.serving.protocols.tensors import only_numbers, to_array

PIECE = 1 << 16
"""Bytes read at once, in a millisecond; a larger body is a large one."""

# With 0 gevent would only let those go on that wait for nothing, and read from no socket.
_PAUSE = 1e-4
_HEAD = re.compile(rb'\s*\{\s*"instances"\s*:\s*\[')
_TAIL = re.compile(rb"\]\s*\}\s*")

T = TypeVar("T")


class LargeBodies:
    """Reads large bodies. One per process, made after the fork: it has a thread."""

    def __init__(self) -> None:
        # One: what is read at the same time takes its memory at the same time.
        self._thread = ThreadPool(1)

    def apply(self, decode: Callable[[], T]) -> T:
        """What `decode` gives or raises, computed on the thread while this greenlet waits."""
        outcome: T | Exception = self._thread.apply(_outcome, (decode,))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def rows_in_pieces(body: bytes, signature: Signature, max_instances: int) -> v1.Request | None:
    """A V1 request of bare rows of numbers, or None if it is another or anything is wrong with it.

    What is wrong is told by who reads the whole. Gives way to other greenlets after every piece.
    """
    tensor = signature.inputs[0]
    if len(signature.inputs) > 1 or tensor.dtype == "string" or None in tensor.shape:
        return None
    arrays: list[Array] = []
    rows = 0
    for piece in _pieces(body, len(tensor.shape)):
        array = _rows(piece, tensor)
        rows += 0 if array is None else len(array)
        if array is None or rows > max_instances:
            return None
        arrays.append(array)
        gevent.sleep(_PAUSE)
    return v1.Request((np.concatenate(arrays),), rows, by_row=True) if arrays else None


def _pieces(body: bytes, rank: int) -> Iterator[bytes]:
    """The rows' text, cut at commas after which a row of this rank may begin; nothing if the body is no such request.

    A cut in the wrong place leaves pieces that are no JSON, for brackets and quotes no longer match.
    """
    head, end = _HEAD.match(body), body.rfind(b"]")
    if head is None or _TAIL.fullmatch(body, max(end, 0)) is None:
        return
    row_end = re.compile(rb"(?:\]\s*){%d}," % rank)
    start = head.end()
    while True:
        cut = row_end.search(body, start + PIECE, end)
        yield b"[%b]" % body[start : cut.end() - 1 if cut else end]
        if cut is None:
            return
        start = cut.end()


def _rows(piece: bytes, tensor: Tensor) -> Array | None:
    """The rows of a piece, (rows, *shape) and at least one; None if they are not numbers as they must be."""
    if not only_numbers(piece, keys=0):
        return None
    try:
        rows = orjson.loads(piece)
        return to_array(rows, tensor, lambda index: "", trusted=True) if rows else None
    except (orjson.JSONDecodeError, RequestError):
        return None


def _outcome(decode: Callable[[], T]) -> T | Exception:
    """An error as a value: gevent would log the traceback of one raised on its thread."""
    # New objects set off a collection every few thousand, and here they all stay.
    gc.disable()
    try:
        return decode()
    except Exception as error:
        return error
    finally:
        gc.enable()
