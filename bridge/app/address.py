"""Listening on an address, and saying in plain words why that is not possible, or where it happens."""

from __future__ import annotations

import errno
import ssl
from contextlib import suppress
from typing import IO

from aiohttp import web

from bridge.errors import ListenError
from bridge.intake import BACKLOG

#: Below this only root, or who has CAP_NET_BIND_SERVICE, may listen.
FREE_PORTS = 1024


async def listen(
    runner: web.AppRunner, host: str, port: int, encryption: ssl.SSLContext | None = None
) -> str:
    """Begin to listen and return the URL, with the port that the kernel chose for port 0.

    Raises:
        ListenError: The address is in use, is not this machine's, or needs rights.
    """
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG, ssl_context=encryption).start()
    except OSError as error:
        where = f"{_bracketed(host)}:{port}"
        raise ListenError(f"cannot listen on {where}: {_why(error, port)}") from error
    with suppress(IndexError):
        port = runner.addresses[0][1]
    return f"http{'s' if encryption else ''}://{_bracketed(host)}:{port}"


def point_at(url: str, stream: IO[str]) -> None:
    """Say on a terminal what to do next. Not a log line: there an address ends at the host."""
    if stream.isatty():
        stream.write(
            f"Point a webhook receiver of Alertmanager at {url}/v1/alertmanager; "
            "`tocsin incidents` shows what becomes of it.\n"
        )
        stream.flush()


def _why(error: OSError, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another process does already; stop it, or choose another with --listen HOST:PORT"
        case errno.EACCES if port < FREE_PORTS:
            return f"a port below {FREE_PORTS} needs rights; choose a higher one with --listen HOST:PORT"
        case errno.EADDRNOTAVAIL:
            return "that is no address of this machine; name one of its own, or 127.0.0.1"
        case _:
            return f"{error.strerror or error}; choose another with --listen HOST:PORT"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
