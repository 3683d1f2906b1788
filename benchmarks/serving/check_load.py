"""Is the load generator fast and right? Against wrk on the fastest server here: `python check_load.py WORK`.

Closed loop: the rates of both, in turn. Open loop: how late requests were sent, and whether as many as asked for.
"""

import re
import subprocess
import sys
from pathlib import Path

from environments import environment
from load import compiled
from running import Examples, running
from servers import BY_NAME, Place

LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = io.open("{body}", "rb"):read("*a")
"""


def main(work: Path) -> None:
    load = compiled(work, 1)
    server = BY_NAME["wsgi-nothing"]
    directory = work / "models" / "small"
    examples = Examples.read(directory / "examples.json")
    place = Place(environment(server.environment, work), 18999, "small", directory, work / "scratch" / "check")
    with running(server, place, examples, 0):
        question = server.ask("small", examples.inputs[0])
        request, body, lua = (place.scratch / name for name in ("request", "body", "post.lua"))
        request.write_bytes(question.raw(place.port))
        body.write_bytes(question.body)
        lua.write_text(LUA.format(body=body))
        url = f"http://127.0.0.1:{place.port}{question.path}"
        for connections in (1, 64, 1, 64):
            command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", "-d2", "--latency", "-s", str(lua), url]
            wrk = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rate, p99 = re.search(r"Requests/sec: +(\S+)", wrk), re.search(r"99% +(\S+)", wrk)
            own = load.closed(place.port, 2, connections, Path("-"), [request])
            print(
                f"c{connections}: wrk {rate[1] if rate else '?'}/s p99 {p99[1] if p99 else '?'}; "
                f"load {own['goodput']}/s p99 {own['accepted']['p99']} ms, cpu {own['client_cpu']}"
            )
        for rate in (500, 2000, 8000, 20000):
            own = load.open(place.port, 2, rate, Path("-"), [request])
            print(f"open {rate}/s: scheduled {own['scheduled'] / 2}/s, late {own['late']}, goodput {own['goodput']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
