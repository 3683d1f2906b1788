"""Small models, exported and published the way the pipeline does it."""

import base64
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mlplatform.contract.targets import Classes, Number, Tags
from mlplatform.store.manifest import Manifest, publish
from mlplatform.store.storage import LocalStorage
from mlplatform.tests import onnx_models
from mlplatform.tests.onnx_models import FLOAT, node
from mlplatform.tests.serving.running import NAME

IMAGE = [{"name": "image", "shape": [None, 8, 8], "dtype": "float32"}]
RUNTIMES = {"tensorflow": {"path": "saved_model", "valid": True}, "litert": {"path": "model.tflite", "valid": True}}
PROBABILITIES = [{"name": "probabilities", "shape": [None, 10], "dtype": "float32"}]


def pictures() -> keras.Model:
    """One input, one output: what most models look like."""
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8), name="image")
    hidden = keras.layers.Dense(16, activation="relu")(keras.layers.Flatten()(image))
    hidden = keras.layers.BatchNormalization()(hidden)
    return keras.Model({"image": image}, keras.layers.Dense(10, activation="softmax")(hidden))


def everything() -> Any:
    """Inputs of every kind, rows of any length, three outputs, a lookup table, and an op that can refuse values."""
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["red", "green"], tf.constant([1, 2], tf.int64)), default_value=0
    )
    embedding = tf.Variable([[0.0], [10.0], [20.0]])

    def compute(colour: Any, index: Any, flag: Any, series: Any) -> dict[str, Any]:
        total = tf.reduce_sum(series, axis=1) + tf.where(flag, 1000.0, 0.0)
        return {
            "total": total + tf.gather(embedding, tf.cast(index, tf.int32))[:, 0],
            "colour_id": table.lookup(colour),
            "name": tf.strings.join([colour, "!"]),
        }

    module = tf.Module()
    module.table, module.embedding = table, embedding
    module.serve = tf.function(
        compute,
        input_signature=[
            tf.TensorSpec((None,), tf.string, name="colour"),
            tf.TensorSpec((None,), tf.uint8, name="index"),
            tf.TensorSpec((None,), tf.bool, name="flag"),
            tf.TensorSpec((None, None), tf.float32, name="series"),
        ],
    )
    return module


def slow() -> Any:
    """Gives back x, after as many multiplications of matrices as the largest `work` in the call says."""

    def compute(x: Any, work: Any) -> dict[str, Any]:
        def step(i: Any, matrix: Any) -> Any:
            return i + 1, tf.matmul(matrix, matrix) / 300.0

        times = tf.reduce_max(work)
        _, matrix = tf.while_loop(lambda i, _: i < times, step, (0, tf.ones((300, 300))))
        return {"y": x + 0.0 * matrix[0, 0]}

    module = tf.Module()
    module.serve = tf.function(
        compute,
        input_signature=[tf.TensorSpec((None,), tf.float32, name="x"), tf.TensorSpec((None,), tf.int32, name="work")],
    )
    return module


def publish_slow(root: Path, version: str = "dddddddddddd") -> Manifest:
    """Publish `slow` into the store at `root`; its sample has work for about 20 ms."""
    inputs = [{"name": "x", "shape": [None], "dtype": "float32"}, {"name": "work", "shape": [None], "dtype": "int32"}]
    outputs = [{"name": "y", "shape": [None], "dtype": "float32"}]
    samples = [{"instance": {"x": 1.0, "work": 20}, "label": "1"}]
    return _publish_module(root, version, slow(), inputs, outputs, samples)


def gaps() -> Any:
    """Adds up its inputs, of which numbers may be missing: 1000 for an age, 10 for each of three sizes."""

    def compute(age: Any, sizes: Any, count: Any) -> dict[str, Any]:
        known = tf.where(tf.math.is_nan(sizes), 10.0, sizes)
        ages = tf.where(tf.math.is_nan(age), 1000.0, age)
        return {"total": ages + tf.reduce_sum(known, axis=1) + tf.cast(count, tf.float32)}

    module = tf.Module()
    module.serve = tf.function(
        compute,
        input_signature=[
            tf.TensorSpec((None,), tf.float32, name="age"),
            tf.TensorSpec((None, 3), tf.float32, name="sizes"),
            tf.TensorSpec((None,), tf.int32, name="count"),
        ],
    )
    return module


