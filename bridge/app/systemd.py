"""What systemd is told: ready, still alive, stopping. Silent where nobody listens.

Rule: nothing here waits. Where nobody reads, the few datagrams that the kernel keeps fill up, and a send that blocks
would hold the whole event loop.

Source: sd_notify(3) and systemd.service(5), `Type=notify` and `WatchdogSec=`.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping


def notify(state: str, environ: Mapping[str, str]) -> None:
    """Send one state, such as `READY=1`. What goes wrong is of no concern to the service."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto(state.encode(), address)
    except OSError:
        return


def watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    """Return how often systemd wants to hear from process `pid`: half its limit; None if it does not."""
    usec, whose = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (whose and whose != str(pid)):
        return None
    return int(usec) / 2e6
