"""The training's parameters, as delivery takes them and hands them to a job."""

import os
from collections.abc import Mapping
from typing import Any

from mlplatform.config.settings import load
from mlplatform.contract.parameters import PipelineParameters, TrainingParameters, parameters_type
from mlplatform.delivery.errors import DeliveryError

PREFIX = "TRAINING_"
NOT_IMPORTABLE = (
    "model/ imports {package}, which is not installed here, so the job alone checks the hyperparameters; to have them "
    "checked and listed here too, move the class Hyperparameters to model/hyperparameters.py and import {package} in "
    "model/__init__.py only inside build()"
)


def known_parameters() -> tuple[type[TrainingParameters], str]:
    """The type of a run's parameters, and why it lacks those of the model; empty if it has them.

    A model that imports TensorFlow with its hyperparameters leaves delivery with the pipeline's own.
    Raises DeliveryError if there is no model, and SettingsError if its hyperparameters are wrong.
    """
    try:
        return parameters_type(), ""
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "model":
            raise DeliveryError(f"{error}; run from the repository's root") from None
        return PipelineParameters, NOT_IMPORTABLE.format(package=package)
    except ImportError as error:
        raise DeliveryError(str(error)) from None


def given(parameters: type[TrainingParameters], arguments: Mapping[str, str]) -> dict[str, str]:
    """The parameters to give to the job, as text: from arguments, else from TRAINING_* of the environment.

    Raises SettingsError naming every parameter that is unknown or out of range, as a run would.
    """
    load(parameters, arguments)
    if parameters.closed:
        names: list[str] = list(parameters.model_fields)
    else:
        names = [name.removeprefix(PREFIX).lower() for name in os.environ if name.startswith(PREFIX)]
    variables = {name: os.environ.get(f"{PREFIX}{name.upper()}") for name in names}
    chosen: dict[str, Any] = {**{name: value for name, value in variables.items() if value}, **arguments}
    return {name: str(value) for name, value in chosen.items()}
