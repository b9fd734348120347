"""AWS on loopback: a moto server of its own, and clients that look at what arrived there."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.config import Config
from botocore.session import Session
from servers import free_port

REGION, ACCOUNT = "eu-west-1", "123456789012"
#: moto looks at no signature; these only have to be there.
KEYS = {
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
STARTS_S = 30.0


class Moto:
    """One running server; `settings` are what a destination needs to reach it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.settings: dict[str, Any] = {"region": REGION, "endpoint": self.url, **KEYS}

    def client(self, service: str) -> Any:
        """Return AWS' own client of a service."""
        session = Session()
        session.set_credentials(KEYS["access_key_id"], KEYS["secret_access_key"])
        config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1})
        return session.create_client(service, region_name=REGION, endpoint_url=self.url, config=config)


@contextmanager
def running() -> Iterator[Moto]:
    """Run a moto server."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, port)
        yield Moto(port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    ends = time.monotonic() + STARTS_S
    while time.monotonic() < ends and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("moto did not start")
