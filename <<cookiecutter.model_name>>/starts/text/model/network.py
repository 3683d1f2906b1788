"""The network: which pieces of one to three characters a text holds, and what each says about the language."""

import keras
from keras import layers

from mlplatform.data.dataset import Split
from model.dataset import LABELS
from model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters, train: Split | None = None) -> keras.Model:
    """The compiled network.

    Input `text`: string (batch,), as in the data; the network cuts and looks up, so callers of the service send what
    the data holds. Output: float32 (batch, 15), probabilities in the order of LABELS.

    train: the training split, which the vocabulary is taken from. None before there is data: only the inputs and the
    output are looked at then, so they must not depend on it.
    """
    text = keras.Input((), dtype="string", name="text")
    vocabulary = layers.TextVectorization(
        hyperparameters.pieces,
        standardize="lower",
        split="character",
        ngrams=(1, 2, 3),
        output_mode="multi_hot",
        pad_to_max_tokens=True,
        name="vocabulary",
    )
    if train is not None:
        vocabulary.adapt(train.column("text"))
    # 1 for each piece that the text holds, as whole numbers.
    x = keras.ops.cast(vocabulary(text), "float32")
    x = layers.Dropout(hyperparameters.dropout)(x)
    # float32 even under mixed precision: float16 rounds small probabilities to zero.
    probabilities = layers.Dense(len(LABELS), activation="softmax", dtype="float32", name="probabilities")(x)

    network = keras.Model(inputs={"text": text}, outputs=probabilities)
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return network
