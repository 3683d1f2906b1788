"""The way from the template to a prediction: render, train, serve, ask for the class of an image never trained on."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rendered import DEFAULTS, ROOT, copy_template, post, published_model, render, serving

DEMO = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "demo"
SHADES = " .:-=+*#%@"


def picture(image: list[list[float]]) -> str:
    """An image of values 0 to 16 as characters, two to a pixel, for a terminal."""
    return "\n".join("    " + "".join(SHADES[round(pixel * 9 / 16)] * 2 for pixel in row) for row in image)


def ask(url: str, manifest: dict[str, Any]) -> str:
    """Asks the service at `url` for the class of the first test image in the model's manifest, and says the answer."""
    properties = manifest["properties"]
    sample = properties["samples"][0]
    status, body = post(f"{url}/v1/models/{properties['name']}:predict", {"instances": [sample["instance"]]})
    if status != 200:
        raise RuntimeError(f"the service answered {status}: {body}")
    probabilities = body["predictions"][0]
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    return (
        f"{picture(sample['instance']['image'])}\n\n"
        f"The service says: {properties['labels'][best]}, with a probability of {probabilities[best]:.3f}."
        f" The label in the data: {sample['label']}.\n"
    )


def main() -> int:
    """Exit status: 0 if a prediction was made, else 1."""
    shutil.rmtree(DEMO, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        print("Rendering with the default answers ...", flush=True)
        repository = render(copy_template(ROOT, work / "template"), DEMO, {})
        print(f"Training in {repository} ...", flush=True)
        if subprocess.run([sys.executable, "-m", "nox", "-s", "train"], cwd=repository).returncode:
            return 1
        print("Serving ...", flush=True)
        with serving(repository, work / "server.log") as url:
            print(f"\n{ask(url, published_model(repository))}")
    print(f"The rendered repository is in {repository}: its README.md says how to go on.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, FileNotFoundError) as error:
        sys.exit(f"{DEFAULTS['model_name']}: {error}")
