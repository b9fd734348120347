"""What systemd is told."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from sidecars import PATIENCE_S, Sidecar

from bridge.app.systemd import notify, watchdog_s


@pytest.mark.parametrize("abstract", [False, True])
def test_a_state_arrives_as_one_datagram(tmp_path: Path, *, abstract: bool):
    address = f"@tocsin-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0", 1))
        listener.settimeout(5)
        notify("READY=1", {"NOTIFY_SOCKET": address})
        assert listener.recv(100) == b"READY=1"


def test_one_who_listens_and_does_not_read_holds_nothing_up(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        for _ in range(10_000):  # the kernel keeps some ten to some hundred of them
            notify("WATCHDOG=1", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert listener.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_nobody_listening_is_nothing_to_worry_about(environ: dict[str, str]):
    notify("READY=1", environ)


@pytest.mark.parametrize(
    ("environ", "every_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(environ: dict[str, str], every_s: float | None):
    assert watchdog_s(environ, 7) == every_s


def test_serve_says_that_it_is_ready_alive_and_stopping(make: Callable[..., Sidecar], tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE_S)
        sidecar = make(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        sidecar.start()
        assert [listener.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        assert sidecar.end() == 0, sidecar.log.read_text("utf-8")[-3000:]
        said: list[bytes] = []
        while b"STOPPING=1" not in said:
            said.append(listener.recv(100))
    assert set(said) <= {b"WATCHDOG=1", b"STOPPING=1"}
