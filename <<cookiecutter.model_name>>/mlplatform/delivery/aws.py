"""Clients of AWS: credentials, endpoint and proxies from boto3's own chain (AWS_*), nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

from mlplatform.delivery.errors import DeliveryError

# Five attempts wait some 3 s in all between answers of 500 or throttling.
ATTEMPTS = 5
CONNECT_SECONDS = 5
READ_SECONDS = 30

LOGIN = "set AWS_PROFILE, or log in; in Jenkins the job's role gives them"


def client(service: str, region: str) -> Any:
    """boto3's client of a service such as `batch`. Raises DeliveryError if boto3 is configured wrongly."""
    # Imported here, as they take half a second, which `--help` has not.
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
    )
    with told(service):
        # boto3's overloads name every service, of which there are hundreds.
        session: Any = boto3.session.Session()
        return session.client(service, region_name=region, config=config)


def has_credentials() -> bool:
    """Whether boto3 finds credentials, valid or not. Raises DeliveryError if it is configured wrongly."""
    import boto3

    with told("AWS"):
        return boto3.session.Session().get_credentials() is not None


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn boto3's exceptions into a DeliveryError of one sentence; `what`: what was being done."""
    try:
        yield
    except NoCredentialsError as error:
        raise DeliveryError(f"{what}: no AWS credentials; {LOGIN}") from error
    except ClientError as error:
        code, message = code_of(error), error.response.get("Error", {}).get("Message", "")
        if code in ("ExpiredToken", "ExpiredTokenException"):
            raise DeliveryError(f"{what}: the AWS credentials have expired; log in again") from error
        if code in ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException"):
            raise DeliveryError(f"{what}: AWS does not accept the credentials ({code}); {LOGIN}") from error
        raise DeliveryError(f"{what}: AWS refuses with {code}: {message}") from error
    except EndpointConnectionError as error:
        raise DeliveryError(f"{what}: {_sentence(error)}; check the network and AWS_ENDPOINT_URL") from error
    except (BotoCoreError, ValueError) as error:
        raise DeliveryError(f"{what}: {_sentence(error)}") from error


def code_of(error: ClientError) -> str:
    """AWS's code of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
