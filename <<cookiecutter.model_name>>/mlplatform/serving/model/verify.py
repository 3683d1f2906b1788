"""`verify`: check a published model in a directory, as it is done while an image is built."""

import sys
from pathlib import Path

import click
import numpy as np

from mlplatform.config.settings import load
from mlplatform.contract.runtimes import RuntimeSettings, runtime_path
from mlplatform.runtime.call import BATCHES, ModelRejectsError
from mlplatform.runtime.saved_model import FrozenCopy
from mlplatform.serving.model.runtime import (
    RuntimeUnavailableError,
    batch_of,
    check_outputs,
    keep_frozen,
    load_model,
    longest,
    sample_rows,
    warm_up,
)
from mlplatform.serving.model.signature import SignatureError, read_signature
from mlplatform.serving.observability.memory import peak_bytes
from mlplatform.store.manifest import ArtifactError, Manifest, read_directory


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--runtime", help="what has to compute it: tensorflow, litert or onnx  [default: as in service.toml]")
@click.option(
    "--memory-file",
    type=click.Path(path_type=Path),
    help="where to write how many bytes of memory loading the model and computing its largest batch took at most",
)
@click.option(
    "--frozen",
    type=click.Path(path_type=Path),
    help="directory for the frozen graph of a small TensorFlow model, which a server loads faster; used if it is there",
)
def verify(directory: Path, runtime: str | None, memory_file: Path | None, frozen: Path | None) -> int:
    """Verify the artifact in DIRECTORY, which holds manifest.json.

    Exit code 0: every file is there and as it was and, of a model, the server's own runtime loads it and predicts the
    samples in its manifest. 1: it is damaged, or cannot be computed.
    """
    try:
        manifest, content = read_directory(directory)
        predicted = ""
        if manifest.kind == "model":
            computing = runtime or load(RuntimeSettings).runtime
            copy = FrozenCopy(frozen, manifest.content) if frozen is not None else None
            rows = _predict_samples(manifest, content, computing, copy)
            predicted = f"; {computing} predicts its samples, {rows} rows at most"
            if memory_file is not None:
                memory_file.write_text(f"{peak_bytes()}\n", encoding="ascii")
    except (ArtifactError, OSError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 1
    described = f"{manifest.kind} {manifest.id}: {len(manifest.files)} files, {manifest.size} bytes"
    print(f"{described}, as its manifest says{predicted}")
    return 0


def _predict_samples(manifest: Manifest, content: Path, runtime: str, copy: FrozenCopy | None) -> int:
    """Load a model as the server does and predict its samples in batches of 1 to 16; returns the largest.

    Raises ArtifactError if that cannot be done.
    """
    path = content / runtime_path(manifest, runtime)
    try:
        signature = read_signature(manifest.properties)
        run = load_model(runtime, path, signature, threads=1, copy=copy)
        if copy is not None and runtime == "tensorflow" and not copy.origin.exists():
            keep_frozen(path, signature, copy)
    except SignatureError as error:
        raise ArtifactError(str(error)) from None
    # Whatever the runtime says of a file it cannot read.
    except Exception as error:
        raise ArtifactError(f"{runtime} cannot load model {manifest.id}: {_first_line(error)}") from error
    rows = sample_rows(manifest.properties, signature)
    for size in BATCHES:
        try:
            outputs = run(batch_of(rows, size))
            check_outputs(outputs, signature, size)
        except (ModelRejectsError, RuntimeUnavailableError) as error:
            raise ArtifactError(f"{runtime} cannot compute {size} rows of model {manifest.id}: {error}") from None
        for tensor, array in zip(signature.outputs, outputs, strict=True):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ArtifactError(f"model {manifest.id} gives {tensor.name!r} that is not finite for its samples")
    # Larger batches, up to where the server stops: they take the most memory.
    try:
        warm = warm_up(run, rows, signature, max_rows=0)
        if any(tensor.length for tensor in signature.inputs):
            size = max(warm.costs)
            check_outputs(run(batch_of(longest(rows, signature), size)), signature, size)
    except (ModelRejectsError, RuntimeUnavailableError) as error:
        raise ArtifactError(f"{runtime} cannot compute large batches of model {manifest.id}: {error}") from None
    return BATCHES[-1]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
