"""What the server makes of bytes that are nearly HTTP: one answer for each request, whatever comes.

A request that two readers could take in two ways is how one is smuggled past a proxy, so it is refused and the
connection closed. The shapes are those of RFC 9112, of published research on request smuggling (James Kettle's "HTTP
Desync Attacks", the chunk extensions of Jeppe Weikop), and of the tests of llhttp and gunicorn.

Behind each shape the test sends a second request and closes its side. The connection lives if that is answered as well.
"""

import json
import re
import socket

import pytest

from mlplatform.tests.serving.running import NAME, PREDICT, Running

pytestmark = pytest.mark.serial

BODY = json.dumps({"instances": [[[1] * 8] * 8]}).encode()
LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked"
ONE_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
PROBE = b"GET /v2/health/live HTTP/1.1\r\nHost: probe\r\n\r\n"
HOST = b"Host: here"
LIVE = b"GET /v2/health/live HTTP/1.1"
LIVES, ENDS = True, False
Shape = tuple[bytes, int, bool]
"""Bytes, the status of their answer, and whether the connection lives."""


def post(*headers: bytes, body: bytes = BODY, version: bytes = b"1.1", host: bytes = HOST) -> bytes:
    """A predict request with these headers, as they are."""
    lines = [b"POST %b HTTP/%b" % (PREDICT.encode(), version), *([host] if host else []), *headers]
    return b"\r\n".join([*lines, b"", body])


def get(start: bytes = LIVE, *headers: bytes, host: bytes = HOST) -> bytes:
    """A request without a body."""
    return b"\r\n".join([start, *([host] if host else []), *headers, b"", b""])


def chunks(body: bytes) -> bytes:
    """A predict request with this chunked body, as it is."""
    return post(CHUNKED, body=body)


def chunked(size: bytes = b"%x" % len(BODY), data: bytes = BODY, end: bytes = b"0\r\n\r\n") -> bytes:
    """One in a single chunk."""
    return chunks(b"%b\r\n%b\r\n%b" % (size, data, end))


def coded(coding: bytes, name: bytes = b"Transfer-Encoding") -> bytes:
    return post(b"%b:%b" % (name, coding), body=ONE_CHUNK)


