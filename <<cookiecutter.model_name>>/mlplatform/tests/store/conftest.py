"""The stores that the specification holds for."""

from pathlib import Path

import pytest

from mlplatform.store.storage import LocalStorage, Storage, open_storage
from mlplatform.tests.conftest import Bucket


@pytest.fixture(params=["directory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A directory, and a bucket."""
    if request.param == "directory":
        return LocalStorage(tmp_path / "store")
    bucket: Bucket = request.getfixturevalue("bucket")
    return open_storage(bucket.url)
