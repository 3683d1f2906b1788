"""The servers that are compared: how each is started, asked, and understood."""

import base64
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import HERE, TEMPLATE, Environment

Row = list[float]
SHAPES = {"small": (8, 8), "medium": (96, 96, 3)}
CLASSES = {"small": 10, "medium": 1000}
JSON = {"Content-Type": "application/json"}
BYTES = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Place:
    """Where a server runs: its environment, its port, which model, a directory for what it writes."""

    environment: Environment
    port: int
    kind: str
    model: Path
    scratch: Path

    @property
    def saved_model(self) -> Path:
        """Directory of the SavedModel within the published model."""
        return next((self.model / "served" / "model").glob("*/saved_model"))


@dataclass(frozen=True)
class Question:
    """A request for one row; answer: takes the outputs from the headers and body of what comes back."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    answer: Callable[[Mapping[str, str], bytes], Row]

    def raw(self, port: int) -> bytes:
        """The whole HTTP request."""
        head = [f"POST {self.path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(self.body)}"]
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*head, "", ""]).encode() + self.body


Ask = Callable[[str, list[Any]], Question]
Command = Callable[[Place], tuple[list[str], dict[str, str]]]


@dataclass(frozen=True)
class Server:
    """One way of serving.

    packaged: a serving framework with a batcher of its own. limit: HTTP without a model, nothing to be right about.
    all_cores: it runs on the load generator's core as well, so that its figures are a lower bound.
    """

    name: str
    title: str
    environment: str
    command: Command
    ask: Ask
    health: str
    packaged: bool = False
    kinds: Sequence[str] = ("small", "medium")
    limit: bool = False
    all_cores: bool = False


def pixels(row: list[Any]) -> bytes:
    """An image of the medium model as its bytes."""
    flat = row
    while isinstance(flat[0], list):
        flat = [value for part in flat for value in part]
    return bytes(flat)


def floats(content: bytes) -> Row:
    return list(struct.unpack(f"<{len(content) // 4}f", content))


def v1(path: str) -> Ask:
    def ask(kind: str, row: list[Any]) -> Question:
        body = json.dumps({"instances": [row]}, separators=(",", ":")).encode()
        return Question(path.format(kind=kind), JSON, body, lambda _, content: json.loads(content)["predictions"][0])

    return ask


def binary_v2(kind: str, row: list[Any]) -> Question:
    """The binary tensor extension of the Open Inference Protocol, both ways."""
    data = pixels(row)
    tensor = {"name": "image", "shape": [1, *SHAPES[kind]], "datatype": "UINT8"}
    output = {"name": "probabilities", "parameters": {"binary_data": True}}
    header = {"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}], "outputs": [output]}
    text = json.dumps(header, separators=(",", ":")).encode()
    headers = BYTES | {"Inference-Header-Content-Length": str(len(text))}

    def answer(found: Mapping[str, str], content: bytes) -> Row:
        return floats(content[int(found["inference-header-content-length"]) :])

    return Question(f"/v2/models/{kind}/infer", headers, text + data, answer)


def ours(kind: str, row: list[Any]) -> Question:
    return binary_v2(kind, row) if kind == "medium" else v1("/v1/models/{kind}:predict")(kind, row)


def ours_through_flask(kind: str, row: list[Any]) -> Question:
    """The spelling with a version goes to Flask's route, with the same functions behind it."""
    return v1("/v1/models/{kind}/versions/benchmark:predict")(kind, row)


def fastapi(kind: str, row: list[Any]) -> Question:
    if kind == "medium":
        return Question("/binary", BYTES, pixels(row), lambda _, content: floats(content))
    return v1("/predict")(kind, row)


def bento(kind: str, row: list[Any]) -> Question:
    if kind == "medium":
        body = json.dumps({"images": [base64.b64encode(pixels(row)).decode()]}).encode()
        return Question(
            "/predict_base64", JSON, body, lambda _, content: floats(base64.b64decode(json.loads(content)[0]))
        )
    body = json.dumps({"rows": [row]}, separators=(",", ":")).encode()
    return Question("/predict", JSON, body, lambda _, content: json.loads(content)[0])


def litserve(kind: str, row: list[Any]) -> Question:
    if kind == "medium":
        part = b'--x\r\nContent-Disposition: form-data; name="content"; filename="image"\r\n\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        body = part + pixels(row) + b"\r\n--x--\r\n"
        return Question("/predict", headers, body, lambda _, content: floats(content))
    body = json.dumps({"image": row}, separators=(",", ":")).encode()
    return Question("/predict", JSON, body, lambda _, content: json.loads(content)["output"])


def mlserver(kind: str, row: list[Any]) -> Question:
    path = "/v2/models/model/infer"
    if kind == "medium":
        data = [base64.b64encode(pixels(row)).decode()]
        tensor = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": data}
        body = json.dumps({"inputs": [tensor]}).encode()
        return Question(path, JSON, body, lambda _, content: floats(base64.b64decode(_first_output(content)[0])))
    tensor = {"name": "image", "shape": [1, *SHAPES[kind]], "datatype": "FP32", "data": [row]}
    body = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
    return Question(path, JSON, body, lambda _, content: _first_output(content))


def _first_output(content: bytes) -> list[Any]:
    found: list[Any] = json.loads(content)["outputs"][0]["data"]
    return found


def ray(kind: str, row: list[Any]) -> Question:
    if kind == "medium":
        return Question("/", BYTES, pixels(row), lambda _, content: floats(content))
    body = json.dumps({"image": row}, separators=(",", ":")).encode()
    return Question("/", JSON, body, lambda _, content: json.loads(content)["output"])


