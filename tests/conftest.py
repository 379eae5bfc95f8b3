"""What tests of object stores share."""

from collections.abc import Iterator
from typing import Any

import pytest

from servers import new_bucket, options_for, s3_server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Give the endpoint of an S3 server that all tests share."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3_url(s3_endpoint: str) -> tuple[str, dict[str, Any]]:
    """Give the URL of a bucket of the test's own, and its storage_options."""
    return f"s3://{new_bucket(s3_endpoint)}", options_for(s3_endpoint)
