"""Images: what an image is made of, its name in the registry, and building it unless it is already there.

An image's tag is the hash of all that it is made of: Dockerfile, files, build arguments. What is hashed is copied aside
and built from there, so editing a file meanwhile changes neither the tag nor the image.
"""

import hashlib
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mlplatform.config.settings import ServiceSettings, TemplateSettings, load
from mlplatform.contract import memory
from mlplatform.delivery import programs
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import DeliveryError
from mlplatform.delivery.images.builders import Builder, builder
from mlplatform.delivery.images.registry import Image, Registry
from mlplatform.delivery.settings import DeliverySettings

KINDS = ("training", "serving", "events")
OVERLAYS = Path("deploy") / "k8s" / "overlays"
# Caches of Python and of tools, and the team's tests; .dockerignore names them too.
LEFT_OUT = re.compile(r"__pycache__|\..*_cache|tests")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
TAG_LENGTH = 20


@dataclass(frozen=True)
class Recipe:
    """What an image is made of. files: by path in the build's context; arguments: those that decide what comes out.

    digests: SHA-256 in hex of files that are known by it; such a file is in `files` only where the image may be built.
    """

    kind: str
    dockerfile: Path
    files: Mapping[str, Path]
    arguments: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    def tag(self) -> str:
        """20 hex digits of the hash of everything."""
        digest = hashlib.sha256()
        read = {path: source for path, source in self.files.items() if path not in self.digests}
        read["Dockerfile"] = self.dockerfile
        digests = {path: hashlib.sha256(source.read_bytes()).hexdigest() for path, source in read.items()}
        for path, known in sorted({**digests, **self.digests}.items()):
            digest.update(f"{path}\0{known}\n".encode())
        for name, value in sorted(self.arguments.items()):
            digest.update(f"{name}={value}\n".encode())
        return digest.hexdigest()[:TAG_LENGTH]


@dataclass(frozen=True)
class Built:
    """An image in the registry; `built`: whether it was built just now or was there."""

    image: Image
    tag: str
    built: bool


def recipe(
    kind: str,
    settings: DeliverySettings,
    arguments: Mapping[str, str],
    extra: Mapping[str, Path] | None = None,
    digests: Mapping[str, str] | None = None,
) -> Recipe:
    """What `docker/<kind>.Dockerfile` copies from this repository; `extra`: files of the context from elsewhere.

    digests: SHA-256 of such files where known; a file with a digest need not be at hand.
    Raises DeliveryError if the Dockerfile or a file that it copies is not there.
    """
    dockerfile = Path("docker") / f"{kind}.Dockerfile"
    if not dockerfile.is_file():
        raise DeliveryError(f"{dockerfile}: not there; run from the repository's root")
    text = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ")
    given = {**arguments, **({"BASE_IMAGE": settings.base_image} if settings.base_image else {})}
    values = {**dict(re.findall(r"^ARG (\w+)=(.*)$", text, re.MULTILINE)), **given}
    files, elsewhere = dict(extra or {}), {**(extra or {}), **(digests or {})}
    for line in re.findall(r"^COPY\s+(.*)$", text, re.MULTILINE):
        words = shlex.split(line)
        if any(word.startswith("--from") for word in words):
            continue
        for source in [word for word in words if not word.startswith("--")][:-1]:
            path = re.sub(r"\$\{(\w+)\}", lambda name: values.get(name[1], ""), source)
            if not any(name == path or name.startswith(f"{path}/") for name in elsewhere):
                files |= _files(path, dockerfile)
    return Recipe(kind, dockerfile, files, given, digests or {})


def training_recipe(settings: DeliverySettings) -> Recipe:
    """What the training image of this code is made of. Raises DeliveryError."""
    gpu = settings.training_device == "gpu"
    return recipe("training", settings, {"REQUIREMENTS": "requirements/training-gpu.txt"} if gpu else {})


def events_recipe(settings: DeliverySettings) -> Recipe:
    """What the image that ships prediction events is made of. Raises DeliveryError."""
    return recipe("events", settings, {})


def ships_events(environment: str) -> bool:
    """Whether the overlay of an environment takes the component `events`, and so its image beside the server's."""
    try:
        text = (OVERLAYS / environment / "kustomization.yaml").read_text(encoding="utf-8")
    except OSError:
        return False
    return "components/events" in re.sub(r"#.*", "", text)


def repository(kind: str, settings: DeliverySettings) -> tuple[str, str]:
    """Registry and repository of the images of a kind."""
    host, _, path = settings.container_registry.partition("/")
    return host, "/".join(filter(None, [path, f"{load(ServiceSettings).name}-{kind}"]))


