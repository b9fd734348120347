from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import io
import json
from collections import Counter

import pytest
from aiohttp import ClientSession, web
from bodies import HOPELESS, alert, body

from bridge.auth import Grant, Keyring
from bridge.errors import StorageError, StoreFullError
from bridge.intake import SERVER_OPTIONS, Allowance, Intake, IntakeSettings, routes
from bridge.model import RowKind
from bridge.storage.inbox import InboxReader, InboxWriter

URL = "/v1/alertmanager"
JSON = {"Content-Type": "application/json"}


class Counted:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.alerts = self.webhooks = self.size_bytes = 0
        self.reasons: Counter[str] = Counter()

    def accepted(self, alerts: int, size_bytes: int) -> None:
        self.webhooks += 1
        self.alerts += alerts
        self.size_bytes += size_bytes

    def refused(self, reason: str) -> None:
        self.reasons[reason] += 1


class Box:
    """An inbox in memory, which fails or waits when told to."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, RowKind, bytes]] = []
        self.error: StorageError | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def put(self, tenant: str, source: str, kind: RowKind, text: bytes) -> int:
        await self.open.wait()
        if self.error:
            raise self.error
        self.rows.append((tenant, source, kind, text))
        return len(self.rows)


class Door:
    """One intake behind a real HTTP server, with everything that can be looked at."""

    def __init__(self, client: ClientSession, port: int, runner, intake: Intake, meter: Counted) -> None:
        self.client, self.port, self.runner, self.intake, self.meter = client, port, runner, intake, meter
        self.inbox = intake._inbox

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self.runner.server.connections)

    async def post(self, data, path: str = URL, headers=JSON, **more) -> tuple[int, dict]:
        data = io.BytesIO(data) if isinstance(data, bytes) else data
        async with self.client.post(path, data=data, headers=headers, **more) as answer:
            return answer.status, await answer.json()

    async def raw(self, head: str, text: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection and send bytes as they are."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + text)
        await writer.drain()
        return reader, writer

    async def until(self, held_bytes: int) -> None:
        """Wait until so much of the budget is held."""
        while self.intake.budget.held_bytes != held_bytes:
            await asyncio.sleep(0)


@pytest.fixture
async def doors():
    """Make a door; with an inbox in memory unless another is given."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(*, inbox=None, tokens=(), **settings) -> Door:
            meter = Counted()
            inbox = Box() if inbox is None else inbox
            intake = Intake(inbox, Keyring(tokens), IntakeSettings(**settings), meter)
            application = web.Application()
            application.add_routes(routes(intake))
            # As the front runs it, which aiohttp's own test server does not.
            runner = web.AppRunner(application, **SERVER_OPTIONS)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            client = await stack.enter_async_context(ClientSession(f"http://127.0.0.1:{port}"))
            return Door(client, port, runner, intake, meter)

        yield make


async def status_line(reader: asyncio.StreamReader) -> bytes:
    return (await asyncio.wait_for(reader.readline(), 10)).rstrip()


# ---- what is good ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "source"), [(URL, "default"), (f"{URL}/prod.eu-1_a", "prod.eu-1_a")])
async def test_a_webhook_is_on_the_disk_when_it_is_answered(doors, tmp_path, path, source):
    inbox = InboxWriter(tmp_path / "inbox.db", clock_us=lambda: 1)
    inbox.start()
    door = await doors(inbox=inbox)
    text = body(alert(), alert())
    assert await door.post(text, path) == (200, {"received": 2})
    reader = InboxReader(tmp_path / "inbox.db")
    (row,) = reader.read(0, 10, 1 << 20)
    reader.close()
    inbox.close()
    assert (row.tenant, row.source, row.kind, row.body) == ("default", source, RowKind.WEBHOOK, text)
    assert (door.meter.webhooks, door.meter.alerts, door.meter.size_bytes) == (1, 2, len(text))