REQUEST_LINES: dict[str, Shape] = {
    "plain": (get(), 200, LIVES),
    "an empty line before": (b"\r\n" + get(), 200, LIVES),
    "two empty lines before": (b"\r\n\r\n" + get(), 200, LIVES),
    "a bare LF before": (b"\n" + get(), 200, LIVES),
    "a space before": (b" " + get(), 400, ENDS),
    "a NUL before": (b"\0" + get(), 400, ENDS),
    "the greeting of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, ENDS),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ENDS),
    "HTTP/0.9": (b"GET /v2/health/live\r\n\r\n", 505, ENDS),
    "HTTP/0.9 as a number": (get(b"GET /v2/health/live HTTP/0.9"), 505, ENDS),
    "HTTP/1": (get(b"GET / HTTP/1"), 400, ENDS),
    "HTTP/1.2": (get(b"GET / HTTP/1.2"), 400, ENDS),
    "HTTP/1.10": (get(b"GET / HTTP/1.10"), 400, ENDS),
    "HTTP/2.0": (get(b"GET / HTTP/2.0"), 505, ENDS),
    "HTTP/11": (get(b"GET / HTTP/11"), 400, ENDS),
    "a lower-case protocol": (get(b"GET / http/1.1"), 400, ENDS),
    "another protocol": (get(b"GET / ICAP/1.0"), 400, ENDS),
    "no version": (get(b"GET / HTTP/"), 400, ENDS),
    "text behind the version": (get(b"GET / HTTP/1.1 x"), 400, ENDS),
    "no target": (get(b"GET HTTP/1.1"), 400, ENDS),
    "no method": (get(b"/ HTTP/1.1"), 400, ENDS),
    "a lower-case method": (get(b"get / HTTP/1.1"), 400, ENDS),
    "a method with a colon": (get(b"GE:T / HTTP/1.1"), 400, ENDS),
    "a method with brackets": (get(b"GET[] / HTTP/1.1"), 400, ENDS),
    "a method that nobody knows": (get(b"BREW / HTTP/1.1"), 400, ENDS),
    "tabs between": (get(b"GET\t/\tHTTP/1.1"), 400, ENDS),
    "a bare CR between": (get(b"GET /\rHTTP/1.1"), 400, ENDS),
    "a vertical tab between": (get(b"GET /\x0bHTTP/1.1"), 400, ENDS),
    "a space in the target": (get(b"GET /a b HTTP/1.1"), 400, ENDS),
    "a NUL in the target": (get(b"GET /\0 HTTP/1.1"), 400, ENDS),
    "DEL in the target": (get(b"GET /\x7f HTTP/1.1"), 400, ENDS),
    "Latin-1 in the target": (get(b"GET /\xe9 HTTP/1.1"), 400, ENDS),
    "UTF-8 in the target": (get("GET /é HTTP/1.1".encode()), 400, ENDS),
    "a fragment": (get(b"GET /#top HTTP/1.1"), 400, ENDS),
    "a target without a slash": (get(b"GET v2 HTTP/1.1"), 400, ENDS),
    "a backslash": (get(rb"GET \v2 HTTP/1.1"), 400, ENDS),
    "an asterisk with GET": (get(b"GET * HTTP/1.1"), 400, ENDS),
    "an asterisk with OPTIONS": (get(b"OPTIONS * HTTP/1.1"), 404, LIVES),
    "an absolute target": (get(b"GET http://here/v2/health/live HTTP/1.1"), 200, LIVES),
    "an absolute target in capitals": (get(b"GET HTTP://here/v2/health/live HTTP/1.1"), 200, LIVES),
    "an absolute target with another host": (get(b"GET http://there:1/v2/health/live HTTP/1.1"), 200, LIVES),
    "an absolute target without a path": (get(b"GET http://here HTTP/1.1"), 200, LIVES),
    "an absolute target with only a query": (get(b"GET http://here?a=b HTTP/1.1"), 200, LIVES),
    "an absolute target without a host": (get(b"GET http:///v2 HTTP/1.1"), 501, ENDS),
    "an absolute target of a user": (get(b"GET http://a@here/v2/health/live HTTP/1.1"), 400, ENDS),
    "an absolute target of another scheme": (get(b"GET ftp://here/v2 HTTP/1.1"), 501, ENDS),
    "a tunnel": (get(b"CONNECT here:80 HTTP/1.1"), 501, ENDS),
    "a tunnel to a path": (get(b"CONNECT /v2 HTTP/1.1"), 501, ENDS),
    "percent-encoded": (get(b"GET /v2/health/%6cive HTTP/1.1"), 200, LIVES),
    "percent-encoded badly": (get(b"GET /v2/health/%zz HTTP/1.1"), 404, LIVES),
    "a percent-encoded NUL": (get(b"GET /%00 HTTP/1.1"), 404, LIVES),
    "a percent-encoded line end": (get(b"GET /%0d%0aX: HTTP/1.1"), 404, LIVES),
    "dots": (get(b"GET /pages/../v2 HTTP/1.1"), 404, LIVES),
    "a query": (get(b"GET /v2/health/live?a=%26&b HTTP/1.1"), 200, LIVES),
    "a long target": (get(b"GET /%b HTTP/1.1" % (b"a" * 9000)), 414, ENDS),
    "a long target that does not end": (b"GET /" + b"a" * 20_000, 414, ENDS),
    "a bare LF behind the request line": (b"GET /v2/health/live HTTP/1.1\nHost: x\r\n\r\n", 400, ENDS),
    "bare LFs everywhere": (get().replace(b"\r", b""), 400, ENDS),
    "bare CRs everywhere": (get().replace(b"\n", b""), 400, ENDS),
    "HTTP/1.0": (get(b"GET /v2/health/live HTTP/1.0"), 200, ENDS),
    "HTTP/1.0 without a host": (get(b"GET /v2/health/live HTTP/1.0", host=b""), 200, ENDS),
    "HTTP/1.0 that stays": (get(b"GET /v2/health/live HTTP/1.0", b"Connection: keep-alive"), 200, LIVES),
}