def publish_gaps(root: Path, version: str = "eeeeeeeeeeee") -> Manifest:
    """Publish `gaps` into the store at `root`."""
    inputs = [
        {"name": "age", "shape": [None], "dtype": "float32", "nullable": True},
        {"name": "sizes", "shape": [None, 3], "dtype": "float32", "nullable": True},
        {"name": "count", "shape": [None], "dtype": "int32"},
    ]
    outputs = [{"name": "total", "shape": [None], "dtype": "float32"}]
    samples = [{"instance": {"age": None, "sizes": [1.0, None, 2.0], "count": 3}, "label": "1016"}]
    return _publish_module(root, version, gaps(), inputs, outputs, samples)


def sentinels() -> Any:
    """Says what its inputs are, of which values may be missing, as one text: what stands for them reaches the model."""

    def compute(count: Any, closed: Any, towns: Any, size: Any) -> dict[str, Any]:
        flags = tf.where(closed, "closed", "open")
        parts = [tf.as_string(count), flags, towns[:, 0], towns[:, 1], tf.as_string(size, 1)]
        return {"text": tf.strings.join(parts, ";")}

    module = tf.Module()
    module.serve = tf.function(
        compute,
        input_signature=[
            tf.TensorSpec((None,), tf.int64, name="count"),
            tf.TensorSpec((None,), tf.bool, name="closed"),
            tf.TensorSpec((None, 2), tf.string, name="towns"),
            tf.TensorSpec((None,), tf.float32, name="size"),
        ],
    )
    return module


def publish_sentinels(root: Path, version: str = "abababababab") -> Manifest:
    """Publish `sentinels` into the store at `root`."""
    inputs = [
        {"name": "count", "shape": [None], "dtype": "int64", "missing": -1},
        {"name": "closed", "shape": [None], "dtype": "bool", "missing": True},
        {"name": "towns", "shape": [None, 2], "dtype": "string", "missing": "?"},
        {"name": "size", "shape": [None], "dtype": "float32", "missing": -0.5},
    ]
    outputs = [{"name": "text", "shape": [None], "dtype": "string"}]
    samples = [{"instance": {"count": 3, "closed": False, "towns": ["a", "b"], "size": 2.0}, "label": "3"}]
    runtimes = RUNTIMES | {"litert": {"path": "model.tflite", "valid": False, "reason": "op tf.StringJoin"}}
    return _publish_module(root, version, sentinels(), inputs, outputs, samples, runtimes)


def lists() -> Any:
    """Adds up the items of lists of any length, but not -1, which fills them up; and says how long the rows were."""

    def compute(strokes: Any, weight: Any) -> dict[str, Any]:
        held = tf.cast(tf.reduce_any(strokes != -1.0, axis=2, keepdims=True), tf.float32)
        total = tf.reduce_sum(tf.where(held > 0, strokes, 0.0), axis=(1, 2)) * weight
        return {"total": total, "filled": tf.fill(tf.shape(weight), tf.shape(strokes)[1])}

    module = tf.Module()
    module.serve = tf.function(
        compute,
        input_signature=[
            tf.TensorSpec((None, None, 2), tf.float32, name="strokes"),
            tf.TensorSpec((None,), tf.float32, name="weight"),
        ],
    )
    return module


def publish_lists(root: Path, version: str = "cccccccccccc") -> Manifest:
    """Publish `lists` into the store at `root`."""
    length = {"least": 1, "most": 5, "padding": -1}
    inputs = [
        {"name": "strokes", "shape": [None, None, 2], "dtype": "float32", "length": length},
        {"name": "weight", "shape": [None], "dtype": "float32"},
    ]
    outputs = [
        {"name": "total", "shape": [None], "dtype": "float32"},
        {"name": "filled", "shape": [None], "dtype": "int32"},
    ]
    samples = [
        {"instance": {"strokes": [[1.0, 2.0]] * count, "weight": 2.0}, "label": str(6 * count)} for count in (1, 3)
    ]
    return _publish_module(root, version, lists(), inputs, outputs, samples)


