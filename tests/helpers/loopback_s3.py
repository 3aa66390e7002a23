"""An S3 server on the loopback interface, with one empty bucket, `team`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Yield the environment variables with which every S3 client talks to the server."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 (takes a second, and few tests need it)

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        requests.put(f"{address}/team", timeout=10).raise_for_status()
        yield {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": address}
    finally:
        server.stop()


@contextmanager
def s3_files(environment: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield the server's files as fsspec sees them, and point every S3 client of this process to the server."""
    import s3fs  # noqa: PLC0415 (half a second, and few tests need it)

    with s3_server() as settings:
        for name, value in settings.items():
            environment.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield s3fs.S3FileSystem()
    s3fs.S3FileSystem.clear_instance_cache()