HEADERS: dict[str, Shape] = {
    "no host": (get(host=b""), 400, ENDS),
    "an empty host": (get(host=b"Host:"), 200, LIVES),
    "two hosts": (get(b"GET / HTTP/1.1", HOST), 400, ENDS),
    "a host with a user": (get(host=b"Host: a@b"), 400, ENDS),
    "a host with a space": (get(host=b"Host: a b"), 400, ENDS),
    "a host with a path": (get(host=b"Host: a/b"), 400, ENDS),
    "a list of hosts": (get(host=b"Host: a, b"), 400, ENDS),
    "a host in Latin-1": (get(host=b"Host: \xe9"), 400, ENDS),
    "a host of IPv6": (get(host=b"Host: [::1]:80"), 200, LIVES),
    "a host of broken IPv6": (get(host=b"Host: [::1"), 400, ENDS),
    "a port that is no number": (get(host=b"Host: a:b"), 400, ENDS),
    "no colon": (get(b"GET / HTTP/1.1", b"no header"), 400, ENDS),
    "no name": (get(b"GET / HTTP/1.1", b": y"), 400, ENDS),
    "a space before the colon": (get(b"GET / HTTP/1.1", b"X : y"), 400, ENDS),
    "a tab before the colon": (get(b"GET / HTTP/1.1", b"X\t: y"), 400, ENDS),
    "a space in the name": (get(b"GET / HTTP/1.1", b"X Y: z"), 400, ENDS),
    "a slash in the name": (get(b"GET / HTTP/1.1", b"X/Y: z"), 400, ENDS),
    "a bracket in the name": (get(b"GET / HTTP/1.1", b"X(Y: z"), 400, ENDS),
    "Latin-1 in the name": (get(b"GET / HTTP/1.1", b"X\xe9: z"), 400, ENDS),
    "a NUL in the name": (get(b"GET / HTTP/1.1", b"X\0: z"), 400, ENDS),
    "a space before the first": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400, ENDS),
    "a folded value": (get(b"GET / HTTP/1.1", b"X: a", b" b"), 400, ENDS),
    "a value folded by a tab": (get(b"GET / HTTP/1.1", b"X: a", b"\tb"), 400, ENDS),
    "a value folded from an empty one": (get(b"GET / HTTP/1.1", b"X:", b" b"), 400, ENDS),
    "a NUL in the value": (get(b"GET / HTTP/1.1", b"X: a\0b"), 400, ENDS),
    "a bare CR in the value": (get(b"GET / HTTP/1.1", b"X: a\rb"), 400, ENDS),
    "a bare LF in the value": (get(b"GET / HTTP/1.1", b"X: a\nY: b"), 400, ENDS),
    "an escape in the value": (get(b"GET / HTTP/1.1", b"X: a\x1bb"), 400, ENDS),
    "DEL in the value": (get(b"GET / HTTP/1.1", b"X: a\x7fb"), 400, ENDS),
    "CRs before the line end": (b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", 400, ENDS),
    "Latin-1 in the value": (get(LIVE, b"X: \xe9"), 200, LIVES),
    "a tab in the value": (get(LIVE, b"X: a\tb"), 200, LIVES),
    "an empty value": (get(LIVE, b"X:"), 200, LIVES),
    "no space behind the colon": (get(LIVE, b"X:y"), 200, LIVES),
    "every character of a token": (get(LIVE, b"!#$%&'*+-.^_`|~09aZ: y"), 200, LIVES),
    "a name with an underscore": (post(LENGTH, b"Transfer_Encoding: chunked"), 200, LIVES),
    "a length with an underscore": (post(LENGTH, b"Content_Length: 3"), 200, LIVES),
    "a hundred": (get(LIVE, *[b"X: y"] * 99), 200, LIVES),
    "more than a hundred": (get(b"GET / HTTP/1.1", *[b"X: y"] * 200), 431, ENDS),
    "a long one": (get(b"GET / HTTP/1.1", b"X: " + b"y" * 9000), 431, ENDS),
    "a long one that does not end": (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000, 431, ENDS),
    "long ones": (get(b"GET / HTTP/1.1", *[b"X: " + b"y" * 8000] * 20), 431, ENDS),
    "a head that ends early": (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", 400, ENDS),
    "close": (get(LIVE, b"Connection: close"), 200, ENDS),
    "close in capitals among others": (get(LIVE, b"Connection: x, CLOSE"), 200, ENDS),
    "close in the second of two": (get(LIVE, b"Connection: x", b"Connection: close"), 200, ENDS),
    "an upgrade to WebSocket": (get(LIVE, b"Connection: Upgrade", b"Upgrade: websocket"), 400, LIVES),
    "an upgrade to HTTP/2": (get(LIVE, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"), 200, LIVES),
    "an expectation": (post(LENGTH, b"Expect: 100-continue"), 200, LIVES),
    "an expectation in capitals": (post(LENGTH, b"Expect: 100-CONTINUE"), 200, LIVES),
    "another expectation": (post(LENGTH, b"Expect: tea"), 417, ENDS),
    "two expectations": (post(LENGTH, b"Expect: 100-continue", b"Expect: 100-continue"), 400, ENDS),
    "two content types": (post(LENGTH, b"Content-Type: text/plain", b"Content-Type: text/xml"), 400, ENDS),
    "two codings": (post(LENGTH, b"Content-Encoding: gzip", b"Content-Encoding: identity"), 400, ENDS),
    "zeros before a timeout": (post(LENGTH, b"X-Request-Timeout-Ms: " + b"0" * 5000 + b"5000"), 200, LIVES),
    "a timeout of only zeros": (post(LENGTH, b"X-Request-Timeout-Ms: " + b"0" * 5000), 400, LIVES),
    "a long timeout": (post(LENGTH, b"X-Request-Timeout-Ms: " + b"9" * 5000), 400, LIVES),
    "a timeout in other digits": (post(LENGTH, "X-Request-Timeout-Ms: ٣".encode()), 400, LIVES),
    "zeros as the length of the JSON": (post(LENGTH, b"Inference-Header-Content-Length: " + b"0" * 5000), 200, LIVES),
}

LENGTHS: dict[str, Shape] = {
    "right": (post(LENGTH), 200, LIVES),
    "in capitals": (post(LENGTH.upper()), 200, LIVES),
    "padded": (post(b"Content-Length:   %d\t " % len(BODY)), 200, LIVES),
    "zeros before": (post(b"Content-Length: 000%d" % len(BODY)), 200, LIVES),
    "5,000 zeros before": (post(b"Content-Length: " + b"0" * 5000 + b"%d" % len(BODY)), 200, LIVES),
    "nothing": (post(b"Content-Length: 0", body=b""), 400, LIVES),
    "none": (post(body=b""), 400, LIVES),
    "of a GET": (get(LIVE, b"Content-Length: 3") + b"abc", 200, LIVES),
    "of an unknown path": (post(LENGTH).replace(PREDICT.encode(), b"/nothing"), 404, LIVES),
    "too long": (post(b"Content-Length: %d" % (len(BODY) + 1000)), 400, ENDS),
    "over the limit": (post(b"Content-Length: 99999999"), 413, ENDS),
    "of 19 digits": (post(b"Content-Length: 9223372036854775807"), 413, ENDS),
    "beyond 63 bits": (post(b"Content-Length: 9223372036854775808"), 400, ENDS),
    "beyond 64 bits": (post(b"Content-Length: 18446744073709551617"), 400, ENDS),
    "5,000 digits": (post(b"Content-Length: " + b"9" * 5000), 400, ENDS),
    "empty": (post(b"Content-Length:"), 400, ENDS),
    "a sign": (post(b"Content-Length: +%d" % len(BODY)), 400, ENDS),
    "negative": (post(b"Content-Length: -1"), 400, ENDS),
    "hexadecimal": (post(b"Content-Length: 0x%x" % len(BODY)), 400, ENDS),
    "hexadecimal without a prefix": (post(b"Content-Length: a"), 400, ENDS),
    "an exponent": (post(b"Content-Length: 1e2"), 400, ENDS),
    "a fraction": (post(b"Content-Length: 1.0"), 400, ENDS),
    "an underscore": (post(b"Content-Length: 1_0"), 400, ENDS),
    "a word": (post(b"Content-Length: many"), 400, ENDS),
    "in quotes": (post(b'Content-Length: "1"'), 400, ENDS),
    "a space between": (post(b"Content-Length: 1 0"), 400, ENDS),
    "a vertical tab": (post(b"Content-Length: \x0b10"), 400, ENDS),
    "other digits": (post("Content-Length: ٣".encode()), 400, ENDS),
    "twice": (post(LENGTH, LENGTH), 400, ENDS),
    "twice and different": (post(b"Content-Length: 1", b"Content-Length: 2"), 400, ENDS),
    "a list": (post(b"Content-Length: 1, 1"), 400, ENDS),
    "a list of different ones": (post(b"Content-Length: 1,2"), 400, ENDS),
    "before chunked": (post(LENGTH, CHUNKED, body=ONE_CHUNK), 400, ENDS),
    "behind chunked": (post(CHUNKED, b"Content-Length: 3", body=ONE_CHUNK), 400, ENDS),
    "0 beside chunked": (post(CHUNKED, b"Content-Length: 0", body=ONE_CHUNK), 400, ENDS),
    "with HTTP/1.0": (post(LENGTH, version=b"1.0"), 200, ENDS),
    "with a space before its colon": (post(b"Content-Length : 5"), 400, ENDS),
    "folded": (post(b"Content-Length:", b" 5"), 400, ENDS),
    "behind a bare LF": (post(b"X: y\nContent-Length: 5"), 400, ENDS),
}

CODINGS: dict[str, Shape] = {
    "chunked": (coded(b" chunked"), 200, LIVES),
    "in capitals": (coded(b" CHUNKED"), 200, LIVES),
    "padded": (coded(b"\t chunked \t"), 400, ENDS),
    "without a space": (coded(b"chunked"), 200, LIVES),
    "the name in capitals": (coded(b" chunked", b"TRANSFER-ENCODING"), 200, LIVES),
    "empty": (coded(b""), 400, ENDS),
    "identity": (coded(b" identity"), 501, ENDS),
    "gzip": (coded(b" gzip"), 501, ENDS),
    "gzip before": (coded(b" gzip, chunked"), 501, ENDS),
    "gzip behind": (coded(b" chunked, gzip"), 400, ENDS),
    "identity before": (coded(b" identity, chunked"), 501, ENDS),
    "identity behind": (coded(b" chunked, identity"), 400, ENDS),
    "chunked twice": (coded(b" chunked,chunked"), 400, ENDS),
    "two headers": (post(CHUNKED, CHUNKED, body=ONE_CHUNK), 400, ENDS),
    "two headers, the first another": (post(b"Transfer-Encoding: identity", CHUNKED, body=ONE_CHUNK), 400, ENDS),
    "two headers, the last another": (post(CHUNKED, b"Transfer-Encoding: cow", body=ONE_CHUNK), 400, ENDS),
    "a letter before": (coded(b" xchunked"), 501, ENDS),
    "a letter behind": (coded(b" chunkedx"), 501, ENDS),
    "a parameter": (coded(b" chunked;q=1"), 501, ENDS),
    "a comma before": (coded(b" ,chunked"), 501, ENDS),
    "a comma behind": (coded(b" chunked,"), 400, ENDS),
    "in quotes": (coded(b' "chunked"'), 501, ENDS),
    "in single quotes": (coded(b" 'chunked'"), 501, ENDS),
    "a vertical tab before": (coded(b" \x0bchunked"), 400, ENDS),
    "a form feed behind": (coded(b" chunked\x0c"), 400, ENDS),
    "a NUL behind": (coded(b" chunked\0"), 400, ENDS),
    "a long s in it": (coded(" chun\u212aed".encode()), 501, ENDS),
    "a space before the colon": (coded(b" chunked", b"Transfer-Encoding "), 400, ENDS),
    "a space before the name": (post(b" Transfer-Encoding: chunked", body=ONE_CHUNK), 400, ENDS),
    "folded": (post(b"Transfer-Encoding:", b" chunked", body=ONE_CHUNK), 400, ENDS),
    "folded from another header": (post(b"X: y", b" Transfer-Encoding: chunked", body=ONE_CHUNK), 400, ENDS),
    "behind a bare LF": (post(b"X: y\nTransfer-Encoding: chunked", body=ONE_CHUNK), 400, ENDS),
    "behind a bare CR": (post(b"X: y\rTransfer-Encoding: chunked", body=ONE_CHUNK), 400, ENDS),
    "with HTTP/1.0": (post(CHUNKED, body=ONE_CHUNK, version=b"1.0"), 400, ENDS),
    "of a GET": (get(LIVE, CHUNKED) + b"0\r\n\r\n", 200, LIVES),
}

CHUNKS: dict[str, Shape] = {
    "one": (chunked(), 200, LIVES),
    "two": (chunks(b"1\r\n{\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY) - 1, BODY[1:])), 200, LIVES),
    "each byte alone": (chunks(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"), 200, LIVES),
    "none": (chunks(b"0\r\n\r\n"), 400, LIVES),
    "many zeros": (chunked(b"0" * 30 + b"%x" % len(BODY)), 200, LIVES),
    "capitals": (chunked(b"%X" % len(BODY)), 200, LIVES),
    "zeros at the end": (chunked(end=b"0000\r\n\r\n"), 200, LIVES),
    "an extension": (chunked(b"%x;a=b" % len(BODY)), 200, LIVES),
    "an extension in quotes": (chunked(b'%x;a="b;c"' % len(BODY)), 200, LIVES),
    "an extension at the end": (chunked(end=b"0;a=b\r\n\r\n"), 200, LIVES),
    "an empty extension": (chunked(b"%x;" % len(BODY)), 400, ENDS),
    "a space before an extension": (chunked(b"%x ;a" % len(BODY)), 400, ENDS),
    "a bare LF in an extension": (chunked(b"%x;\n" % len(BODY)), 400, ENDS),
    "a bare CR in an extension": (chunked(b"%x;\ra" % len(BODY)), 400, ENDS),
    "an endless extension": (chunked(b"%x;%b" % (len(BODY), b"a" * 100_000)), 431, ENDS),
    "a long extension": (chunked(b"%x;%b" % (len(BODY), b"a" * 9000)), 200, LIVES),
    "a trailer": (chunked(end=b"0\r\nX-Sum: 1\r\n\r\n"), 200, LIVES),
    "a trailer that sets the length": (chunked(end=b"0\r\nContent-Length: 5\r\n\r\n"), 400, ENDS),
    "a trailer that sets the coding": (chunked(end=b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400, ENDS),
    "a trailer that sets the host": (chunked(end=b"0\r\nHost: there\r\n\r\n"), 200, LIVES),
    "a bare LF in a trailer": (chunked(end=b"0\r\nX: y\n\r\n"), 400, ENDS),
    "many trailers": (chunked(end=b"0\r\n" + b"X: y\r\n" * 200 + b"\r\n"), 431, ENDS),
    "a long trailer": (chunked(end=b"0\r\nX: " + b"y" * 9000 + b"\r\n\r\n"), 431, ENDS),
    "an empty size": (chunked(b""), 400, ENDS),
    "only an extension": (chunked(b";a=b"), 400, ENDS),
    "a negative size": (chunked(b"-1"), 400, ENDS),
    "a sign": (chunked(b"+%x" % len(BODY)), 400, ENDS),
    "a prefix": (chunked(b"0x%x" % len(BODY)), 400, ENDS),
    "an underscore": (chunked(b"1_0"), 400, ENDS),
    "a space before": (chunked(b" %x" % len(BODY)), 400, ENDS),
    "a space behind": (chunked(b"%x " % len(BODY)), 400, ENDS),
    "a tab behind": (chunked(b"%x\t" % len(BODY)), 400, ENDS),
    "a vertical tab behind": (chunked(b"%x\x0b" % len(BODY)), 400, ENDS),
    "no digit": (chunked(b"no"), 400, ENDS),
    "beyond 64 bits": (chunked(b"1" + b"0" * 16), 400, ENDS),
    "beyond 64 bits, and as if it were right": (chunked(b"1" + b"%016x" % len(BODY)), 400, ENDS),
    "sixteen f": (chunked(b"f" * 16), 400, ENDS),
    "fifteen f": (chunked(b"f" * 15), 400, ENDS),
    "a size that is too small": (chunked(b"%x" % (len(BODY) - 1)), 400, ENDS),
    "a size that is too large": (chunked(b"%x" % (len(BODY) + 1)), 400, ENDS),
    "no line end behind the data": (chunks(b"%x\r\n%b0\r\n\r\n" % (len(BODY), BODY)), 400, ENDS),
    "another line end behind the data": (chunks(b"%x\r\n%bXX0\r\n\r\n" % (len(BODY), BODY)), 400, ENDS),
    "a bare LF behind the data": (chunks(b"%x\r\n%b\n0\r\n\r\n" % (len(BODY), BODY)), 400, ENDS),
    "a bare LF behind the size": (chunks(b"%x\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)), 400, ENDS),
    "a bare CR behind the size": (chunks(b"%x\r%b\r\n0\r\n\r\n" % (len(BODY), BODY)), 400, ENDS),
    "no end": (chunked(end=b""), 400, ENDS),
    "no line behind the end": (chunked(end=b"0\r\n"), 400, ENDS),
    "an end in the middle": (chunks(b"1\r\n{\r\n0\r\n\r\n"), 400, LIVES),
    "an empty line before": (chunks(b"\r\nhello\r\n0\r\n\r\n"), 400, ENDS),
    "over the limit": (chunks(b"500000\r\n" + b" " * 0x500000 + b"\r\n0\r\n\r\n"), 413, ENDS),
}

TABLES = {
    "request line": REQUEST_LINES,
    "header": HEADERS,
    "length": LENGTHS,
    "coding": CODINGS,
    "chunk": CHUNKS,
}


def test_the_table_is_a_large_one() -> None:
    assert sum(len(table) for table in TABLES.values()) >= 150


@pytest.mark.parametrize(
    ("raw", "status", "lives"),
    [pytest.param(*shape, id=f"{table}: {name}") for table, shapes in TABLES.items() for name, shape in shapes.items()],
)
def test_gets_one_answer(server: Running, raw: bytes, status: int, lives: bool) -> None:
    answers = exchange(server, raw + PROBE)
    assert statuses(answers) == ([status, 200] if lives else [status]), answers[:500]
    head = answers[: answers.index(b"\r\n\r\n")].lower()
    assert (b"connection: close" in head) != lives


def test_requests_that_come_together_are_answered_in_order(server: Running) -> None:
    paths = ["/v2/health/live", "/nothing", f"/v2/models/{NAME}", "/v2/health/ready"] * 20
    asked = b"".join(get(f"GET {path} HTTP/1.1".encode()) + post(LENGTH) for path in paths)
    assert statuses(exchange(server, asked)) == [200, 200, 404, 200, 200, 200, 200, 200] * 20


def test_a_request_may_come_in_single_bytes(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in chunked(end=b"0\r\nX: y\r\n\r\n"):
            client.sendall(bytes([byte]))
        client.shutdown(socket.SHUT_WR)
        assert statuses(read_all(client)) == [200]


@pytest.mark.parametrize("expects", [b"100-continue", b"100-Continue", b"100-CONTINUE"])
def test_who_asks_before_it_sends_the_body_is_told_to_go_on(server: Running, expects: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(post(LENGTH, b"Expect: " + expects, body=b""))
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BODY)
        client.shutdown(socket.SHUT_WR)
        assert statuses(read_all(client)) == [200]


def test_who_asks_before_it_sends_a_body_that_is_too_large_is_told_so(server: Running) -> None:
    answers = exchange(server, post(b"Content-Length: 99999999", b"Expect: 100-continue", body=b""))
    assert statuses(answers) == [413]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_head_has_the_headers_of_get_and_no_body(server: Running, method: str) -> None:
    request = get(f"{method} /v2/models/{NAME} HTTP/1.1".encode(), b"Connection: close")
    head, _, body = exchange(server, request).partition(b"\r\n\r\n")
    length = int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]
    assert length > 50
    assert len(body) == (length if method == "GET" else 0)


def test_options_names_the_methods(server: Running) -> None:
    answer = exchange(server, get(f"OPTIONS {PREDICT} HTTP/1.1".encode()))
    assert b"\r\nAllow: OPTIONS, POST\r\n" in answer or b"\r\nAllow: POST, OPTIONS\r\n" in answer


def exchange(server: Running, raw: bytes) -> bytes:
    """Send bytes, close our side, and read until the server closes its own."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        try:
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
        except ConnectionError:
            # It has answered already, and closed.
            pass
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    answers = b""
    try:
        while part := client.recv(65536):
            answers += part
    except ConnectionResetError:
        pass
    return answers


def statuses(answers: bytes) -> list[int]:
    """Of all answers but those that say to go on."""
    answered = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
    return [status for status in answered if status != 100]