def publish_of_several_targets(root: Path, version: str = "dddddddddddd") -> Manifest:
    """Publish a model into the store at `root` that gives a label, a number of kilograms and tags, always the same."""

    def compute(size: Any) -> dict[str, Any]:
        rows = tf.ones_like(size)[:, tf.newaxis]
        return {"kind": rows * [0.25, 0.75], "mass": 2.0 * size, "traits": rows * [0.9, 0.2, 0.4]}

    module = tf.Module()
    module.serve = tf.function(compute, input_signature=[tf.TensorSpec((None,), tf.float32, name="size")])
    targets = [
        Classes("kind", ("cat", "dog")),
        Number("mass", unit="kg"),
        Tags("traits", ("old", "tame", "loud"), (0.5, 0.5, 0.3)),
    ]
    metrics = {
        "kind": {"examples": 9, "accuracy": 0.75, "macro_f1": 0.7},
        "mass": {"examples": 9, "mean_absolute_error": 1.5},
        "traits": {"examples": 9, "macro_f1": 0.5},
    }
    return _publish_module(
        root,
        version,
        module,
        [{"name": "size", "shape": [None], "dtype": "float32"}],
        [
            {"name": "kind", "shape": [None, 2], "dtype": "float32"},
            {"name": "mass", "shape": [None], "dtype": "float32"},
            {"name": "traits", "shape": [None, 3], "dtype": "float32"},
        ],
        [{"instance": {"size": 3.5}, "label": {"kind": "dog", "mass": 7.5, "traits": ["old"]}}],
        targets=[target.to_json() for target in targets],
        metrics={"examples": 9, "invalid": 0, "targets": metrics},
    )


def publish_files(root: Path, version: str = "ffffffffffff") -> Manifest:
    """Publish a model of PNG files into the store at `root`, which gives the mean of a file's pixels."""

    def brightness(photo: Any) -> Any:
        return tf.reduce_mean(tf.cast(tf.io.decode_png(photo, channels=1), tf.float32))

    module = tf.Module()
    module.serve = tf.function(
        lambda photo: {"brightness": tf.map_fn(brightness, photo, tf.float32)},
        input_signature=[tf.TensorSpec((None,), tf.string, name="photo")],
    )
    inputs = [{"name": "photo", "shape": [None], "dtype": "string", "media_type": "image/png"}]
    outputs = [{"name": "brightness", "shape": [None], "dtype": "float32"}]
    grey = tf.io.encode_png(tf.fill((4, 6, 1), tf.constant(100, tf.uint8))).numpy()
    samples = [{"instance": {"photo": {"b64": base64.b64encode(grey).decode()}}, "label": "100"}]
    runtimes = RUNTIMES | {"litert": {"path": "model.tflite", "valid": False, "reason": "op tf.DecodePng"}}
    return _publish_module(root, version, module, inputs, outputs, samples, runtimes)


def publish_pictures(root: Path, version: str = "aaaaaaaaaaaa") -> tuple[Manifest, keras.Model]:
    """Publish `pictures` into the store at `root`; also gives the model, to compare with."""
    model = pictures()

    serve = tf.function(
        lambda image: {"probabilities": model({"image": image}, training=False)},
        input_signature=[tf.TensorSpec((None, 8, 8), tf.float32, name="image")],
    )

    files = root / "export" / version
    tf.saved_model.save(model, str(files / "saved_model"), signatures={"serving_default": serve})
    properties = {
        "name": NAME,
        "runtimes": RUNTIMES,
        "signature": {"inputs": IMAGE, "outputs": PROBABILITIES},
        "labels": [str(digit) for digit in range(10)],
        "metrics": {"accuracy": 0.98},
        "samples": [{"instance": {"image": [[1.0] * 8] * 8}, "label": "3"}],
        # Half of the values of training were at most 0.5.
        "baseline": {
            "inputs": {"image": {"edges": [0.5], "shares": [0.5, 0.5]}},
            "classes": {str(digit): 0.1 for digit in range(10)},
            "confidence": {"edges": [0.2], "shares": [0.5, 0.5]},
        },
    }
    _convert(files)
    return _publish(root, version, files, properties), model


