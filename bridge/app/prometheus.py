"""Asking a Prometheus: read-only, bounded in time and bytes, never redirected elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from connectors.transport.names import Names, Resolver

TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 32 << 20


def session() -> aiohttp.ClientSession:
    """Return a session to ask with; whoever opens it closes it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=Resolver(Names())),
        headers={"User-Agent": "tocsin", "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


async def answer_of(asking: aiohttp.ClientSession, url: str, path: str, asked: Mapping[str, str]) -> bytes:
    """Return what the server at `url` answers to a question; an error that it explains is an answer, too.

    Raises:
        TooMuchError: The answer is too large.
        ValueError: There is an answer, and it is none that Prometheus gives.
        ClientError: There is none.
        TimeoutError: It took too long.
    """
    question = {**asked, "timeout": f"{TIMEOUT_S:.0f}s"}
    async with asking.get(f"{url}{path}", params=question, allow_redirects=False) as answer:
        body = bytearray()
        async for part in answer.content.iter_chunked(1 << 16):
            body += part
            if len(body) > MAX_ANSWER_BYTES:
                raise TooMuchError(f"it answers with more than {MAX_ANSWER_BYTES >> 20} MiB")
        if answer.status >= 300 and not body.startswith(b"{"):  # noqa: PLR2004 - HTTP
            raise ValueError(f"it answers {answer.status}")
    return bytes(body)


class TooMuchError(ValueError):
    """An answer is larger than is taken in."""


def reason_of(error: Exception) -> str:
    """Return what is wrong in a few words, without an address."""
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s"
    cause = getattr(error, "os_error", None)
    return getattr(cause, "strerror", None) or type(error).__name__
