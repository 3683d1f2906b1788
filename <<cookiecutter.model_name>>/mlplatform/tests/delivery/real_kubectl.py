"""The real kubectl, but for what needs a kubelet: `port-forward` answers as the service would, `logs` says a line."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VERSION = "tags.datadoghq.com/version"


def port_forward(target: str, namespace: str) -> None:
    """Answer for the model that the version label names."""
    name = target.removeprefix("service/")
    command = [os.environ["REAL_KUBECTL"], "get", "deployment", name, "--output=json", f"--namespace={namespace}"]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    labels = found["spec"]["template"]["metadata"]["labels"]

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"versions": [labels[VERSION].partition("-")[0]]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer({"predictions": [[0.5, 0.5] for _ in body["instances"]]})

        def _answer(self, value: Any) -> None:
            content = json.dumps(value).encode()
            self.send_response(202 if labels.get("role") == "ghost" else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    print(f"Forwarding from 127.0.0.1:{server.server_address[1]} -> 8080", flush=True)
    server.serve_forever()


def main(arguments: list[str]) -> None:
    match arguments[0]:
        case "port-forward":
            namespace = next(a.partition("=")[2] for a in arguments if a.startswith("--namespace="))
            port_forward(arguments[1], namespace)
        case "logs":
            print("stopped")
        case _:
            kubectl = os.environ["REAL_KUBECTL"]
            os.execv(kubectl, [kubectl, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
