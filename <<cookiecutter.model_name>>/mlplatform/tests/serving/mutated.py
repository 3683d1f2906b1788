"""Predict requests that are broken in some way, as many as are wanted, for a model with one input `image` of [8, 8]."""

import gzip
import json
import random
import struct
from typing import Any

_PIECES = [b"[", b"]", b"{", b'"', b"\xff", b"NaN", b"-Infinity", b"[" * 2000, b"1e999"]
_SCALARS: list[Any] = [
    0,
    1,
    -1,
    1.5,
    1e38,
    1e39,
    1e308,
    2**53,
    2**64,
    2**100,
    True,
    None,
    "",
    "a",
    "\u0000",
    "1",
    [],
    {},
    [[]],
]


def _image(random_: random.Random) -> list[list[float]]:
    return [[round(random_.uniform(0, 16), 2) for _ in range(8)] for _ in range(8)]


def _valid(random_: random.Random, name: str) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of a request that is right."""
    rows = [_image(random_) for _ in range(random_.choice([1, 1, 1, 2, 5]))]
    kind = random_.randrange(5)
    if kind == 0:
        return f"/v1/models/{name}:predict", json.dumps({"instances": rows}).encode(), {}
    if kind == 1:
        return f"/v1/models/{name}:predict", json.dumps({"instances": [{"image": row} for row in rows]}).encode(), {}
    if kind == 2:
        return f"/v1/models/{name}:predict", json.dumps({"inputs": {"image": rows}}).encode(), {}
    entry = {"name": "image", "shape": [len(rows), 8, 8], "datatype": "FP32"}
    if kind == 3:
        return f"/v2/models/{name}/infer", json.dumps({"inputs": [entry | {"data": rows}]}).encode(), {}
    raw = b"".join(struct.pack("<f", value) for row in rows for line in row for value in line)
    text = json.dumps({"inputs": [entry | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    return f"/v2/models/{name}/infer", text + raw, {"Inference-Header-Content-Length": str(len(text))}


def _mutate_json(random_: random.Random, body: bytes) -> bytes:
    """Replace, drop or double something somewhere in the tree."""
    try:
        tree = json.loads(body)
    except ValueError:
        return _mutate_bytes(random_, body)
    node, path = tree, []
    while isinstance(node, list | dict) and node and random_.random() < 0.8:
        key = random_.choice(list(node) if isinstance(node, dict) else range(len(node)))
        path.append((node, key))
        node = node[key]
    if not path:
        return json.dumps(random_.choice(_SCALARS)).encode()
    parent, key = path[-1]
    action = random_.randrange(4)
    if action == 0:
        parent[key] = random_.choice(_SCALARS)
    elif action == 1:
        del parent[key]
    elif action == 2 and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif isinstance(parent, dict):
        parent[random_.choice(["x", "", "instances", "inputs", "data", "shape", "é" * 50])] = random_.choice(_SCALARS)
    else:
        parent[key] = [parent[key]]
    return json.dumps(tree).encode()


def _mutate_bytes(random_: random.Random, body: bytes) -> bytes:
    """Flip, cut or insert bytes."""
    content = bytearray(body)
    for _ in range(random_.choice([1, 1, 2, 10])):
        at = random_.randrange(len(content) + 1)
        action = random_.randrange(3)
        if action == 0 and at < len(content):
            content[at] = random_.randrange(256)
        elif action == 1:
            del content[at : at + random_.randrange(1, 20)]
        else:
            content[at:at] = random_.choice(_PIECES)
    return bytes(content)


def mutated(random_: random.Random, name: str) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of a request, of six one as it should be."""
    path, body, headers = _valid(random_, name)
    mutation = random_.randrange(6)
    if mutation in (0, 1):
        body = _mutate_json(random_, body)
    elif mutation in (2, 3):
        body = _mutate_bytes(random_, body)
    elif mutation == 4:
        body = gzip.compress(body, 1)
        headers["Content-Encoding"] = random_.choice(["gzip", "deflate", "br", "identity"])
        if random_.random() < 0.5:
            body = _mutate_bytes(random_, body)
    if random_.random() < 0.1:
        headers[random_.choice(["Inference-Header-Content-Length", "X-Request-Timeout-Ms", "Content-Type"])] = (
            random_.choice(["", "-1", "0", "5", "99999999999999", "x", "text/html", "1.5"])
        )
    return path, body, headers


def mutated_bytes(random_: random.Random, name: str) -> bytes:
    """A whole request, broken anywhere, the head included."""
    path, body, headers = _valid(random_, name)
    lines = [f"POST {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return _mutate_bytes(random_, "\r\n".join([*lines, "", ""]).encode()) + body
