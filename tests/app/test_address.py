"""Why an address cannot be listened on is said with what to do."""

from __future__ import annotations

import errno

import pytest
from aiohttp import web

from bridge.app.address import _why, listen
from bridge.errors import ListenError


@pytest.mark.parametrize(
    ("number", "port", "said"),
    [
        (errno.EADDRINUSE, 9195, "another process does already; stop it, or choose another with --listen HOST:PORT"),
        (errno.EACCES, 80, "a port below 1024 needs rights; choose a higher one with --listen HOST:PORT"),
        (errno.EADDRNOTAVAIL, 9195, "that is no address of this machine; name one of its own, or 127.0.0.1"),
        (errno.EAFNOSUPPORT, 9195, "not here; choose another with --listen HOST:PORT"),
    ],
)  # fmt: skip
def test_each_fault_has_its_sentence(number: int, port: int, said: str) -> None:
    assert _why(OSError(number, "not here"), port) == said


async def test_the_port_is_the_one_that_the_kernel_chose_and_is_then_in_use() -> None:
    first, second = web.AppRunner(web.Application()), web.AppRunner(web.Application())
    await first.setup()
    await second.setup()
    try:
        url = await listen(first, "127.0.0.1", 0)
        port = int(url.removeprefix("http://127.0.0.1:"))
        assert port > 0
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port}: another process does"):
            await listen(second, "127.0.0.1", port)
    finally:
        await first.cleanup()
        await second.cleanup()
