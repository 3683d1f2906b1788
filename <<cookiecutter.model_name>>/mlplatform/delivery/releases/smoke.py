"""The smoke test of a release: whether the service answers, and with the right model."""

import time
from typing import Any

import requests

from mlplatform.delivery.errors import DeliveryError
from mlplatform.store.manifest import Manifest

TIMEOUT_SECONDS = (5, 30)
# Pods of the version before are being stopped and still answer for a while.
SETTLE_SECONDS = 60


class SmokeError(DeliveryError):
    """The service does not answer as it should; the message says what it answered."""


class UnansweredError(SmokeError):
    """The service does not answer at all."""


def check(url: str, name: str, version: str, model: Manifest | None) -> str:
    """Ask a service for its model version and a few predictions; return the outcome as a sentence.

    url: of the service; name: of the model; version: that it should serve; model: whose samples are sent, by V1. A
    service in the role of a ghost accepts them with 202 and shows nothing. Raises SmokeError.
    """
    with requests.Session() as session:
        session.trust_env = False
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                served = _ask(session, "GET", f"{url}/v2/models/{name}").get("versions")
                if served == [version]:
                    break
                reason = f"it serves {name} {', '.join(served or ['of no version'])} instead of {version}"
                wrong: SmokeError = SmokeError(reason)
            except SmokeError as error:
                wrong = error
            if time.monotonic() > end:
                raise wrong
            time.sleep(0.5)
        instances = [sample["instance"] for sample in (model.properties.get("samples", []) if model else [])]
        if not instances:
            return f"it serves {name} {version}; the model has no samples to try it with"
        answer = _ask(session, "POST", f"{url}/v1/models/{name}:predict", {"instances": instances})
        if answer is ACCEPTED:
            return f"it serves {name} {version} and takes what is mirrored to it"
        predictions = answer.get("predictions")
        if not isinstance(predictions, list) or len(predictions) != len(instances):
            raise SmokeError(f"{len(instances)} samples were answered with {str(answer)[:200]}")
        return f"it serves {name} {version} and predicts {len(predictions)} samples"


ACCEPTED: dict[str, Any] = {}


def _ask(session: requests.Session, method: str, url: str, body: Any = None) -> dict[str, Any]:
    """The JSON of an answer of 200, or ACCEPTED for 202. Raises SmokeError."""
    path = "/" + url.split("/", 3)[3]
    try:
        answer = session.request(method, url, json=body, timeout=TIMEOUT_SECONDS)
        if answer.status_code == 202:
            return ACCEPTED
        if answer.status_code != 200:
            raise SmokeError(f"{method} {path} was answered with {answer.status_code}: {answer.text[:200]}")
        content: dict[str, Any] = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise UnansweredError(f"{method} {path} was not answered ({type(error).__name__})") from None
    return content
