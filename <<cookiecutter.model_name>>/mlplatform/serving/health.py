"""Whether the server of this container is ready: `python -m mlplatform.serving.health` ends with 0 if it is, else 1."""

import sys
from http.client import HTTPConnection, HTTPException

from mlplatform.config.settings import SettingsError, load
from mlplatform.serving.settings import ServingSettings

SECONDS = 3


def main() -> int:
    """Ask the server on the port that it is set to. Returns 0 if it is ready, 1 with the reason if not."""
    try:
        port = load(ServingSettings).port
        connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        connection.request("GET", "/v2/health/ready")
        answer = connection.getresponse()
        print(answer.status, answer.read().decode(errors="replace").strip())
    except (SettingsError, OSError, HTTPException) as error:
        print(error)
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
