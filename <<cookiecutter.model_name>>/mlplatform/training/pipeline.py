"""What a command of the pipeline does, and how it ends."""

import logging
import os
import sys

from mlplatform.config.settings import ServiceSettings
from mlplatform.contract.criteria import Criteria
from mlplatform.contract.errors import ExitCode, PipelineError
from mlplatform.contract.parameters import TrainingParameters
from mlplatform.contract.stopping import Stop, Stopped
from mlplatform.store.storage import Storage
from mlplatform.telemetry import logs
from mlplatform.training.metrics import TrainingMetrics
from mlplatform.training.run import check, gather, prepare_context, run
from mlplatform.training.shares import own_share


def run_command(
    name: str,
    service: ServiceSettings,
    storage: Storage,
    parameters: TrainingParameters,
    criteria: Criteria,
    stop: Stop,
) -> ExitCode:
    """Carry out `train` or `gather`, and print the outcome. Raises Stopped if a signal ended it.

    A child of an array job only checks its share of the source's files.
    """
    _log_to_stdout(service.name)
    share = own_share()
    metrics = TrainingMetrics.of(service.name) if name == "train" and share is None else TrainingMetrics()
    code = ExitCode.FAILED
    try:
        with stop.before_the_end(lambda: metrics.ended(ExitCode.STOPPED)):
            context = prepare_context(service, storage, parameters, criteria, stop, metrics)
            if share is not None:
                check(context, share)
            elif name == "gather":
                print(gather(context))
            else:
                run(context)
        code = ExitCode.DONE
    except PipelineError as error:
        code = error.exit_code
        raise
    except Stopped:
        code = ExitCode.STOPPED
        raise
    finally:
        metrics.ended(code)
    return code


def _log_to_stdout(service: str) -> None:
    if logs.wants_json(os.environ):
        logs.log_json(service)
    else:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    # What the tasks do they say themselves; these would say it again, with tracebacks for what a person can mend.
    for name in ("luigi", "luigi-interface", "tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
