"""Verify an artifact on this machine: `python -m mlplatform.serving.model.verify DIRECTORY`.

The exit code is 0 if every file is there and as it was.

With `--runtime litert` also whether it is a model that this runtime can compute.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mlplatform.contract.runtimes import runtime_path
from mlplatform.store.manifest import ArtifactError, read_directory


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what a directory with manifest.json holds; 1 if it is damaged or not for the runtime, 2 for bad arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mlplatform.serving.model.verify", description="Verify an artifact on this machine."
    )
    parser.add_argument("directory", type=Path, help="one that holds manifest.json")
    parser.add_argument("--runtime", help="require a model that this runtime can compute: tensorflow or litert")
    given = parser.parse_args(arguments)
    try:
        manifest, _ = read_directory(given.directory)
        if given.runtime is not None:
            runtime_path(manifest, given.runtime)
    except (ArtifactError, OSError) as error:
        print(f"artifacts: {error}", file=sys.stderr)
        return 1
    size = sum(entry.bytes for entry in manifest.files.values())
    print(f"{manifest.kind} {manifest.id}: {len(manifest.files)} files, {size} bytes, as its manifest says")
    return 0


if __name__ == "__main__":
    sys.exit(main())