async def test_nothing_is_answered_before_the_commit(doors):
    door = await doors()
    door.inbox.open.clear()
    text = body(alert())
    reader, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: {len(text)}", text)
    await door.until(len(text))
    first = asyncio.Task(status_line(reader))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not first.done()
    door.inbox.open.set()
    assert await first == b"HTTP/1.1 200 OK"
    writer.close()
    await door.until(0)


@pytest.mark.parametrize("alerts", [0, 1, 1000, 10_000])
async def test_any_number_of_alerts_is_received(doors, alerts):
    door = await doors()
    assert await door.post(body(*[alert()] * alerts)) == (200, {"received": alerts})
    assert door.intake.budget.held_bytes == 0


GOOD_WITH_FAULTS = {
    "another version": body(alert(), version="5"),
    "unknown fields": body(alert(mood="bad"), routeLabels={}),
    "every alert is bad": body({"labels": 7}),
    "a megabyte in a label": body(alert(labels={"a": "x" * 1_000_000})),
    "1e400": body(alert(value=0)).replace(b'"value":0', b'"value":1e400'),
    "a NUL as an escape": body(alert(annotations={"a": "\0"})),
}


@pytest.mark.parametrize("sent", GOOD_WITH_FAULTS)
async def test_what_is_wrong_inside_of_an_alert_is_found_later(doors, sent):
    door = await doors()
    assert await door.post(GOOD_WITH_FAULTS[sent]) == (200, {"received": 1})
    assert door.inbox.rows[0][3] == GOOD_WITH_FAULTS[sent]


async def test_many_senders_at_once(doors, tmp_path):
    inbox = InboxWriter(tmp_path / "inbox.db", clock_us=lambda: 1)
    inbox.start()
    door = await doors(inbox=inbox)
    texts = [body(*[alert(fingerprint=f"{number:016x}")] * 50) for number in range(100)]
    answers = await asyncio.gather(*(door.post(text) for text in texts))
    assert answers == [(200, {"received": 50})] * 100
    inbox.close()
    reader = InboxReader(tmp_path / "inbox.db")
    assert sorted(row.body for row in reader.read(0, 1000, 1 << 30)) == sorted(texts)
    reader.close()


async def test_a_chunked_body_is_a_body(doors):
    door = await doors()

    async def pieces():
        for at in range(0, len(text), 1000):
            yield text[at : at + 1000]

    text = body(*[alert()] * 500)
    assert await door.post(pieces()) == (200, {"received": 500})
    assert door.inbox.rows[0][3] == text
    assert door.intake.budget.held_bytes == 0


async def test_the_body_may_come_in_pieces(doors):
    door = await doors()
    text = body(alert())
    reader, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: {len(text)}", text[:100])
    await door.until(len(text))
    writer.write(text[100:])
    assert await status_line(reader) == b"HTTP/1.1 200 OK"
    writer.close()


# ---- what can never be good ------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", HOPELESS)
async def test_a_hopeless_body_is_refused_with_a_reason_and_set_aside(doors, sent):
    door = await doors()
    text, reason = HOPELESS[sent]
    status, answer = await door.post(text, f"{URL}/prod")
    assert status == 400
    assert reason in answer["error"]
    ((tenant, source, kind, row),) = door.inbox.rows
    kept = json.loads(row)
    assert (tenant, source, kind) == ("default", "prod", RowKind.REJECTED)
    assert kept["reason"] == answer["error"]
    assert base64.b64decode(kept["body_base64"]) == text
    assert door.meter.reasons == {"payload": 1}
    assert door.intake.budget.held_bytes == 0


async def test_a_hopeless_body_is_refused_even_when_it_cannot_be_set_aside(doors):
    door = await doors()
    door.inbox.error = StoreFullError("full")
    assert (await door.post(b"nonsense"))[0] == 400


async def test_only_so_many_bytes_are_set_aside_in_a_minute(doors):
    door = await doors(rejected_bytes_per_min=3000)
    for _ in range(5):
        assert (await door.post(b"x" * 1000))[0] == 400
    assert len(door.inbox.rows) == 2
    assert door.meter.reasons == {"payload": 5}


