"""What a training run takes: the pipeline's own parameters and the model's hyperparameters, as one typed object.

Training and delivery both read them here, so importing this module and calling its functions needs no TensorFlow,
unless `model/__init__.py` imports it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from pydantic import Field, create_model, model_validator
from pydantic.config import JsonDict
from pydantic_settings import SettingsConfigDict

from mlplatform.config.settings import Section, SettingsError, load
from mlplatform.contract import team_code
from mlplatform.contract.criteria import Criteria, load_criteria, with_former

if TYPE_CHECKING:
    from mlplatform.contract.targets.base import Target

# Parameters that decide how a run is carried out or judged, not what is learned: they don't enter its identity.
NOT_IDENTITY: JsonDict = {"not_identity": True}


class TrainingParameters(Section, section="training", closed=True):
    """The pipeline's own parameters; `parameters_type` adds the fields of `model.Hyperparameters`."""

    source: str = Field(
        default="",
        description="source data: a directory or s3://bucket/prefix; empty: the data bundled with the model",
        json_schema_extra=NOT_IDENTITY,
    )
    pass_over: str = Field(
        default="README*,LICENSE*",
        description="files of the source that are left out: patterns such as *.md, separated by commas",
        json_schema_extra=NOT_IDENTITY,
    )
    dataset: str = Field(
        default="",
        pattern=r"^([0-9a-f]{12})?$",
        description="version of a dataset gathered before; empty: gather from the source",
        json_schema_extra=NOT_IDENTITY,
    )
    epochs: int = Field(default=10, ge=1, le=100_000, description="passes over the training split")
    batch_size: int = Field(default=32, ge=1, le=100_000, description="examples per step, over all devices")
    seed: int = Field(default=1, ge=0, le=2**31 - 1, description="fixes initial weights, data order and dropout")
    validation_fraction: float = Field(
        default=0.15, gt=0, lt=0.5, description="share of the examples for validation during training"
    )
    test_fraction: float = Field(default=0.15, gt=0, lt=0.5, description="share of the examples kept for evaluation")
    split_group: str = Field(
        default="",
        description="property that is no input: examples with its value go to one split; empty: the id decides",
    )
    split_time: str = Field(
        default="",
        description="property that is no input, a time in ISO 8601: the test split is what is after test_after",
    )
    test_after: str = Field(default="", description="date or time in ISO 8601 from which on examples are for the test")
    split_fixed: str = Field(
        default="", description="property that is no input and says train, validation or test for each example"
    )
    split_stratified: bool = Field(
        default=False, description="the shares hold for each label; a few examples change their split as data grows"
    )
    near_duplicates_together: bool = Field(
        default=False,
        description="examples with nearly the same inputs go to one split; a few change it as data grows",
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="epochs without a better val_loss after which training ends with the best weights; 0: never",
    )
    plateau_patience: int = Field(
        default=0,
        ge=0,
        description="epochs without a better val_loss after which the learning rate is lowered; 0: never",
    )
    plateau_factor: float = Field(default=0.5, gt=0, lt=1, description="factor by which it is then lowered")
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = Field(
        default="float32", description="data type that layers compute in; mixed_float16 is for GPUs"
    )
    deterministic: bool = Field(
        default=True, description="use only operations that give the same bits each time; false is faster on a GPU"
    )
    maximum_bad_records: float = Field(
        default=0,
        ge=0,
        lt=1,
        description="share of the records that may fail the schema and are left out; above it the run ends",
        json_schema_extra=NOT_IDENTITY,
    )
    checkpoint_seconds: float = Field(
        default=60,
        ge=0,
        description="seconds between checkpoints, from which a stopped run resumes; 0: save only when stopped",
        json_schema_extra=NOT_IDENTITY,
    )
    work: str = Field(
        default=".work",
        min_length=1,
        description="directory for temporary files and for a local copy of what is read from S3",
        json_schema_extra=NOT_IDENTITY,
    )
    progress_seconds: float = Field(
        default=10, gt=0, description="seconds between lines of progress", json_schema_extra=NOT_IDENTITY
    )
    minimum_accuracy: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="another name of minimum of [gate.accuracy]",
        json_schema_extra=NOT_IDENTITY,
    )
    maximum_regression: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="another name of maximum_regression of [gate.accuracy]",
        json_schema_extra=NOT_IDENTITY,
    )
    litert: bool = Field(
        default=True,
        description="publish a LiteRT copy beside the SavedModel, if the model converts and predicts the same",
        json_schema_extra=NOT_IDENTITY,
    )

    @property
    def pass_over_patterns(self) -> tuple[str, ...]:
        """The patterns of `pass_over`."""
        return tuple(pattern.strip() for pattern in self.pass_over.split(",") if pattern.strip())

    @model_validator(mode="after")
    def _leave_something_to_train(self) -> "TrainingParameters":
        if self.validation_fraction + self.test_fraction > 0.8:
            raise ValueError("validation_fraction and test_fraction together must leave at least 0.2 for training")
        return self

    @model_validator(mode="after")
    def _divide_in_one_way(self) -> "TrainingParameters":
        ways = [
            name for name in ("split_group", "split_time", "split_fixed", "split_stratified") if getattr(self, name)
        ]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)}: one of them decides the split; leave the others empty")
        if self.near_duplicates_together and self.split_fixed:
            raise ValueError(
                f"near_duplicates_together and split_fixed = {self.split_fixed!r}: the data says each example's split; "
                "leave one of them out"
            )
        if bool(self.split_time) != bool(self.test_after):
            raise ValueError("split_time and test_after belong together: give both or neither")
        if self.test_after:
            try:
                datetime.fromisoformat(self.test_after)
            except ValueError:
                raise ValueError(f"test_after = {self.test_after!r}: must be a date or time in ISO 8601") from None
        return self


