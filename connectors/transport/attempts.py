"""What the senders share: trying a connection again within one attempt, and trust in certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import tenacity
from tenacity.wait import wait_base

from bridge.ports import Response, Unreached

TRIES, WITHIN_S = 3, 5.0
CONNECT_S = 5.0  # a host that does not answer a SYN within this is not there


def short_wait() -> wait_base:
    """Return the wait between two tries of one attempt; tests inject `tenacity.wait_none()`."""
    return tenacity.wait_random_exponential(multiplier=0.1, max=1.0)


def _not_connected(response: Response) -> bool:
    # Only where certainly nothing was sent: anything else could arrive twice.
    return isinstance(response, Unreached) and response.kind == "connect" and not response.maybe_sent


async def attempt(send: Callable[[], Awaitable[Response]], wait: wait_base) -> Response:
    """Return the answer of `send`, called again while it cannot connect, at most 3 times in 5 s."""
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(_not_connected),
        stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_after_delay(WITHIN_S),
        wait=wait,
        retry_error_callback=_last,
    )

    async def once() -> Response:  # tenacity awaits only what is a coroutine function by its looks
        return await send()

    return await retrying(once)


def _last(state: tenacity.RetryCallState) -> Response:
    outcome = state.outcome
    if outcome is None:
        raise RuntimeError("tenacity gave up before it began")
    response: Response = outcome.result()
    return response


class Trust:
    """TLS contexts, one per file of certificates and client certificate; a file that changed is read anew.

    Host names are always checked and nothing below TLS 1.2 is spoken; there is no setting to weaken that.
    """

    def __init__(self) -> None:
        self._contexts: dict[tuple[tuple[str, int], ...], ssl.SSLContext] = {}

    async def context(self, ca_file: str, certificate_file: str = "", key_file: str = "") -> ssl.SSLContext:
        """Return the context that trusts `ca_file`, or the system's authorities for "".

        With `certificate_file` and `key_file` it shows that certificate.

        Raises:
            OSError: a file cannot be read or does not hold what it should; an encrypted key is such a file.
        """
        files = (ca_file, certificate_file, key_file)
        key = tuple((file, _changed_ns(file)) for file in files)
        if key not in self._contexts:
            # In a thread: to read the system's authorities takes tens of milliseconds.
            self._contexts[key] = await asyncio.to_thread(_context, *files)
        return self._contexts[key]


def _changed_ns(file: str) -> int:
    return Path(file).stat().st_mtime_ns if file else 0


def _context(ca_file: str, certificate_file: str, key_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate_file:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate_file, key_file, password="")
    return context
