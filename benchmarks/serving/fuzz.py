"""Throws broken requests at a running server, and looks for a 500, a hang, or memory that does not come back.

    python fuzz.py PORT SERVER_PID [REQUESTS] [SEED]

The server serves a model with one input `image` of shape [8, 8]. Prints the count of each status, the memory of the
worker before and after, and ends with 1 if there was a 500, a connection without an answer, or a dead server.
"""

import gzip
import http.client
import json
import random
import struct
import sys
from collections import Counter
from pathlib import Path

PIECES = [b"[", b"]", b"{", b'"', b"\xff", b"NaN", b"-Infinity", b"[" * 2000, b"1e999"]
SCALARS = [0, 1, -1, 1.5, 1e38, 1e39, 1e308, 2**53, 2**64, 2**100, True, None, "", "a", "\u0000", "1", [], {}, [[]]]


def image(random_: random.Random) -> list[list[float]]:
    return [[round(random_.uniform(0, 16), 2) for _ in range(8)] for _ in range(8)]


def valid(random_: random.Random, name: str) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of a request that is right."""
    rows = [image(random_) for _ in range(random_.choice([1, 1, 1, 2, 5]))]
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


def mutate_json(random_: random.Random, body: bytes) -> bytes:
    """Replace, drop or double something somewhere in the tree."""
    try:
        tree = json.loads(body)
    except ValueError:
        return mutate_bytes(random_, body)
    node, path = tree, []
    while isinstance(node, list | dict) and node and random_.random() < 0.8:
        key = random_.choice(list(node) if isinstance(node, dict) else range(len(node)))
        path.append((node, key))
        node = node[key]
    if not path:
        return json.dumps(random_.choice(SCALARS)).encode()
    parent, key = path[-1]
    action = random_.randrange(4)
    if action == 0:
        parent[key] = random_.choice(SCALARS)
    elif action == 1:
        del parent[key]
    elif action == 2 and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif isinstance(parent, dict):
        parent[random_.choice(["x", "", "instances", "inputs", "data", "shape", "é" * 50])] = random_.choice(SCALARS)
    else:
        parent[key] = [parent[key]]
    return json.dumps(tree).encode()


def mutate_bytes(random_: random.Random, body: bytes) -> bytes:
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
            content[at:at] = random_.choice(PIECES)
    return bytes(content)


def request(random_: random.Random, name: str) -> tuple[str, bytes, dict[str, str]]:
    path, body, headers = valid(random_, name)
    mutation = random_.randrange(6)
    if mutation in (0, 1):
        body = mutate_json(random_, body)
    elif mutation in (2, 3):
        body = mutate_bytes(random_, body)
    elif mutation == 4:
        body = gzip.compress(body, 1)
        headers["Content-Encoding"] = random_.choice(["gzip", "deflate", "br", "identity"])
        if random_.random() < 0.5:
            body = mutate_bytes(random_, body)
    if random_.random() < 0.1:
        headers[random_.choice(["Inference-Header-Content-Length", "X-Request-Timeout-Ms", "Content-Type"])] = (
            random_.choice(["", "-1", "0", "5", "99999999999999", "x", "text/html", "1.5"])
        )
    return path, body, headers


def main() -> int:
    port, pid = int(sys.argv[1]), int(sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 50_000
    random_ = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    worker = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")
    name = json.loads(connection.getresponse().read())["name"]
    statuses: Counter[str] = Counter()
    memory = {}
    for number in range(count):
        if number in (count // 10, count - 1):
            memory[number] = resident(worker)
        path, body, headers = request(random_, name)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            response.read()
            statuses[str(response.status)] += 1
            if response.status >= 500 and response.status != 504:
                print(response.status, path, headers, body[:300])
            if response.will_close:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            statuses[type(error).__name__] += 1
            print(repr(error), path, headers, body[:300])
            connection.close()
    same_worker = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0] == worker
    print(dict(statuses), "memory of the worker in MB after so many requests:", memory, "same worker:", same_worker)
    good = all(status.isdigit() and (status < "500" or status == "504") for status in statuses)
    return 0 if good and same_worker else 1


def resident(pid: str) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * 4096 / 1e6, 1)


if __name__ == "__main__":
    sys.exit(main())
