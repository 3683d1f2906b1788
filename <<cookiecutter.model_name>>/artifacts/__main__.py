"""`python -m artifacts DIRECTORY`: verify an artifact on this machine; 0 if every file is there and as it was."""

import sys
from collections.abc import Sequence
from pathlib import Path

from artifacts.manifest import ArtifactError, read_directory


def main(arguments: Sequence[str]) -> int:
    """Say what a directory with manifest.json holds; 1 if it is incomplete or damaged, 2 for other arguments."""
    if len(arguments) != 1:
        print("usage: python -m artifacts DIRECTORY, one that holds manifest.json", file=sys.stderr)
        return 2
    try:
        manifest, _ = read_directory(Path(arguments[0]))
    except (ArtifactError, OSError) as error:
        print(f"artifacts: {error}", file=sys.stderr)
        return 1
    size = sum(entry.bytes for entry in manifest.files.values())
    print(f"{manifest.kind} {manifest.id}: {len(manifest.files)} files, {size} bytes, as its manifest says")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