def run_ours(runtime: str, workers: int = 1) -> Command:
    def command(place: Place) -> tuple[list[str], dict[str, str]]:
        variables = {
            "PYTHONPATH": str(TEMPLATE),
            "SERVICE_TOML": str(place.model / "service.toml"),
            "SERVING_MODEL": str(place.model / "served" / "model"),
            "SERVING_RUNTIME": runtime,
            "SERVING_FROZEN": str(place.model / "frozen"),
            "SERVING_WORKERS": str(workers),
            "SERVING_DRAIN_SECONDS": "0",
        }
        return [place.environment.python, "-m", "mlplatform", "serve", "--port", str(place.port)], variables

    return command


def run_python(path: str) -> Command:
    def command(place: Place) -> tuple[list[str], dict[str, str]]:
        variables = {
            "PYTHONPATH": str(HERE / "peers"),
            "PORT": str(place.port),
            "KIND": place.kind,
            "MODEL": str(place.saved_model),
        }
        return [place.environment.python, str(HERE / path)], variables

    return command


def run_granian(place: Place) -> tuple[list[str], dict[str, str]]:
    variables = run_python("")(place)[1] | {"PYTHONPATH": f"{HERE / 'peers'}:{HERE / 'peers' / 'granian'}"}
    command = [place.environment.program("granian"), "--interface", "rsgi", "--workers", "1", "--loop", "uvloop"]
    return [*command, "--host", "127.0.0.1", "--port", str(place.port), "--log-level", "warning", "app:app"], variables


def run_bentoml(place: Place) -> tuple[list[str], dict[str, str]]:
    variables = run_python("")(place)[1] | {
        "BENTOML_HOME": str(place.scratch),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": f"{HERE / 'peers'}:{HERE / 'peers' / 'bentoml'}",
    }
    command = [place.environment.program("bentoml"), "serve", "service:Model", "--host", "127.0.0.1"]
    return [*command, "--port", str(place.port), "--working-dir", str(HERE / "peers" / "bentoml")], variables


def run_mlserver(place: Place) -> tuple[list[str], dict[str, str]]:
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": place.port,
        "grpc_port": place.port + 1000,
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "gzip_enabled": False,
    }
    rows = {"small": 64, "medium": 16}[place.kind]
    model = {
        "name": "model",
        "implementation": "runtime.SavedModel",
        "max_batch_size": rows,
        "max_batch_time": 0.002,
    }
    (place.scratch / "settings.json").write_text(json.dumps(settings))
    (place.scratch / "model-settings.json").write_text(json.dumps(model))
    variables = run_python("")(place)[1] | {"PYTHONPATH": f"{HERE / 'peers'}:{HERE / 'peers' / 'mlserver'}"}
    return [place.environment.program("mlserver"), "start", str(place.scratch)], variables


def run_ray(place: Place) -> tuple[list[str], dict[str, str]]:
    command, variables = run_python("peers/ray/app.py")(place)
    variables |= {
        # Ray's sockets are files below it, and their paths may have 107 characters.
        "RAY_TEMPORARY": f"/tmp/ray-{place.port}",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    return command, variables


LIVE = "/v2/health/live"
SERVERS = [
    Server("ours-tensorflow", "ours, TensorFlow", "ours-tensorflow", run_ours("tensorflow"), ours, LIVE),
    Server("ours-litert", "ours, LiteRT", "ours-litert", run_ours("litert"), ours, LIVE),
    Server(
        name="ours-flask",
        title="ours, Flask route only",
        environment="ours-tensorflow",
        command=run_ours("tensorflow"),
        ask=ours_through_flask,
        health=LIVE,
        kinds=("small",),
    ),
    Server(
        name="ours-two-workers",
        title="ours, TensorFlow, 2 workers on 2 cores",
        environment="ours-tensorflow",
        command=run_ours("tensorflow", workers=2),
        ask=ours,
        health=LIVE,
        all_cores=True,
    ),
    Server("fastapi", "FastAPI, signature", "fastapi", run_python("peers/fastapi/inline.py"), fastapi, "/health"),
    Server(
        name="fastapi-batched",
        title="FastAPI, hand-written batcher",
        environment="fastapi",
        command=run_python("peers/fastapi/batched.py"),
        ask=fastapi,
        health="/health",
    ),
    Server("granian", "Granian, hand-written batcher", "granian", run_granian, fastapi, "/health"),
    Server("bentoml", "BentoML", "bentoml", run_bentoml, bento, "/livez", packaged=True),
    Server(
        name="litserve",
        title="LitServe",
        environment="litserve",
        command=run_python("peers/litserve/server.py"),
        ask=litserve,
        health="/health",
        packaged=True,
    ),
    Server("mlserver", "MLServer", "mlserver", run_mlserver, mlserver, "/v2/health/live", packaged=True),
    Server("ray", "Ray Serve", "ray", run_ray, ray, "/-/healthz", packaged=True),
    Server(
        name="wsgi-nothing",
        title="our worker without a model",
        environment="ours-tensorflow",
        command=run_python("nothing.py"),
        ask=v1("/nothing"),
        health="/health",
        kinds=("small",),
        limit=True,
    ),
    Server(
        name="fastapi-nothing",
        title="FastAPI without a model",
        environment="fastapi",
        command=run_python("peers/fastapi/batched.py"),
        ask=v1("/nothing"),
        health="/health",
        kinds=("small",),
        limit=True,
    ),
]
BY_NAME = {server.name: server for server in SERVERS}
