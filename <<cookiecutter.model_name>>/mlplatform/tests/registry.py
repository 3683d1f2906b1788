"""A small image registry in this process, which Docker pushes to and pulls from: HTTP API v2, layers in files.

https://distribution.github.io/distribution/spec/api
"""

import hashlib
import json
import re
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
CHUNK = 1 << 20


@dataclass
class Registry:
    """authorization: the value of this header without which nothing is answered but 401; requests: in order."""

    authorization: str | None = None
    host: str = ""
    requests: list[str] = field(default_factory=list)
    # By repository and reference, which is a tag or a digest: media type and content.
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    _files: "TemporaryDirectory[str]" = field(default_factory=lambda: TemporaryDirectory(prefix="registry-"))

    def blob(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        return Path(self._files.name) / digest.replace(":", "-")

    def upload(self, name: str) -> Path:
        """Where a blob is collected until it is whole."""
        return Path(self._files.name) / f"upload-{name}"

    def add_blob(self, content: bytes) -> str:
        """Keep a blob; its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blob(digest).write_bytes(content)
        return digest

    def add_manifest(self, repository: str, reference: str, content: bytes, media_type: str = MANIFEST) -> str:
        """Keep a manifest under a tag or digest; its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        for name in {reference, digest}:
            self.manifests[repository, name] = (media_type, content)
        return digest

    def add_image(self, repository: str, tag: str, labels: Mapping[str, str]) -> str:
        """An image without layers; its digest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Labels": dict(labels)}}).encode()
        described = {"mediaType": CONFIG, "digest": self.add_blob(config), "size": len(config)}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": []}
        return self.add_manifest(repository, tag, json.dumps(manifest).encode())

    def tags(self, repository: str) -> list[str]:
        """The tags of a repository."""
        return sorted(name for found, name in self.manifests if found == repository and not name.startswith("sha256:"))

    @contextmanager
    def running(self, *others: str) -> Iterator["Registry"]:
        """Serve it on this machine; `host` is then its host:port. others: addresses to serve it at by the same port."""
        with ExitStack() as stack:
            stack.callback(self._files.cleanup)
            port = 0
            for address in ("127.0.0.1", *others):
                port = stack.enter_context(_serving(self, address, port))
            self.host = f"127.0.0.1:{port}"
            yield self


@contextmanager
def _serving(registry: Registry, address: str, port: int) -> Iterator[int]:
    """The port, which is a free one if 0 is given."""
    server = _Server((address, port), _Handler)
    server.registry = registry
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    registry: Registry
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        registry, parts = self.server.registry, urlsplit(self.path)
        registry.requests.append(f"{self.command} {parts.path}")
        if registry.authorization and self.headers.get("Authorization") != registry.authorization:
            for _ in self._body():
                pass
            self._answer(401, headers={"WWW-Authenticate": 'Basic realm="registry"'})
            return
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/v2/":
            self._answer(200, b"{}")
        elif found := re.fullmatch(r"/v2/(.+)/tags/list", parts.path):
            tags = registry.tags(found[1])
            self._answer(200 if tags else 404, json.dumps({"name": found[1], "tags": tags}).encode())
        elif found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", parts.path):
            self._manifest(found[1], found[2])
        elif found := re.fullmatch(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", parts.path):
            self._blob(found[2])
        elif found := re.fullmatch(r"/v2/(.+)/blobs/uploads/([0-9a-f]*)", parts.path):
            self._upload(found[1], found[2] or uuid.uuid4().hex, given.get("digest"))
        else:
            self._answer(404)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _handle  # noqa: N815

    def _blob(self, digest: str) -> None:
        path = self.server.registry.blob(digest)
        if not path.is_file():
            self._answer(404)
            return
        self._begin(200, path.stat().st_size, {"Docker-Content-Digest": digest})
        if self.command != "HEAD":
            with path.open("rb") as file:
                shutil.copyfileobj(file, self.wfile, CHUNK)

    def _manifest(self, repository: str, reference: str) -> None:
        registry = self.server.registry
        if self.command == "PUT":
            body = b"".join(self._body())
            digest = registry.add_manifest(repository, reference, body, self.headers.get("Content-Type", MANIFEST))
            self._answer(201, headers={"Docker-Content-Digest": digest})
            return
        found = registry.manifests.get((repository, reference))
        if found is None:
            self._answer(404)
            return
        digest = f"sha256:{hashlib.sha256(found[1]).hexdigest()}"
        self._answer(200, found[1], {"Content-Type": found[0], "Docker-Content-Digest": digest})

    def _upload(self, repository: str, upload: str, digest: str | None) -> None:
        """Begin with POST, add with PATCH, end with PUT, which names the digest."""
        path = self.server.registry.upload(upload)
        with path.open("ab") as file:
            file.writelines(self._body())
        place = f"/v2/{repository}/blobs/uploads/{upload}"
        if self.command != "PUT" or digest is None:
            ranged = f"0-{max(path.stat().st_size - 1, 0)}"
            self._answer(202, headers={"Location": place, "Range": ranged, "Docker-Upload-UUID": upload})
            return
        with path.open("rb") as file:
            kept = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        path.replace(self.server.registry.blob(kept))
        self._answer(201 if kept == digest else 400, headers={"Docker-Content-Digest": kept})

    def _body(self) -> Iterator[bytes]:
        """What was sent, in pieces."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            yield from self._pieces(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield from self._pieces(size)
            self.rfile.readline()
        self.rfile.readline()

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self.rfile.read(min(size, CHUNK))
            if not piece:
                raise ConnectionError("the client has gone")
            size -= len(piece)
            yield piece

    def _answer(self, status: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self._begin(status, len(content), headers)
        if self.command != "HEAD":
            self.wfile.write(content)

    def _begin(self, status: int, length: int, headers: Mapping[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {"Docker-Distribution-API-Version": "registry/2.0", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass
