"""The way from the template to a prediction: render, train, serve, ask about a record never trained on."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rendered import CHOICES, ROOT, copy_template, post, published_model, render, serving

SHADES = " .:-=+*#%@"


def picture(image: list[list[float]]) -> str:
    """An image of values 0 to 16 as characters, two to a pixel, for a terminal."""
    return "\n".join("    " + "".join(SHADES[round(pixel * 9 / 16)] * 2 for pixel in row) for row in image)


def shown(instance: dict[str, Any]) -> str:
    """An instance for a terminal: an image as a picture, others as they are sent."""
    image = instance.get("image")
    return picture(image) if image else "    " + json.dumps(instance, ensure_ascii=False)


def ask(url: str, manifest: dict[str, Any]) -> str:
    """Asks the service at `url` about the first test record in the model's manifest, and says the answer."""
    properties = manifest["properties"]
    sample = properties["samples"][0]
    status, body = post(f"{url}/v1/models/{properties['name']}:predict", {"instances": [sample["instance"]]})
    if status != 200:
        raise RuntimeError(f"the service answered {status}: {body}")
    (prediction,) = body["predictions"]
    if properties["labels"]:
        best = max(range(len(prediction)), key=prediction.__getitem__)
        said = f"{properties['labels'][best]}, with a probability of {prediction[best]:.3f}. The label in the data"
    else:
        said = f"{prediction:.4g}. The value in the data"
    return f"{shown(sample['instance'])}\n\nThe service says: {said}: {sample['label']}.\n"


def main() -> int:
    """Exit status: 0 if a prediction was made, else 1."""
    parser = argparse.ArgumentParser(prog="nox -s demo --", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("directory", nargs="?", type=Path, default=ROOT / "demo", help="by default demo/")
    parser.add_argument("--example", choices=CHOICES["example"], default=CHOICES["example"][0])
    arguments = parser.parse_args()
    shutil.rmtree(arguments.directory, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        print(f"Rendering the example {arguments.example} with the default answers ...", flush=True)
        repository = render(copy_template(ROOT, work / "template"), arguments.directory, {"example": arguments.example})
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
        sys.exit(f"demo: {error}")
