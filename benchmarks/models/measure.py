"""Real models from training to answers: `nox -s bench_models`, or some of them by name.

Each model in kinds/ is trained on made-up records by the pipeline, passes or fails the gate, is published, and is
served by TensorFlow and by LiteRT. Asked by V1, V2 and V2 binary, all have to predict the same; where LiteRT does not
take a model, the table says why. The figures go to results.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from train import HERE, KINDS, train

from mlplatform.store.manifest import Manifest, read_directory
from mlplatform.tests.model_contract import protocols
from mlplatform.tests.serving.running import Running, serving

Ask = Callable[[Running, Any], protocols.Predictions]
ASKED: dict[str, Ask] = {"V1": protocols.v1_rows, "V2": protocols.v2_json, "V2 binary": protocols.v2_binary}
# LiteRT adds up in another order.
CLOSE = 1e-4


def serve(directory: Path, model: Manifest, runtime: str, expected: protocols.Predictions | None) -> dict[str, Any]:
    """Serve what was published and ask for its samples. Returns what it predicts as `predictions`."""
    instances = [sample["instance"] for sample in model.properties["samples"]]
    started = time.monotonic()
    with serving(directory / "service.toml", runtime=runtime) as running:
        running.wait_for(200, seconds=600)
        ready = time.monotonic() - started
        answers = {name: ask(running, instances) for name, ask in ASKED.items()}
        memory = max(_peak(worker) for worker in running.workers())
    expected = expected or answers["V1"]
    for name, predictions in answers.items():
        for output, values in predictions.items():
            np.testing.assert_allclose(values, expected[output], atol=CLOSE, err_msg=f"{runtime} {name} {output}")
    return {"ready": ready, "memory": memory, "asked": list(ASKED), "predictions": expected}


def _peak(process: int) -> int:
    """Bytes that a process has had resident at most."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def measure(kind: str, directory: Path) -> dict[str, Any]:
    """One model from its records to answers."""
    figures = train(kind, directory)
    if figures["exit_code"]:
        return figures
    (version,) = (directory / "store" / "models").iterdir()
    model, content = read_directory(version)
    figures["accuracy"] = model.properties["metrics"]["accuracy"]
    expected = None
    for runtime, entry in model.properties["runtimes"].items():
        if not entry["valid"]:
            figures[runtime] = {"why": entry["reason"]}
            continue
        served = serve(directory, model, runtime, expected)
        expected = served.pop("predictions")
        figures[runtime] = {**served, "bytes": size(content / entry["path"])}
    return figures


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| model | train, gate, publish | peak | runtime | size | ready after | peak of the server | same answer by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, figures in results.items():
        if figures["exit_code"]:
            lines.append(f"| {kind} | {_seconds(figures)}: {figures['why']} | {_mb(figures)} | | | | | |")
            continue
        start = f"| {kind} | {_seconds(figures)}, accuracy {figures['accuracy']:.3f} | {_mb(figures)} "
        for runtime in ("tensorflow", "litert"):
            served = figures[runtime]
            if "why" in served:
                lines.append(f"{start}| {runtime} | none: {served['why']} | | | |")
            else:
                asked = ", ".join(served["asked"])
                bytes_ = f"{served['bytes'] / 1e6:.2f} MB"
                lines.append(f"{start}| {runtime} | {bytes_} | {served['ready']:.1f} s | {_mb(served)} | {asked} |")
            start = "| | | "
    return "\n".join(lines)


def _seconds(figures: dict[str, Any]) -> str:
    return f"{figures['seconds']:.0f} s ({figures['cpu']:.0f} s of CPU)"


def _mb(figures: dict[str, Any]) -> str:
    return f"{figures['memory'] / 1e6:.0f} MB"


def main() -> None:
    """Measure the models that are named, or all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"any of {', '.join(KINDS)}; default: all")
    kinds = parser.parse_args().kinds
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        parser.error(f"no kind of model is called {unknown[0]}; there are {', '.join(KINDS)}")
    results = {}
    for kind in kinds or KINDS:
        with TemporaryDirectory() as temporary:
            results[kind] = measure(kind, Path(temporary))
        print(f"{kind}: {json.dumps(results[kind])}", file=sys.stderr, flush=True)
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
