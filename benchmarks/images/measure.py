"""What the images cost: time of each step, size by layer, and what is built anew after a change: `nox -s bench_images`.

What the engine has kept of earlier builds is used. So run it twice: the first time with TEMPLATE_TESTS_ENGINE naming an
empty directory, where an engine of its own starts with nothing, then again.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from containers.server import LOCKED_UP, running  # noqa: E402
from engine import Engine, open_engine  # noqa: E402
from rendered import DEFAULTS, copy_template, post, published_model, render  # noqa: E402

BASE_IMAGE = "python:3.13-slim-trixie"


@contextmanager
def timed(step: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:7.1f} s  {step}", flush=True)


def build(engine: Engine, repository: Path, kind: str, name: str = "", **arguments: str) -> str:
    return engine.build(repository, f"docker/{kind}.Dockerfile", name or kind, **arguments)


def train(engine: Engine, repository: Path, image: str, epochs: int) -> dict[str, Any]:
    """Train into the repository's own store, as the user of this process; the manifest of the model."""
    store = repository / "store"
    store.mkdir()
    options = (
        *LOCKED_UP,
        f"--user={os.getuid()}:{os.getgid()}",
        f"--volume={store}:/store",
        "--env=STORAGE_URL=/store",
    )
    engine.run("run", "--rm", *options, image, "--epochs", str(epochs))
    return published_model(repository)


def serve(engine: Engine, image: str, manifest: dict[str, Any]) -> None:
    """Time until a server is ready, and its memory after a prediction."""
    begun = time.monotonic()
    with running(engine, image) as (container, url):
        print(f"{time.monotonic() - begun:7.1f} s  server ready after its start", flush=True)
        body = {"instances": [manifest["properties"]["samples"][0]["instance"]]}
        status, answer = post(f"{url}/v1/models/{DEFAULTS['model_name']}:predict", body)
        assert status == 200, answer
        memory = engine.output("stats", "--no-stream", "--format={{.MemUsage}}", container)
        print(f"{memory.partition(' ')[0]:>9}  its memory", flush=True)


def rebuilds(engine: Engine, repository: Path, model: str) -> None:
    """Time of a build with nothing changed, with changed code, and with another model."""
    for kind in ("training", "serving"):
        arguments = {"MODEL": model} if kind == "serving" else {}
        with timed(f"{kind} image again, nothing changed"):
            build(engine, repository, kind, **arguments)
        changed = repository / "mlplatform" / kind / "__init__.py"
        # Another comment each time: the same change would be in the engine's memory the next time.
        changed.write_text(f"{changed.read_text(encoding='utf-8')}\n# {engine.session}\n", encoding="utf-8")
        with timed(f"{kind} image after a change of code"):
            build(engine, repository, kind, **arguments)
    another = repository / "store" / "models" / "another"
    shutil.copytree(repository / model, another)
    manifest = another / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["properties"]["parameters"]["measured"] = engine.session
    del content["digest"]
    manifest.write_text(json.dumps(content), encoding="utf-8")
    with timed("serving image after a new model"):
        build(engine, repository, "serving", "another", MODEL=f"store/models/{another.name}")


def show_layers(engine: Engine, image: str, kind: str) -> None:
    size = int(engine.output("inspect", "--format={{.Size}}", image)) / 1e6
    print(f"{size:7.0f} MB {kind} image, of which")
    history = ("history", "--no-trunc", "--human=false", "--format={{.Size}} {{.CreatedBy}}", image)
    for line in engine.output(*history).splitlines():
        layer, _, command = line.partition(" ")
        if int(layer) >= 10_000:
            print(f"{int(layer) / 1e6:11.2f} MB {' '.join(command.removeprefix('/bin/sh -c ').split())[:80]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20, help="epochs that the model is trained for [20]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        repository = render(copy_template(ROOT, Path(directory) / "template"), Path(directory) / "rendered", {})
        started = time.monotonic()
        with open_engine(BASE_IMAGE) as engine:
            print(f"{time.monotonic() - started:7.1f} s  engine and base image ready", flush=True)
            with timed("training image"):
                training = build(engine, repository, "training")
            with timed(f"training of {options.epochs} epochs in it"):
                manifest = train(engine, repository, training, options.epochs)
            model = f"store/models/{manifest['id']}"
            images = {"training": training}
            for runtime in ("tensorflow", "litert"):
                with timed(f"serving image with {runtime}"):
                    images[runtime] = build(engine, repository, "serving", runtime, MODEL=model, RUNTIME=runtime)
                serve(engine, images[runtime], manifest)
            rebuilds(engine, repository, model)
            for kind, image in images.items():
                show_layers(engine, image, kind)


if __name__ == "__main__":
    main()
