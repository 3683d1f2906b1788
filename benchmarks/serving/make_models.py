"""Makes and publishes the models that are served; runs in the training environment, with the template on its path.

    python make_models.py small|medium DIRECTORY

small: the digits model, trained and published by the template's own pipeline. medium: MobileNetV2 for 96x96x3 images
of bytes, 3.5 million parameters, random weights, exported by the pipeline's `export` and published in the same format.
DIRECTORY/served gets the manifest and its files, DIRECTORY/examples.json sixteen different inputs with the outputs that
the SavedModel's signature gives for them one at a time, and DIRECTORY/service.toml what the server needs.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mlplatform.contract.targets import Classes
from mlplatform.data import catalog
from mlplatform.data.dataset import Split
from mlplatform.store import manifest
from mlplatform.store.storage import LocalStorage
from mlplatform.training.export import Exported, export

EXAMPLES = 16


def small(directory: Path) -> None:
    """The template's own example, through the template's own pipeline."""
    (directory / "service.toml").write_text('[service]\nname = "small"\n[storage]\nurl = "store"\n')
    subprocess.run([sys.executable, "-m", "mlplatform", "train"], cwd=directory, check=True)
    (found,) = manifest.list_artifacts(LocalStorage(directory / "store"), "models")
    content = directory / "store" / "models" / found.id / found.content
    (version,) = manifest.list_artifacts(LocalStorage(directory / "store"), "datasets")
    dataset = catalog.fetch(LocalStorage(directory / "store"), version, directory / "work")
    images = Split(dataset.content, "test", ["image"]).column("image", np.arange(EXAMPLES))
    serve(directory, content / "saved_model", dict(found.properties), images.astype(np.float32))


def medium(directory: Path) -> None:
    """MobileNetV2 whose batch normalisation knows its random weights: otherwise all inputs get the same output."""
    (directory / "service.toml").write_text('[service]\nname = "medium"\n[storage]\nurl = "store"\n')
    keras.utils.set_random_seed(1)
    image = keras.Input((96, 96, 3), name="image", dtype="uint8")
    pixels = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    body = keras.applications.MobileNetV2((96, 96, 3), weights=None)
    network = keras.Model({"image": image}, body(pixels))
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (64, 12, 12, 3), dtype=np.uint8)
    images = np.kron(coarse, np.ones((1, 8, 8, 1), np.uint8))
    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    for _ in range(12):
        network({"image": images}, training=True)
    with tempfile.TemporaryDirectory() as temporary:
        target = Classes("label", [str(place) for place in range(network.output_shape[-1])])
        signature = export(network, target, Path(temporary) / "saved_model")
        properties = {"name": "medium", "signature": signature, "targets": [target.to_json()]}
        serve(directory, Path(temporary) / "saved_model", properties, images[:EXAMPLES])


def serve(directory: Path, saved_model: Path, properties: dict[str, Any], rows: Any) -> None:
    """Publish the SavedModel and its LiteRT copy, which the pipeline has left beside it or is made here."""
    converted = saved_model.with_name(RUNTIMES["litert"])
    if not converted.is_file():
        loaded = tf.saved_model.load(str(saved_model))
        # Not from_saved_model: with TensorFlow 2.21 that loses the variables, and all predictions are NaN.
        converter = tf.lite.TFLiteConverter.from_concrete_functions([loaded.signatures["serving_default"]], loaded)
        converted.write_bytes(converter.convert())
    runtimes = {name: {"path": path, "valid": True} for name, path in RUNTIMES.items()}
    with tempfile.TemporaryDirectory() as temporary:
        content = Path(temporary)
        shutil.copytree(saved_model, content / RUNTIMES["tensorflow"])
        shutil.copyfile(converted, content / RUNTIMES["litert"])
        properties = {**properties, "runtimes": runtimes}
        manifest.publish(LocalStorage(directory / "served"), "model", content, "model", "benchmark", properties)
    predict = Exported(saved_model, properties["signature"])
    outputs = np.concatenate([predict({"image": row[np.newaxis]}) for row in rows])
    examples = {"dtype": str(rows.dtype), "inputs": rows.tolist(), "outputs": outputs.tolist()}
    (directory / "examples.json").write_text(json.dumps(examples))
    print(f"outputs differ from one input to another by up to {np.ptp(outputs, axis=0).max():.3f}")


RUNTIMES = {"tensorflow": "saved_model", "litert": "model.tflite"}

if __name__ == "__main__":
    {"small": small, "medium": medium}[sys.argv[1]](Path(sys.argv[2]))
