"""Real servers for the tests that claim them: found on the machine, or said to be missing."""

from __future__ import annotations

import os
import shutil
import socket

import pytest

#: Where Debian puts daemons that an ordinary PATH does not name.
DAEMON_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])


def require_server(program: str) -> str:
    """Return the program's path; without it skip, or fail where TOCSIN_REQUIRE_SERVERS=1."""
    path = shutil.which(program, path=DAEMON_PATH)
    if path is None:
        message = f"{program} is not installed"
        if os.environ.get("TOCSIN_REQUIRE_SERVERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
