"""`verify`: check a published model in a directory, as it is done while an image is built."""

import sys
from pathlib import Path

import click

from mlplatform.contract.runtimes import runtime_path
from mlplatform.store.manifest import ArtifactError, read_directory


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--runtime", help="require a model that this runtime can compute: tensorflow or litert")
def verify(directory: Path, runtime: str | None) -> int:
    """Verify the artifact in DIRECTORY, which holds manifest.json.

    Exit code 0: every file is there and as it was. 1: it is damaged, or not for the runtime.
    """
    try:
        manifest, _ = read_directory(directory)
        if runtime is not None:
            runtime_path(manifest, runtime)
    except (ArtifactError, OSError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 1
    size = sum(entry.bytes for entry in manifest.files.values())
    print(f"{manifest.kind} {manifest.id}: {len(manifest.files)} files, {size} bytes, as its manifest says")
    return 0
