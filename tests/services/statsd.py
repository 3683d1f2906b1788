"""A receiver of DogStatsD that keeps what it gets: UDP packets on port 8125, asked for by HTTP on port 8127.

GET /packets answers a JSON list with one text per packet, oldest first; bytes that are no UTF-8 are escaped as \\xNN.
DELETE /packets forgets them.
"""

import json
import socketserver
import threading
from collections import deque
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# 100,000 packets of 1,432 bytes, which is what clients fill at most, are 140 MB.
packets: deque[str] = deque(maxlen=100_000)


class Packets(socketserver.BaseRequestHandler):
    """Keeps a packet."""

    def handle(self) -> None:
        packets.append(self.request[0].decode(errors="backslashreplace"))


class Questions(BaseHTTPRequestHandler):
    """Answers for /packets."""

    def do_GET(self) -> None:
        self._answer(HTTPStatus.OK, json.dumps(list(packets)).encode())

    def do_DELETE(self) -> None:
        packets.clear()
        self._answer(HTTPStatus.NO_CONTENT)

    def _answer(self, status: HTTPStatus, body: bytes = b"") -> None:
        if self.path != "/packets":
            status, body = HTTPStatus.NOT_FOUND, b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    receiver = socketserver.UDPServer(("0.0.0.0", 8125), Packets)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("0.0.0.0", 8127), Questions).serve_forever()
