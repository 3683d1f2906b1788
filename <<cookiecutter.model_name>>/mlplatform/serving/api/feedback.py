"""POST /v1/feedback: what a request really was, told by its id once that is known."""

from http import HTTPStatus
from typing import Any

from mlplatform.contract.events import is_request_id
from mlplatform.contract.targets import Classes, Target
from mlplatform.serving.errors import RequestError, bad_request
from mlplatform.serving.http.request_body import parse_json
from mlplatform.serving.protocols.tensors import show

_FIELDS = ("request_id", "label", "labels")
_FORM = '{"request_id": "...", "label": ...}, or "labels" with one for each row, null where it is not known'


def decode(body: bytes, target: Target | None, most: int) -> tuple[str, list[str | float | None]]:
    """The request's id and the truths of its rows, `most` at most. target: the model's; None if it is not known.

    Raises RequestError (400) naming the first fault.
    """
    content = parse_json(body)
    if not isinstance(content, dict):
        raise bad_request(f"the body is {show(content)}; expected {_FORM}")
    unknown = [field for field in content if field not in _FIELDS]
    if unknown:
        raise bad_request(f"unknown field {show(unknown[0])}; expected {_FORM}")
    if ("label" in content) == ("labels" in content):
        raise bad_request(f"the body has {'both' if 'label' in content else 'neither'} label and labels: {_FORM}")
    id = content.get("request_id")
    if not is_request_id(id):
        raise bad_request(f"request_id is {show(id)}; expected X-Request-ID of the answer")
    given = content["labels"] if "labels" in content else [content["label"]]
    if not isinstance(given, list) or not given:
        raise bad_request(f"labels is {show(given)}; expected a list with a label for each row")
    if len(given) > most:
        raise bad_request(f"labels has {len(given)} entries; a request has at most {most} rows")
    return id, [_truth(truth, target) for truth in given]


def _truth(given: Any, target: Target | None) -> str | float | None:
    if given is None:
        return None
    try:
        return (target or Classes("label", ())).feedback(given)
    except ValueError as error:
        raise bad_request(f"label is {show(given)}; {error}") from None


def not_kept() -> RequestError:
    """Feedback came, and there is nowhere to keep it."""
    return RequestError(HTTPStatus.NOT_IMPLEMENTED, "feedback is not kept here: [serving] events is not set")


def no_room() -> RequestError:
    """Feedback came faster than it is written."""
    return RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "too much feedback waits to be written", retry_after=1)