def publish_pictures_as_onnx(root: Path, model: keras.Model, version: str = "cccccccccccc") -> Manifest:
    """Publish `pictures` into the store at `root` as another framework would have written it."""
    _, _, hidden, normalisation, last = model.layers
    weights = {
        "shape": np.array([-1, 64]),
        **dict(zip(("kernel", "bias"), hidden.get_weights(), strict=True)),
        **dict(zip(("gamma", "beta", "mean", "variance"), normalisation.get_weights(), strict=True)),
        **dict(zip(("last_kernel", "last_bias"), last.get_weights(), strict=True)),
    }
    nodes = [
        node("Reshape", "image shape", "flat"),
        node("Gemm", "flat kernel bias", "sums"),
        node("Relu", "sums", "hidden"),
        node("BatchNormalization", "hidden gamma beta mean variance", "normal", epsilon=normalisation.epsilon),
        node("Gemm", "normal last_kernel last_bias", "scores"),
        node("Softmax", "scores", "probabilities", axis=1),
    ]
    takes, gives = {"image": (FLOAT, [None, 8, 8])}, {"probabilities": (FLOAT, [None, 10])}
    files = root / "export" / version
    files.mkdir(parents=True)
    (files / "model.onnx").write_bytes(onnx_models.model(nodes, takes, gives, **weights))
    properties = {
        "name": NAME,
        "runtimes": {"onnx": {"path": "model.onnx", "valid": True}},
        "signature": {"inputs": IMAGE, "outputs": PROBABILITIES},
        "labels": [str(digit) for digit in range(10)],
        "samples": [{"instance": {"image": [[1.0] * 8] * 8}, "label": "3"}],
    }
    return _publish(root, version, files, properties)


def publish_everything(root: Path, version: str = "bbbbbbbbbbbb") -> Manifest:
    """Publish `everything` into the store at `root`."""
    module = everything()
    files = root / "export" / version
    tf.saved_model.save(module, str(files / "saved_model"), signatures={"serving_default": module.serve})
    signature = {
        "inputs": [
            {"name": "colour", "shape": [None], "dtype": "string"},
            {"name": "index", "shape": [None], "dtype": "uint8"},
            {"name": "flag", "shape": [None], "dtype": "bool"},
            {"name": "series", "shape": [None, None], "dtype": "float32"},
        ],
        "outputs": [
            {"name": "total", "shape": [None], "dtype": "float32"},
            {"name": "colour_id", "shape": [None], "dtype": "int64"},
            {"name": "name", "shape": [None], "dtype": "string"},
        ],
    }
    reason = "StringLookup does not convert"
    runtimes = RUNTIMES | {"litert": {"path": "model.tflite", "valid": False, "reason": reason}}
    return _publish(root, version, files, {"name": NAME, "signature": signature, "runtimes": runtimes})


def _publish_module(
    root: Path,
    version: str,
    module: Any,
    inputs: list[Any],
    outputs: list[Any],
    samples: list[Any],
    runtimes: dict[str, dict[str, Any]] = RUNTIMES,
    **others: Any,
) -> Manifest:
    """Publish a module whose function is `serve`, with a copy for LiteRT if the runtimes say so. others: properties."""
    files = root / "export" / version
    tf.saved_model.save(module, str(files / "saved_model"), signatures={"serving_default": module.serve})
    if runtimes["litert"]["valid"]:
        _convert(files)
    signature = {"inputs": inputs, "outputs": outputs}
    properties = {"name": NAME, "signature": signature, "samples": samples, "runtimes": runtimes, **others}
    return _publish(root, version, files, properties)


def _convert(files: Path) -> None:
    """Write model.tflite beside the SavedModel."""
    loaded = tf.saved_model.load(str(files / "saved_model"))
    # Not from_saved_model: with TensorFlow 2.21 that loses the variables, and all predictions are NaN.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([loaded.signatures["serving_default"]], loaded)
    (files / "model.tflite").write_bytes(converter.convert())


def _publish(root: Path, version: str, files: Path, properties: dict[str, Any]) -> Manifest:
    storage = LocalStorage(root / "store")
    manifest = publish(storage, f"models/{version}", files, "model", version, properties)
    shutil.rmtree(files)
    return manifest
