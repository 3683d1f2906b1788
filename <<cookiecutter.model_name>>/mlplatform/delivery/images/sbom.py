"""`sbom`: what is installed in an image."""

import json
from pathlib import Path

import click

from mlplatform.config.settings import load
from mlplatform.delivery.errors import BadRequestError, DeliveryError
from mlplatform.delivery.images.builders import builder
from mlplatform.delivery.images.registry import Image, Registry
from mlplatform.delivery.settings import DeliverySettings

# Where both Dockerfiles leave it.
PLACE = "/opt/venv/share/sbom.cdx.json"


@click.command()
@click.argument("image")
@click.option("--output", type=click.Path(path_type=Path), help="Write it into a file.  [default: standard output]")
def sbom(image: str, output: Path | None) -> None:
    """List what is installed in an IMAGE, registry/name@sha256:..., as CycloneDX in JSON.

    The list is part of the image; it was made when the packages were installed.
    """
    parsed = Image.parse(image)
    if parsed is None:
        raise BadRequestError(f"image {image!r}: must name its digest, registry/name@sha256:...")
    text = builder(load(DeliverySettings)).read(Registry(parsed.host), parsed.reference, PLACE)
    try:
        components = json.loads(text)["components"]
    except (ValueError, TypeError, KeyError):
        raise DeliveryError(f"{parsed.reference}: {PLACE} is no list of components in CycloneDX") from None
    if output is None:
        click.echo(text)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    click.echo(f"{output}: {len(components)} components")
