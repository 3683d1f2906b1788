"""Ask the service for predictions from Python: `python examples/client.py URL MODEL < instances.json`.

Copy what you need; it takes the package requests alone. The input is a JSON list of instances, the output a line for
each prediction.
"""

import json
import sys
import time
from typing import Any

import requests

ATTEMPTS = 5
# To connect, and between two bytes of the answer.
TIMEOUT_SECONDS = (3, 30)


def predict(session: requests.Session, url: str, model: str, instances: list[dict[str, Any]]) -> list[Any]:
    """The prediction for each instance, in the same order.

    The server answers 503 with Retry-After, in whole seconds, while it starts and when it is overloaded.
    Raises requests.HTTPError with the server's reason if it refuses the request, or is still busy after ATTEMPTS.
    """
    for attempt in range(1, ATTEMPTS + 1):
        answer = session.post(
            f"{url}/v1/models/{model}:predict", json={"instances": instances}, timeout=TIMEOUT_SECONDS
        )
        if answer.status_code != 503 or attempt == ATTEMPTS:
            break
        time.sleep(float(answer.headers.get("Retry-After", 1)))
    if not answer.ok:
        raise requests.HTTPError(f"{answer.status_code}: {answer.text}", response=answer)
    predictions: list[Any] = answer.json()["predictions"]
    return predictions


def main() -> None:
    """Read instances from standard input and print their predictions."""
    url, model = sys.argv[1:]
    # One session for all requests: it keeps its connection to the server.
    with requests.Session() as session:
        for prediction in predict(session, url, model, json.load(sys.stdin)):
            print(json.dumps(prediction))


if __name__ == "__main__":
    main()
