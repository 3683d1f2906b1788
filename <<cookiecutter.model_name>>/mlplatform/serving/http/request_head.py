"""The head of a request as a WSGI environment, strictly.

httptools refuses nearly all that two readers of one request could take in two ways, which is how requests are
smuggled past a proxy. What it lets through is refused here.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from mlplatform.serving.errors import RequestError
from mlplatform.serving.http.header_values import header_number, shorten
from mlplatform.serving.http.request_parser import Request

Environ = dict[str, Any]


# RFC 3986, 3.2.2, with a port; the brackets of an IPv6 address.
_HOST = re.compile(r"(?:[\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::\d*)?", re.ASCII)
# Of 63 bits: what is larger is no number to some.
_LONGEST = (1 << 63) - 1
_ABSOLUTE = re.compile(rb"https?://([^/?]+)(.*)", re.IGNORECASE)
_ONCE = (
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "HTTP_HOST",
    "HTTP_TRANSFER_ENCODING",
    "HTTP_CONTENT_ENCODING",
    "HTTP_EXPECT",
    "HTTP_INFERENCE_HEADER_CONTENT_LENGTH",
)


def read_head(request: Request, connection: Environ) -> Environ:
    """The environment of a request. connection: what is the same for all requests on one.

    Raises RequestError, with which the connection must end: 400, 417, 501 or 505.
    """
    headers = {_variable(name): value.decode("latin-1").rstrip(" \t") for name, value in request.headers}
    if len(headers) < len(request.headers):
        headers = _joined(request.headers)
    # A name with an underscore could pass for the one with a hyphen.
    headers.pop("", None)
    # In this order: with an absolute target, its host counts.
    environ = connection | headers | _target(request.target)
    environ["REQUEST_METHOD"] = request.method.decode("ascii")
    environ["SERVER_PROTOCOL"] = f"HTTP/{request.version}"
    _check(environ, request)
    return environ


def _joined(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers of which some are repeated, as lists. Raises RequestError for one that may not be repeated."""
    joined: dict[str, str] = {}
    for name, value in headers:
        variable = _variable(name)
        text = value.decode("latin-1").rstrip(" \t")
        if variable in joined:
            if variable in _ONCE:
                raise _refused(f"the header {name.decode()} is repeated")
            text = f"{joined[variable]}{'; ' if variable == 'HTTP_COOKIE' else ','}{text}"
        joined[variable] = text
    return joined


@lru_cache(maxsize=1024)
def _variable(name: bytes) -> str:
    """A header's name as WSGI has it; empty if it is not to be passed on."""
    variable = name.decode("ascii").upper().replace("-", "_")
    if b"_" in name:
        return ""
    return variable if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{variable}"


@lru_cache(maxsize=1024)
def _target(target: bytes) -> Environ:
    """What a request target says, in the variables of the environment. Callers ask for few targets, again and again."""
    if not target.isascii() or b"#" in target:
        raise _refused("the request target has characters that must be percent-encoded")
    variables = {}
    if not target.startswith(b"/") and target != b"*":
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise _no_proxy()
        # RFC 9112, 3.2.2: it counts instead of the header.
        variables["HTTP_HOST"] = absolute[1].decode("ascii")
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    path, _, query = target.partition(b"?")
    variables["RAW_URI"] = target.decode("ascii")
    variables["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1")
    variables["QUERY_STRING"] = query.decode("ascii")
    return variables


@lru_cache(maxsize=1024)
def _check_host(host: str) -> None:
    if _HOST.fullmatch(host) is None:
        raise _refused(f"Host is {shorten(host)!r}; expected a host and perhaps a port")


def _check(environ: Environ, request: Request) -> None:
    if request.version not in ("1.1", "1.0"):
        reason = f"the version of HTTP is {request.version}; expected 1.1 or 1.0"
        raise RequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, reason, close=True)
    if request.method == b"CONNECT":
        raise _no_proxy()
    if request.target == b"*" and request.method != b"OPTIONS":
        raise _refused("the target * is for OPTIONS")
    if "HTTP_HOST" in environ:
        _check_host(environ["HTTP_HOST"])
    elif request.version == "1.1":
        raise _refused("the header Host is missing")
    if "CONTENT_LENGTH" in environ:
        length = header_number(environ["CONTENT_LENGTH"], _LONGEST)
        if length is None:
            raise _refused(f"Content-Length is {shorten(environ['CONTENT_LENGTH'])!r}; expected a number")
        request.content_length = length
        # It may have had 5,000 zeros in front.
        environ["CONTENT_LENGTH"] = str(length)
    if "HTTP_TRANSFER_ENCODING" in environ:
        _check_coding(environ["HTTP_TRANSFER_ENCODING"], request)
    if "HTTP_EXPECT" in environ and environ["HTTP_EXPECT"].lower() != "100-continue":
        reason = f"Expect is {shorten(environ['HTTP_EXPECT'])!r}; expected 100-continue"
        raise RequestError(HTTPStatus.EXPECTATION_FAILED, reason, close=True)


def _check_coding(coding: str, request: Request) -> None:
    if coding.lower() != "chunked":
        reason = f"Transfer-Encoding is {shorten(coding)!r}; expected chunked"
        raise RequestError(HTTPStatus.NOT_IMPLEMENTED, reason, close=True)
    if request.version != "1.1" or request.content_length is not None:
        raise _refused("Transfer-Encoding is for HTTP/1.1 without Content-Length")


def _no_proxy() -> RequestError:
    return RequestError(HTTPStatus.NOT_IMPLEMENTED, "this server is no proxy", close=True)


def _refused(reason: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, f"not a valid HTTP request: {reason}", close=True)