def look_up(registry: Registry, repository: str, tag: str) -> Image | None:
    """The newest image with a recipe's tag. An image built again with --force has its time behind the tag."""
    tags = [name for name in registry.tags(repository) if name == tag or name.startswith(f"{tag}-")]
    # The repository may have been changed since it was listed.
    digest = registry.digest(repository, max(tags)) if tags else None
    return Image(registry.host, repository, digest) if digest else None


def ensure(
    made_of: Recipe,
    settings: DeliverySettings,
    console: Console,
    *,
    version: str = "",
    force: bool = False,
    dry_run: bool = False,
) -> Built | None:
    """The image of a recipe: from the registry if it is there and not `force`, else built and pushed.

    version: for the image's label; empty: the tag. With `dry_run` nothing is built, and None returned if it would be.
    Raises DeliveryError.
    """
    host, path = repository(made_of.kind, settings)
    registry, tag = Registry(host), made_of.tag()
    there = look_up(registry, path, tag)
    if there and not force:
        console.say(f"image: {host}/{path}:{tag} is in the registry")
        return Built(there, tag, built=False)
    # A tag never means another image; ECR refuses that, too.
    name = f"{tag}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}" if there else tag
    if dry_run:
        console.say(f"image: would build {host}/{path}:{name} of {len(made_of.files)} files and push it")
        return None
    console.say(f"image: building {host}/{path}:{name}")
    program = builder(settings)
    _build(made_of, program, registry, f"{host}/{path}:{name}", version or tag)
    console.say(f"image: pushing {host}/{path}:{name}")
    _push(program, registry, f"{host}/{path}:{name}")
    digest = registry.digest(path, name)
    if digest is None:
        raise DeliveryError(f"{host}/{path}:{name}: was pushed, but the registry does not have it")
    return Built(Image(host, path, digest), tag, built=True)


def _files(source: str, dockerfile: Path) -> dict[str, Path]:
    """The files that a source of COPY stands for, by path. As for Docker, `name[s].py` may stand for none."""
    files: dict[str, Path] = {}
    for path in sorted(Path().glob(source)):
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            if not any(LEFT_OUT.fullmatch(part) for part in file.parts):
                files[file.as_posix()] = file
    if not files and "[" not in source:
        raise DeliveryError(f"{dockerfile} copies {source!r}, which is not in this repository")
    return files


def _build(made_of: Recipe, builder: Builder, registry: Registry, name: str, version: str) -> None:
    template = load(TemplateSettings).version
    labels = {"REVISION": revision(), "VERSION": version, "SOURCE": _source(), "TEMPLATE_VERSION": template}
    # How the build reaches packages is no part of what comes out; builders know these without ARG.
    proxies = {variable: os.environ[variable] for variable in PROXIES if variable in os.environ}
    arguments = {**made_of.arguments, **labels, **proxies}
    with tempfile.TemporaryDirectory(prefix="delivery-build-") as temporary:
        context = Path(temporary) / "context"
        for path, source in made_of.files.items():
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, context / path)
            (context / path).chmod(0o644)
        dockerfile = Path(temporary) / "Dockerfile"
        shutil.copyfile(made_of.dockerfile, dockerfile)
        builder.build(name, dockerfile, context, arguments)
        if made_of.kind == "serving":
            # Known only now that the image has loaded the model; all but the label is in the builder's cache.
            measured = builder.read(registry, name, memory.FILE).strip()
            builder.build(name, dockerfile, context, {**arguments, "MEMORY_BYTES": measured})


def _push(builder: Builder, registry: Registry, name: str) -> None:
    try:
        builder.push(registry, name)
    except programs.ProgramError as error:
        raise DeliveryError(
            f"{error}. If it says that the repository does not exist: deploy/aws/stack.yaml creates it"
        ) from None


def revision() -> str:
    """The commit checked out, from $GIT_COMMIT or git, with `-dirty` if files differ from it; empty if unknown.

    A repository around this one, which does not track its files, says nothing about them.
    """
    commit = os.environ.get("GIT_COMMIT") or ""
    if not commit and programs.git("ls-files", "--error-unmatch", "--", "mlplatform/__init__.py") is not None:
        commit = programs.git("rev-parse", "HEAD") or ""
    return f"{commit}-dirty" if commit and programs.git("status", "--porcelain") else commit


def _source() -> str:
    """Where the code comes from, without what a URL may hold of credentials."""
    url = programs.git("remote", "get-url", "origin") or ""
    return re.sub(r"//[^/@]*@", "//", url)
