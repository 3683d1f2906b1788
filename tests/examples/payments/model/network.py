"""The network: one hidden layer over numbers, of which some may be missing, categories as text, and a boolean."""

from typing import Any

import keras
from keras import layers, ops

from model.dataset import AMOUNT, COUNTRIES, GAPS, HOUR, LABELS, MERCHANTS
from model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network.

    Inputs, each (batch,) and as in a record: numbers, float32, of which those of GAPS may be NaN; `country` and
    `merchant`, text; `card_present`, bool. Output: float32 (batch, 2), probabilities in the order of LABELS.
    """
    amount, hour = keras.Input((), name="amount"), keras.Input((), name="hour")
    gaps = {name: keras.Input((), name=name) for name in GAPS}
    country, merchant = (keras.Input((), name=name, dtype="string") for name in ("country", "merchant"))
    card_present = keras.Input((), name="card_present", dtype="bool")

    numbers = [_scaled(ops.log1p(amount), *AMOUNT), _scaled(hour, *HOUR), ops.cast(card_present, "float32")]
    for name, value in gaps.items():
        missing = ops.isnan(value)
        # Replaced before anything is computed from it: a gradient through NaN is NaN, whatever is chosen afterwards.
        known = ops.where(missing, 0.0, value)
        numbers += [ops.where(missing, 0.0, _scaled(ops.log1p(known), *GAPS[name])), ops.cast(missing, "float32")]
    columns = [ops.expand_dims(number, -1) for number in numbers]
    # A country that is not among these is a category of its own.
    columns.append(layers.StringLookup(vocabulary=COUNTRIES, output_mode="one_hot")(country))
    columns.append(layers.StringLookup(vocabulary=MERCHANTS, output_mode="one_hot")(merchant))
    x = layers.Dense(hyperparameters.units, activation="relu")(layers.Concatenate()(columns))
    probabilities = layers.Dense(len(LABELS), activation="softmax", name="probabilities")(x)

    inputs = {"amount": amount, "hour": hour, **gaps, "country": country, "merchant": merchant}
    network = keras.Model(inputs={**inputs, "card_present": card_present}, outputs=probabilities)
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return network


def _scaled(value: Any, mean: float, deviation: float) -> Any:
    return (value - mean) / deviation
