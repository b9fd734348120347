"""The keys of token issuers: fetched from a real server, bounded, and believed for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from signing import key_pair, key_set

from bridge.app.key_sets import MAX_BYTES, PAUSE_S, STALE_S, KeySets
from bridge.telemetry import Telemetry
from connectors.transport.http import HttpSender

ONE, TWO = key_pair("ES256", "one"), key_pair("ES256", "two")


class Issuer:
    """A server with a set of keys, which counts who asks."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: web.Response | None = None
        self.keys = (ONE,)
        self.url = ""

    async def serve(self, _request: web.Request) -> web.Response:
        self.asked += 1
        await asyncio.sleep(0)
        if self.answer is not None:
            return web.Response(status=self.answer.status, headers=self.answer.headers, body=self.answer.body)
        return web.Response(body=key_set(*self.keys))


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    app = web.Application()
    app.add_routes([web.get("/keys", made.serve)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield made
    await runner.cleanup()


class Sets:
    def __init__(self, issuer: Issuer) -> None:
        self.clock, self.telemetry, self.changes = Clock(), Telemetry(), 0
        self.sets = KeySets(
            lambda: HttpSender(body_bytes=MAX_BYTES + 1),
            telemetry=self.telemetry, changed=self.change, clock=self.clock,
        )  # fmt: skip
        self.place = issuer.url
        self.keys = self.sets.use({issuer.url: ""})[issuer.url]

    def change(self) -> None:
        self.changes += 1

    def has(self, kid: str) -> bool:
        return self.keys.find(kid, "ES256") is not None

    async def close(self) -> None:
        if self.sets._sender is not None:
            await self.sets._sender.close()


@pytest.fixture
async def sets(issuer: Issuer) -> AsyncIterator[Sets]:
    made = Sets(issuer)
    yield made
    await made.close()


async def test_who_waits_for_keys_waits_for_one_fetch(issuer: Issuer, sets: Sets):
    assert not sets.has("one")
    assert await asyncio.gather(*(sets.sets.fetch(sets.place) for _ in range(50))) == [True] * 50
    assert issuer.asked == 1
    assert sets.has("one")
    assert sets.changes == 1


async def test_made_up_tokens_do_not_become_requests_to_the_issuer(issuer: Issuer, sets: Sets):
    for _ in range(100):
        await sets.sets.fetch(sets.place)
    assert issuer.asked == 1
    sets.clock.now_s += PAUSE_S
    issuer.keys = (TWO,)
    assert await sets.sets.fetch(sets.place)
    assert (issuer.asked, sets.has("one"), sets.has("two")) == (2, False, True)


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500),
        web.Response(status=302, headers={"Location": "/elsewhere"}),
        web.Response(body=b"no keys"),
        web.Response(body=key_set(TWO) + b" " * MAX_BYTES),
    ],
    ids=["broken", "redirect", "garbage", "too long"],
)
async def test_keys_stay_while_they_cannot_be_had_anew_and_go_after_a_day(issuer: Issuer, sets: Sets, answer):
    assert await sets.sets.fetch(sets.place)
    issuer.answer = answer
    sets.clock.now_s += PAUSE_S
    assert not await sets.sets.fetch(sets.place)
    assert sets.has("one")
    assert sets.telemetry.value("tocsin_key_sets_total", result="failed") == 1
    sets.clock.now_s += STALE_S
    sets.sets._drop_stale()
    assert not sets.has("one")


async def test_a_server_that_is_not_there_is_said_once(
    sets: Sets, issuer: Issuer, caplog: pytest.LogCaptureFixture
):
    there = sets.sets.use({"http://127.0.0.1:9/keys": ""})["http://127.0.0.1:9/keys"]
    for _ in range(3):
        assert not await sets.sets.fetch(there.place)
        sets.clock.now_s += PAUSE_S
    assert [record.event for record in caplog.records] == ["keys_unread"]  # type: ignore[attr-defined]
    assert issuer.asked == 0


async def test_keys_stay_when_the_configuration_is_read_anew(issuer: Issuer, sets: Sets):
    await sets.sets.fetch(sets.place)
    assert sets.sets.use({issuer.url: "", "https://login.example.com/keys": ""})[issuer.url] is sets.keys
    assert sets.sets.use({issuer.url: "/some/ca.pem"})[issuer.url] is not sets.keys
    assert await sets.sets.fetch("a file")


async def test_it_fetches_at_once_and_again_when_places_change(issuer: Issuer, sets: Sets):
    working = asyncio.get_running_loop().create_task(sets.sets.run())
    async with asyncio.timeout(10):
        while not sets.has("one"):
            await asyncio.sleep(0.01)
        anew = sets.sets.use({issuer.url: "", f"{issuer.url}?again": ""})[f"{issuer.url}?again"]
        while anew.find("one", "ES256") is None:
            await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.wait([working])