def test_an_allowance_comes_back_with_time_and_is_not_saved_up():
    allowance = Allowance(600)
    assert allowance.spend(600, 1000.0)
    assert not allowance.spend(1, 1000.0)
    assert allowance.spend(100, 1010.0)
    assert not allowance.spend(1, 1010.0)
    assert not allowance.spend(601, 9000.0)
    assert allowance.spend(600, 9000.0)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON", 200),
        ("application/vnd.alertmanager+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonlines", 415),
        ("json", 415),
        ("", 415),
    ],
)
async def test_a_content_type_that_is_there_must_be_json(doors, content_type, status):
    door = await doors()
    answer = await door.post(body(alert()), headers={"Content-Type": content_type})
    assert answer[0] == status
    assert len(door.inbox.rows) == (status == 200)


async def test_no_content_type_is_no_fault(doors):
    door = await doors()
    text = body(alert())
    reader, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: {len(text)}", text)
    assert await status_line(reader) == b"HTTP/1.1 200 OK"
    writer.close()


BOMB = gzip.compress(b'{"alerts": [' + b" " * (256 << 20) + b"]}", 1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP", "unknown"])
async def test_a_compressed_body_is_refused_and_never_unpacked(doors, encoding):
    door = await doors()
    reader, writer = await door.raw(
        f"POST {URL} HTTP/1.1\nHost: x\nContent-Encoding: {encoding}\nContent-Length: {len(BOMB)}", BOMB
    )
    assert await status_line(reader) == b"HTTP/1.1 415 Unsupported Media Type"
    writer.close()
    assert door.inbox.rows == []
    assert door.meter.reasons == {"encoding": 1}


async def test_identity_is_no_compression(doors):
    door = await doors()
    assert (await door.post(body(alert()), headers=JSON | {"Content-Encoding": "identity"}))[0] == 200


@pytest.mark.parametrize(
    "name",
    ["tocsin", "a b", "a%2Fb", "%00", "č", "x" * 65, "a;b", "..%2f..%2fetc", "%F0%9F%94%94", "a%0d%0ab"],
)
async def test_a_source_is_named_plainly(doors, name):
    door = await doors()
    status, _ = await door.post(body(alert()), f"{URL}/{name}")
    assert status == 400
    assert door.inbox.rows == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_webhooks_are_posted(doors, method):
    door = await doors()
    async with door.client.request(method, URL) as answer:
        assert answer.status == 405


# ---- who sends -------------------------------------------------------------------------------------------

TOKENS = [
    ("acme-token-0123456789", Grant(tenant="acme", role="sender")),
    ("other-token-0123456789", Grant(tenant="other", role="admin")),
]


@pytest.mark.parametrize(("token", "grant"), TOKENS)
async def test_the_token_names_the_tenant(doors, token, grant):
    door = await doors(tokens=TOKENS)
    status, _ = await door.post(body(alert()), headers=JSON | {"Authorization": f"Bearer {token}"})
    assert status == 200
    assert door.inbox.rows[0][0] == grant.tenant


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic YWNtZTp0b2tlbg=="},
        {"Authorization": "acme-token-0123456789"},
        {"Authorization": "Bearer acme-token-0123456788"},
    ],
)
async def test_one_answer_for_every_wrong_credential(doors, header):
    door = await doors(tokens=TOKENS)
    async with door.client.post(URL, data=body(alert()), headers=JSON | header) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tocsin"'
        assert await answer.json() == {"error": "credentials are missing or not accepted"}
    assert door.inbox.rows == []
    assert door.meter.reasons == {"credentials": 1}


async def test_new_tokens_count_from_the_next_request_on(doors):
    door = await doors(tokens=TOKENS)
    headers = JSON | {"Authorization": "Bearer acme-token-0123456789"}
    assert (await door.post(body(alert()), headers=headers))[0] == 200
    door.intake.keyring = Keyring([("a-new-token-0123456789", TOKENS[0][1])])
    assert (await door.post(body(alert()), headers=headers))[0] == 401


