"""Vocabularies of a network's lookup layers: given by the team, or taken from the training split.

They are no variables, so a checkpoint holds them beside the weights. A network that is built again may have found the
same words in another order, for one in that of a set; then its weights would be those of other words.
"""

from typing import Any

import keras

from mlplatform.contract.errors import PipelineError

Vocabulary = list[Any]


def of(network: keras.Model) -> list[Vocabulary]:
    """The vocabulary of each lookup layer, texts or whole numbers, in an order that follows from the code."""
    return [_entries(layer) for layer in _lookups(network)]


def restore(network: keras.Model, kept: list[Vocabulary]) -> None:
    """Give each lookup layer the vocabulary that `of` returned. Raises PipelineError if one cannot take it."""
    for layer, vocabulary in zip(_lookups(network), kept, strict=True):
        entries = _entries(layer)
        if entries == vocabulary:
            continue
        try:
            if len(entries) != len(vocabulary):
                raise ValueError(f"it has {len(entries)} entries, not {len(vocabulary)}")
            layer.set_vocabulary(vocabulary)
        except ValueError as error:
            raise PipelineError(
                f"model.build: the vocabulary of layer {layer.name!r} is another than the run began with: {error}; let "
                "it follow from the data alone, for one by sorting what comes from a set"
            ) from error


def _lookups(network: keras.Model) -> list[Any]:
    """Also those within others, as in TextVectorization."""
    layers = network._flatten_layers(include_self=False)
    return [layer for layer in layers if isinstance(layer, keras.layers.StringLookup | keras.layers.IntegerLookup)]


def _entries(layer: Any) -> Vocabulary:
    words = isinstance(layer, keras.layers.StringLookup)
    return [str(entry) if words else int(entry) for entry in layer.get_vocabulary(include_special_tokens=False)]
