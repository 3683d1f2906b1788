"""`image` and `bundle`: build and push an image unless it is already there."""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from mlplatform.config.hints import hint
from mlplatform.config.settings import load
from mlplatform.contract.runtimes import RuntimeSettings, runtime_path
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import RefusedError
from mlplatform.delivery.images import build
from mlplatform.delivery.options import ENVIRONMENTS, console_option, dry_run_option, store_option
from mlplatform.delivery.settings import DeliverySettings
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.store.models import list_models
from mlplatform.store.storage import Storage

NO_MODEL = "no model in {url} yet; train the first one: {command}"


@click.command()
@click.argument("kind", type=click.Choice(build.KINDS))
@click.option("--model", metavar="VERSION", help="Model version of the serving image.  [default: the newest]")
@click.option(
    "--force", is_flag=True, help="Build it even if the registry has it, for example with a newer base image."
)
@store_option
@dry_run_option
@console_option
def image(kind: str, model: str | None, force: bool, store: Storage, dry_run: bool, console: Console) -> None:
    """Build and push an image unless it is already there, and print its reference by digest.

    An image with the same Dockerfile, files and build arguments is not built again: the tag is their hash. Credentials
    for ECR come from AWS, for others from docker login. Where an overlay takes the component `events`, its image is
    built along with the serving image.
    """
    settings = load(DeliverySettings)
    if kind != "serving":
        made_of = build.training_recipe(settings) if kind == "training" else build.events_recipe(settings)
        _show(build.ensure(made_of, settings, console, force=force, dry_run=dry_run), console)
        return
    _bundle(find_model(store, model), store, settings, console, force=force, dry_run=dry_run)


@click.command()
@click.argument("version")
@click.option("--force", is_flag=True, help="Build it even if the registry has it.")
@store_option
@dry_run_option
@console_option
def bundle(version: str, force: bool, store: Storage, dry_run: bool, console: Console) -> None:
    """Verify model VERSION, build it into a serving image, and print the image's reference by digest.

    A model with a missing or damaged file is refused.
    """
    _bundle(find_model(store, version), store, load(DeliverySettings), console, force=force, dry_run=dry_run)


def find_model(store: Storage, version: str | None) -> Manifest:
    """The manifest of a model version, or of the newest. Raises RefusedError, StorageError or ArtifactError."""
    if version is None:
        models = list_models(store)
        if not models:
            raise RefusedError(NO_MODEL.format(url=store.url, command=hint("submit")))
        return models[-1]
    # A version is one name: a path would lead elsewhere in the store.
    model = None if "/" in version or not version else manifest.find(store, f"models/{version}")
    if model is not None:
        return model
    if not list_models(store):
        raise RefusedError(NO_MODEL.format(url=store.url, command=hint("submit")))
    raise RefusedError(f"model version {version!r}: not in {store.url}/models; the list: {hint('models')}")


def serving_recipe(
    model: Manifest, settings: DeliverySettings, content: Mapping[str, Path] | None = None
) -> build.Recipe:
    """What the serving image with a model is made of. content: the manifest and the model's files, to build of them.

    Without them the recipe has its tag all the same, of the digests in the manifest. Raises ArtifactError where
    [serving] runtime cannot compute the model.
    """
    runtime = load(RuntimeSettings).runtime
    runtime_path(model, runtime)
    place = f"store/models/{model.id}"
    digests = {f"{place}/{model.content}/{path}": entry.sha256 for path, entry in model.files.items()}
    digests[f"{place}/{manifest.MANIFEST}"] = hashlib.sha256(model.to_json()).hexdigest()
    files = {f"{place}/{path}": source for path, source in (content or {}).items()}
    return build.recipe("serving", settings, {"MODEL": place, "RUNTIME": runtime}, files, digests)


def _bundle(
    model: Manifest, store: Storage, settings: DeliverySettings, console: Console, *, force: bool, dry_run: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="delivery-model-") as cache:
        console.say(f"bundle: fetching and verifying model {model.id}", model.id)
        fetched, directory = manifest.fetch(store, f"models/{model.id}", Path(cache))
        kept = Path(cache) / manifest.MANIFEST
        kept.write_bytes(fetched.to_json())
        content = {manifest.MANIFEST: kept, **{f"{fetched.content}/{path}": directory / path for path in fetched.files}}
        made_of = serving_recipe(fetched, settings, content)
        built = build.ensure(made_of, settings, console, version=model.id, force=force, dry_run=dry_run)
    if any(build.ships_events(environment) for environment in ENVIRONMENTS):
        build.ensure(build.events_recipe(settings), settings, console, dry_run=dry_run)
    _show(built, console)


def _show(built: build.Built | None, console: Console) -> None:
    if built is None:
        console.result("nothing done: --dry-run", None)
        return
    image = built.image
    console.result(
        image.reference,
        {"image": image.reference, "digest": image.digest, "tag": built.tag, "built": built.built},
    )
