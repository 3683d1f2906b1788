"""A row of 64 numbers as an array: by the sum of their squares, as the server reads it, and by looking at each.

    PYTHONPATH='<<cookiecutter.model_name>>' python benchmarks/serving/decoding.py

In an environment with the serving requirements. Prints microseconds, the lowest of many repeats in turns.
"""

import timeit

import numpy as np

from mlplatform.serving.model.signature import Tensor
from mlplatform.serving.protocols import tensors

NUMBER, REPEATS = 2000, 25
ROWS = np.random.default_rng(0).random((1, 8, 8)).tolist()
TENSOR = Tensor("image", (8, 8), "float32")


def by_squares() -> bool:
    return tensors._floats(ROWS, TENSOR) is not None


def each() -> bool:
    array = tensors._cast(np.array(ROWS), TENSOR)
    return array is not None and tensors._fits(array.shape, TENSOR.shape)


def main() -> None:
    ways = (by_squares, each)
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(REPEATS):
        for way in ways:
            best[way] = min(best[way], timeit.timeit(way, number=NUMBER) / NUMBER)
    for way, seconds in best.items():
        print(f"{seconds * 1e6:6.2f} us  {way.__name__}")


if __name__ == "__main__":
    main()
