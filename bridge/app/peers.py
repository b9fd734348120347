"""Alertmanagers asked through their API, version 2, and only read: what is listed, since when it runs, who is told.

Rules: each answer is bounded in time and size, nothing is followed to another address, no credential is in a reason.
What is read is understood in a thread of its own: a list of thirty thousand alerts takes a second, in which webhooks
are taken in as ever.

Decision: the sender of the destinations is used (`connectors.transport.http`), with room for a larger answer. One
client that knows TLS, slow resolvers and names without secrets is enough.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from bridge.analysis.rounds import Answer
from bridge.config import PollSettings
from bridge.errors import PayloadError
from bridge.ports import Http, HttpResponse, Unreached
from bridge.webhooks.listing import parse_listing, parse_receivers, parse_start
from connectors.transport.http import HttpSender

#: One request and its answer may take so long.
ANSWER_S = 10.0
#: The longest list that is read: thirty thousand alerts.
MAX_ANSWER_BYTES = 32 << 20
#: An Alertmanager that started less than so many rounds ago may not have got its alerts back from Prometheus.
YOUNG_ROUNDS = 10.0

Read = TypeVar("Read")


class UnansweredError(Exception):
    """A peer was asked in vain; the message says why and holds no secret."""


class Peers:
    """Asks Alertmanagers. Close it in the loop that it was used in."""

    def __init__(self) -> None:
        self._sender = HttpSender(body_bytes=MAX_ANSWER_BYTES + 1)
        self._reader = ThreadPoolExecutor(1, "listings")

    async def close(self) -> None:
        """Let go of connections, and of the thread without waiting for it."""
        await self._sender.close()
        self._reader.shutdown(wait=False, cancel_futures=True)

    async def ask(self, poll: PollSettings, peer: str) -> Answer:
        """Return what one Alertmanager lists now.

        Raises:
            UnansweredError: It did not say.
        """
        about = await self._get(poll, peer, "/api/v2/status")
        started_at = await self._read(parse_start, about.body)
        listed = await self._get(poll, peer, "/api/v2/alerts")
        listing = await self._read(parse_listing, listed.body)
        young_s = YOUNG_ROUNDS * poll.interval_s
        return Answer(listing=listing, is_young=_age_s(about, started_at) < young_s)

    async def receivers(self, poll: PollSettings, peer: str) -> tuple[str, ...]:
        """Return the names of one Alertmanager's receivers.

        Raises:
            UnansweredError: It did not say.
        """
        return await self._read(parse_receivers, (await self._get(poll, peer, "/api/v2/receivers")).body)

    async def in_thread(self, work: Callable[[], Read]) -> Read:
        """Do what takes long where it holds nobody up."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    async def _read(self, parse: Callable[[bytes], Read], body: bytes) -> Read:
        try:
            return await self.in_thread(lambda: parse(body))
        except PayloadError as error:
            raise UnansweredError(f"what it answers is not understood: {error}") from error

    async def _get(self, poll: PollSettings, peer: str, path: str) -> HttpResponse:
        request = Http(
            method="GET", url=f"{peer}{path}", headers=_headers(poll), body=b"", ca_file=poll.ca_file
        )
        response = await self._sender.send(request, timeout_s=ANSWER_S)
        if isinstance(response, Unreached):
            raise UnansweredError(response.reason)
        if not isinstance(response, HttpResponse) or response.status != 200:  # noqa: PLR2004 - HTTP's own number
            raise UnansweredError(f"{path} is answered {getattr(response, 'status', 'with nothing')}")
        if len(response.body) > MAX_ANSWER_BYTES:
            raise UnansweredError(f"its list is larger than {MAX_ANSWER_BYTES >> 20} MiB")
        return response


def _headers(poll: PollSettings) -> dict[str, str]:
    if poll.token is not None:
        return {"Authorization": f"Bearer {poll.token.get_secret_value()}"}
    if poll.username is not None and poll.password is not None:
        pair = f"{poll.username}:{poll.password.get_secret_value()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


def _age_s(answer: HttpResponse, started_at: datetime) -> float:
    """Return for how long an Alertmanager has run, by its own clock; 0 if it does not tell its time."""
    try:
        told_at = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return 0.0
    return (told_at.astimezone(UTC) - started_at).total_seconds()