class PipelineParameters(TrainingParameters, section="training"):
    """The pipeline's own parameters, where the model's are of no interest: those are neither known nor checked."""

    model_config = SettingsConfigDict(extra="ignore")


def parameters_type() -> type[TrainingParameters]:
    """TrainingParameters with a field for each of `model.Hyperparameters`, with its default, bounds and description.

    Raises SettingsError if a field of the model has no default or takes a name that is taken, or if the team's code
    fails, and ModuleNotFoundError if it imports a package that is not installed here.
    """
    hyperparameters = _hyperparameters_type()
    types = get_type_hints(hyperparameters)
    extra: dict[str, Any] = {}
    for field in fields(hyperparameters):
        if field.name in TrainingParameters.model_fields:
            raise SettingsError(
                f"model.Hyperparameters.{field.name}: the pipeline has a parameter of this name already; rename it"
            )
        # Attributes of every parameters object, such as model_copy, and options of every command.
        if hasattr(TrainingParameters, field.name) or field.name == "help" or field.name.startswith("_"):
            raise SettingsError(f"model.Hyperparameters.{field.name}: no parameter can have this name; rename it")
        if field.default is MISSING:
            raise SettingsError(
                f"model.Hyperparameters.{field.name} has no default; give it one: "
                f"{field.name}: {getattr(field.type, '__name__', field.type)} = field(default=...)"
            )
        extra[field.name] = (types[field.name], Field(default=field.default, **field.metadata))
    return create_model("Parameters", __base__=TrainingParameters, **extra)


def _hyperparameters_type() -> Any:
    """The team's class. Imported here: what only needs the pipeline's own parameters runs without the model."""
    try:
        from model import Hyperparameters
    except ModuleNotFoundError:
        raise
    # Anything at all: it is the team's code.
    except Exception as error:
        cause = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
        raise SettingsError(f"{team_code.place(error) or 'model'}: {cause}") from error
    return Hyperparameters


def load_parameters(arguments: Mapping[str, Any]) -> TrainingParameters:
    """Parameters from arguments, environment (TRAINING_EPOCHS), service.toml [training], defaults, in this order.

    Raises SettingsError naming every parameter that is unknown or out of range, and what `parameters_type` raises.
    """
    return load(parameters_type(), arguments)


def target() -> "Target":
    """What the model learns, as `model/` says. Raises SettingsError."""
    import model

    # Imported here: commands that only check or list parameters need no NumPy, which takes longer to load than they do.
    from mlplatform.contract import targets

    return targets.of_model(model)


def criteria_of(parameters: TrainingParameters) -> Criteria:
    """What the gate asks for: the tables of service.toml, and parameters that stood for them. Raises SettingsError."""
    former = {
        "minimum": ("minimum_accuracy", parameters.minimum_accuracy),
        "maximum_regression": ("maximum_regression", parameters.maximum_regression),
    }
    return with_former(load_criteria(), "training", former)


def hyperparameters(parameters: TrainingParameters) -> Any:
    """The model's share of the parameters, as its own `model.Hyperparameters`."""
    from model import Hyperparameters

    return Hyperparameters(**{field.name: getattr(parameters, field.name) for field in fields(Hyperparameters)})


def identity(parameters: TrainingParameters) -> dict[str, Any]:
    """The parameters that decide what is learned, by name, as JSON values."""
    return {
        name: value
        for name, value in parameters.model_dump(mode="json").items()
        if type(parameters).model_fields[name].json_schema_extra != NOT_IDENTITY
    }


def run_id(dataset: str, parameters: TrainingParameters, code: str) -> str:
    """12 hex digits that name the run of this dataset version, these parameters and this code."""
    content = json.dumps({"dataset": dataset, "parameters": identity(parameters), "code": code}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]