# ---- how much --------------------------------------------------------------------------------------------


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(doors):
    door = await doors(max_body_bytes=1000, budget_bytes=1000)
    reader, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: 1001")
    assert await status_line(reader) == b"HTTP/1.1 413 Request Entity Too Large"
    writer.close()
    assert door.meter.reasons == {"too_large": 1}


async def test_a_body_that_turns_out_too_large_is_refused(doors):
    door = await doors(max_body_bytes=100_000, budget_bytes=100_000)

    async def endless():
        for _ in range(200):
            yield b"x" * 1000

    assert (await door.post(endless()))[0] == 413
    assert door.intake.budget.held_bytes == 0


async def test_without_budget_everybody_is_asked_to_come_again(doors):
    text = body(alert())
    door = await doors(max_body_bytes=len(text), budget_bytes=len(text) + 10)
    reader, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: {len(text)}", text[:50])
    await door.until(len(text))
    async with door.client.post(URL, data=text, headers=JSON) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
    # The one who holds it is not disturbed, and what it held is free again.
    writer.write(text[50:])
    assert await status_line(reader) == b"HTTP/1.1 200 OK"
    writer.close()
    assert (await door.post(text))[0] == 200
    assert door.meter.reasons == {"busy": 1}


async def test_the_budget_is_held_until_the_answer(doors):
    text = body(alert())
    door = await doors(max_body_bytes=len(text), budget_bytes=len(text) + 10)
    door.inbox.open.clear()
    first = asyncio.Task(door.post(text))
    await door.until(len(text))
    assert (await door.post(text))[0] == 503
    door.inbox.open.set()
    assert (await first)[0] == 200


async def test_a_chunked_body_holds_what_it_takes(doors):
    door = await doors(max_body_bytes=200_000, budget_bytes=200_000)
    reader, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: 150000", b"x")
    await door.until(150_000)

    async def pieces():
        for _ in range(100):
            yield b" " * 1000

    assert (await door.post(pieces()))[0] == 503
    assert door.intake.budget.held_bytes == 150_000
    writer.close()
    await door.until(0)
    assert (await door.post(pieces()))[0] == 400
    assert await reader.read() == b""


async def test_a_budget_below_the_largest_body_is_raised_to_it(doors):
    door = await doors(max_body_bytes=100_000, budget_bytes=1)
    assert (await door.post(body(*[alert()] * 100)))[0] == 200


async def test_a_slow_body_is_asked_to_come_again(doors):
    door = await doors(body_timeout_s=0.05)
    for head in ("Content-Length: 500", "Transfer-Encoding: chunked"):
        reader, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\n{head}")
        assert await status_line(reader) == b"HTTP/1.1 503 Service Unavailable"
        writer.close()
    assert door.meter.reasons == {"slow": 2}
    await door.until(0)


async def test_a_sender_that_goes_away_leaves_nothing_behind(doors):
    door = await doors()
    for head in ("Content-Length: 500", "Transfer-Encoding: chunked"):
        _, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\n{head}", b"1\r\nx")
        while not door.connections:
            await asyncio.sleep(0)
        writer.close()
        while door.connections:
            await asyncio.sleep(0)
    await door.until(0)
    assert door.meter.reasons == {"broken": 2}
    assert (await door.post(body(alert())))[0] == 200
    assert len(door.inbox.rows) == 1


# ---- when it cannot be kept ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"), [(StoreFullError("/srv/x"), "disk_full"), (StorageError("/srv/x"), "storage")]
)
async def test_what_was_not_committed_is_asked_for_again(doors, error, reason):
    door = await doors()
    door.inbox.error = error
    async with door.client.post(URL, data=body(alert()), headers=JSON) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert str(error) not in await answer.text()
    assert door.meter.reasons == {reason: 1}
    door.inbox.error = None
    assert (await door.post(body(alert())))[0] == 200
    assert door.intake.budget.held_bytes == 0
