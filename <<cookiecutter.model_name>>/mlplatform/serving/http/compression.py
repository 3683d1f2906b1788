"""Large answers, compressed for clients that accept it."""

import gzip
from collections.abc import Sequence

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header


def compress(accepted: str, headers: Sequence[tuple[str, str]], body: bytes) -> tuple[Sequence[tuple[str, str]], bytes]:
    """Headers and body of an answer, gzipped if `accepted`, the request's Accept-Encoding, allows it.

    Level 1: higher ones take several times as long on digits, and save little more.
    """
    varying = [*headers, ("Vary", "Accept-Encoding")]
    if not _accepts_gzip(parse_accept_header(accepted, Accept)):
        return varying, body
    return [*varying, ("Content-Encoding", "gzip")], gzip.compress(body, compresslevel=1, mtime=0)


def _accepts_gzip(accepted: Accept) -> bool:
    """What is named counts, also with a quality of 0; the star stands for the rest."""
    named = dict(accepted)
    quality: float = named.get("gzip", named.get("x-gzip", named.get("*", 0)))
    return quality > 0
