"""A small image registry in this process, which Docker pushes to and pulls from: HTTP API v2, everything in memory.

https://distribution.github.io/distribution/spec/api
"""

import hashlib
import json
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass
class Registry:
    """authorization: the value of this header without which nothing is answered but 401; requests: in order."""

    authorization: str | None = None
    host: str = ""
    requests: list[str] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    # By repository and reference, which is a tag or a digest: media type and content.
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)

    def add_blob(self, content: bytes) -> str:
        """Keep a blob; its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
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
    def running(self) -> Iterator["Registry"]:
        """Serve it on this machine; `host` is then its host:port."""
        server = _Server(("127.0.0.1", 0), _Handler)
        server.registry = self
        self.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
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
        body = self._body()
        registry.requests.append(f"{self.command} {parts.path}")
        if registry.authorization and self.headers.get("Authorization") != registry.authorization:
            self._answer(401, headers={"WWW-Authenticate": 'Basic realm="registry"'})
            return
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/v2/":
            self._answer(200, b"{}")
        elif found := re.fullmatch(r"/v2/(.+)/tags/list", parts.path):
            tags = registry.tags(found[1])
            self._answer(200 if tags else 404, json.dumps({"name": found[1], "tags": tags}).encode())
        elif found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", parts.path):
            self._manifest(found[1], found[2], body)
        elif found := re.fullmatch(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", parts.path):
            content = registry.blobs.get(found[2])
            digest = {"Docker-Content-Digest": found[2]}
            self._answer(404) if content is None else self._answer(200, content, digest)
        elif found := re.fullmatch(r"/v2/(.+)/blobs/uploads/([0-9a-f]*)", parts.path):
            self._upload(found[1], found[2] or uuid.uuid4().hex, given.get("digest"), body)
        else:
            self._answer(404)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _handle  # noqa: N815

    def _manifest(self, repository: str, reference: str, body: bytes) -> None:
        registry = self.server.registry
        if self.command == "PUT":
            digest = registry.add_manifest(repository, reference, body, self.headers.get("Content-Type", MANIFEST))
            self._answer(201, headers={"Docker-Content-Digest": digest})
            return
        found = registry.manifests.get((repository, reference))
        if found is None:
            self._answer(404)
            return
        digest = f"sha256:{hashlib.sha256(found[1]).hexdigest()}"
        self._answer(200, found[1], {"Content-Type": found[0], "Docker-Content-Digest": digest})

    def _upload(self, repository: str, upload: str, digest: str | None, body: bytes) -> None:
        """Begin with POST, add with PATCH, end with PUT, which names the digest."""
        registry = self.server.registry
        content = registry.uploads[upload] = registry.uploads.get(upload, b"") + body
        place = f"/v2/{repository}/blobs/uploads/{upload}"
        if self.command != "PUT" or digest is None:
            ranged = f"0-{max(len(content) - 1, 0)}"
            self._answer(202, headers={"Location": place, "Range": ranged, "Docker-Upload-UUID": upload})
            return
        del registry.uploads[upload]
        kept = registry.add_blob(content)
        self._answer(201 if kept == digest else 400, headers={"Docker-Content-Digest": kept})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {"Docker-Distribution-API-Version": "registry/2.0", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass
