"""The names of the metrics that models are judged by, and their direction; the targets compute them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What is known of a metric. kinds: of the targets that have it. whole: there is a figure of all classes together;
    of_class: of each one.

    higher_is_better: its direction. probabilities: whether it takes those of every class. worst: what no model falls
    behind.
    """

    whole: bool = True
    of_class: bool = False
    higher_is_better: bool = True
    probabilities: bool = False
    worst: float = 0.0
    kinds: tuple[str, ...] = ("classes", "ordinal")


_NUMBER, _TAGS, _ORDINAL, _VECTOR = ("number",), ("tags",), ("ordinal",), ("vector",)
_LABELLED = ("classes", "ordinal", "tags")

METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(),
    "balanced_accuracy": Metric(),
    "macro_precision": Metric(kinds=_LABELLED),
    "macro_recall": Metric(kinds=_LABELLED),
    "macro_f1": Metric(kinds=_LABELLED),
    "weighted_precision": Metric(),
    "weighted_f1": Metric(kinds=_LABELLED),
    "matthews_corrcoef": Metric(worst=-1.0),
    "precision": Metric(whole=False, of_class=True, kinds=_LABELLED),
    "recall": Metric(whole=False, of_class=True, kinds=_LABELLED),
    "f1": Metric(whole=False, of_class=True, kinds=_LABELLED),
    "roc_auc": Metric(of_class=True, probabilities=True, kinds=(*_LABELLED, *_VECTOR)),
    "average_precision": Metric(of_class=True, probabilities=True, kinds=_LABELLED),
    "log_loss": Metric(higher_is_better=False, probabilities=True, worst=float("inf")),
    "brier_score": Metric(higher_is_better=False, probabilities=True, worst=float("inf")),
    "micro_f1": Metric(kinds=_TAGS),
    "subset_accuracy": Metric(kinds=_TAGS),
    "hamming_loss": Metric(kinds=_TAGS, higher_is_better=False, worst=1.0),
    "quadratic_kappa": Metric(kinds=_ORDINAL, worst=-1.0),
    "mean_level_error": Metric(kinds=_ORDINAL, higher_is_better=False, worst=float("inf")),
    "mean_absolute_error": Metric(kinds=_NUMBER, higher_is_better=False, worst=float("inf")),
    "median_absolute_error": Metric(kinds=_NUMBER, higher_is_better=False, worst=float("inf")),
    "mean_squared_error": Metric(kinds=_NUMBER, higher_is_better=False, worst=float("inf")),
    "root_mean_squared_error": Metric(kinds=_NUMBER, higher_is_better=False, worst=float("inf")),
    "r2_score": Metric(kinds=_NUMBER, worst=float("-inf")),
    "equal_error_rate": Metric(kinds=_VECTOR, higher_is_better=False, worst=1.0),
    "true_accept_rate": Metric(kinds=_VECTOR),
}
"""By name; that of one class has its label behind a dot, `recall.fraud`."""

SAME: Mapping[str, str] = {
    # Keras's names.
    **dict.fromkeys(("categorical_accuracy", "sparse_categorical_accuracy", "binary_accuracy"), "accuracy"),
    **dict.fromkeys(("categorical_crossentropy", "sparse_categorical_crossentropy", "binary_crossentropy"), "log_loss"),
    "auc": "roc_auc",
    # scikit-learn's, of its functions and of its scorers.
    **{f"{name}_score": name for name in ("accuracy", "balanced_accuracy", "roc_auc", "average_precision", "f1")},
    **{f"{name}_{mean}": f"{mean}_{name}" for name in ("precision", "f1") for mean in ("macro", "weighted")},
    "f1_micro": "micro_f1",
    "mean_average_precision": "average_precision",
    "recall_macro": "macro_recall",
    "recall_weighted": "accuracy",
    "weighted_recall": "accuracy",
    "precision_score": "precision",
    "recall_score": "recall",
    "roc_auc_ovr": "roc_auc",
    "brier_score_loss": "brier_score",
    **{f"neg_{name}": name for name in METRICS if name.endswith("_error")},
    **{"mae": "mean_absolute_error", "mse": "mean_squared_error", "rmse": "root_mean_squared_error"},
    "r2": "r2_score",
    "eer": "equal_error_rate",
    "tar": "true_accept_rate",
}
"""Other names of the same metrics."""


def split_name(name: str) -> tuple[str, str | None]:
    """Metric and label of a name such as `recall.fraud`; the label is None in `accuracy`."""
    metric, dot, label = name.partition(".")
    return metric, label if dot else None
