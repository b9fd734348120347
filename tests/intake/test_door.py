from __future__ import annotations

import asyncio
import base64
import gzip
import json

import pytest
from aiohttp import web
from bodies import GOOD_WITH_FAULTS, HOPELESS, alert, body
from doors import JSON, URL, status_line

from bridge.auth import Grant, Keyring
from bridge.errors import StorageError, StoreFullError
from bridge.intake import peer_of
from bridge.model import RowKind
from bridge.storage.inbox import InboxReader, InboxWriter

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


async def test_of_a_large_hopeless_body_the_beginning_is_set_aside(doors):
    door = await doors(rejected_bytes=1000)
    status, answer = await door.post(b"x" * 5000)
    assert status == 400
    kept = json.loads(door.inbox.rows[0][3])
    assert kept["reason"] == f"{answer['error']} (the first 1000 of 5000 bytes)"
    assert base64.b64decode(kept["body_base64"]) == b"x" * 1000


async def test_only_so_many_bytes_are_set_aside_in_a_minute(doors):
    door = await doors(rejected_bytes_per_min=2000)
    for _ in range(5):
        assert (await door.post(b"x" * 1000))[0] == 400
    assert len(door.inbox.rows) == 2
    assert door.meter.reasons == {"payload": 5}


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


async def test_one_tenants_hopeless_bodies_take_no_room_from_anothers(doors):
    door = await doors(tokens=TOKENS, rejected_bytes_per_min=2000)
    for token, _ in (TOKENS[0], TOKENS[0], TOKENS[0], TOKENS[1]):
        assert (await door.post(b"x" * 1000, headers=JSON | {"Authorization": f"Bearer {token}"}))[0] == 400
    assert [tenant for tenant, *_ in door.inbox.rows] == ["acme", "acme", "other"]


@pytest.mark.parametrize(
    ("role", "status"), [("sender", 200), ("viewer", 403), ("responder", 200), ("admin", 200)]
)
async def test_who_may_only_look_may_not_send(doors, role, status):
    door = await doors(tokens=[("some-token-0123456789", Grant(tenant="acme", role=role))])
    headers = JSON | {"Authorization": "Bearer some-token-0123456789"}
    assert (await door.post(body(alert()), headers=headers))[0] == status
    assert len(door.inbox.rows) == (status == 200)
    assert door.meter.reasons == ({} if status == 200 else {"role": 1})


@pytest.mark.parametrize(
    ("site", "status"),
    [("cross-site", 403), ("same-site", 403), ("", 403), ("same-origin", 200), ("none", 200)],
)
async def test_the_page_of_another_site_may_not_send(doors, site, status):
    door = await doors()
    assert (await door.post(body(alert()), headers=JSON | {"Sec-Fetch-Site": site}))[0] == status
    assert len(door.inbox.rows) == (status == 200)


async def test_who_is_gone_before_its_turn_is_not_taken_for_a_wrong_credential(doors):
    """uvloop, which the front runs on, keeps the transport for a while, without its peer."""
    come = asyncio.Event()

    @web.middleware
    async def late(request, handler):
        come.set()
        while peer_of(request) is not None:
            await asyncio.sleep(0)
        return await handler(request)

    door = await doors(middlewares=[late])
    _, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: 500", b"x")
    await come.wait()
    writer.transport.abort()
    while not door.meter.reasons:
        await asyncio.sleep(0)
    assert door.meter.reasons == {"broken": 1}


async def test_new_tokens_count_from_the_next_request_on(doors):
    door = await doors(tokens=TOKENS)
    headers = JSON | {"Authorization": "Bearer acme-token-0123456789"}
    assert (await door.post(body(alert()), headers=headers))[0] == 200
    door.intake.gate.keyring = Keyring([("a-new-token-0123456789", TOKENS[0][1])])
    assert (await door.post(body(alert()), headers=headers))[0] == 401


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


# ---- Grafana -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(("path", "source"), [("/v1/grafana", "default"), ("/v1/grafana/prod", "prod")])
async def test_what_grafana_sends_is_taken_in_as_it_is(doors, method, path, source):
    door = await doors()
    text = body(alert(values={"A": 1.5}, valueString="x"), orgId=1, state="alerting", version="1")
    async with door.client.request(method, path, data=text, headers=JSON) as answer:
        assert (answer.status, await answer.json()) == (200, {"received": 1})
    assert door.inbox.rows == [("default", source, RowKind.GRAFANA, text)]
    assert (door.meter.webhooks, door.meter.alerts) == (1, 1)


@pytest.mark.parametrize("name", HOPELESS)
async def test_what_can_never_be_grafanas_is_refused_and_set_aside(doors, name):
    door = await doors()
    text, says = HOPELESS[name]
    status, answer = await door.post(text, "/v1/grafana")
    assert status == 400
    assert says in answer["error"]
    assert [row[2] for row in door.inbox.rows] == [RowKind.REJECTED]


# ---- the event recorder ----------------------------------------------------------------------------------

RECORDER = "/v1/recorder"
EVENT = {"@timestamp": "2026-11-23T19:26:18Z", "instance": "am-0", "data": {"alertCreated": {}}}


@pytest.mark.parametrize(("path", "source"), [(RECORDER, "default"), (f"{RECORDER}/prod", "prod")])
@pytest.mark.parametrize("sent", [EVENT, [EVENT, EVENT], [], [7]])
async def test_what_the_recorder_sends_is_taken_in_as_it_is(doors, path, source, sent):
    door = await doors()
    text = json.dumps(sent).encode()
    number = len(sent) if isinstance(sent, list) else 1
    assert await door.post(text, path) == (200, {"received": number})
    assert door.inbox.rows == [("default", source, RowKind.RECORDED, text)]
    assert door.meter.webhooks == 0  # it is none


@pytest.mark.parametrize(
    "sent", [body(alert()), b"{}", b"7", b"", b'{"data": {"a": "\xff"}}', b"[" * 200_000]
)
async def test_what_no_recorder_sends_is_refused_and_set_aside(doors, sent):
    door = await doors()
    status, answer = await door.post(sent, RECORDER)
    assert (status, door.meter.reasons) == (400, {"payload": 1})
    assert answer["error"]
    assert [row[2] for row in door.inbox.rows] == [RowKind.REJECTED]


async def test_the_recorder_comes_through_the_same_door(doors):
    door = await doors(
        tokens=[("secret-token-0123", Grant(tenant="acme", role="viewer"))], max_body_bytes=1000
    )
    text = json.dumps(EVENT).encode()
    assert (await door.post(text, RECORDER))[0] == 401
    viewer = JSON | {"Authorization": "Bearer secret-token-0123"}
    assert (await door.post(text, RECORDER, viewer))[0] == 403
    door.intake.gate.keyring = Keyring([("secret-token-0123", Grant(tenant="acme", role="sender"))])
    assert (await door.post(text + b" " * 1000, RECORDER, viewer))[0] == 413
    door.inbox.error = StoreFullError("full")
    assert (await door.post(text, RECORDER, viewer))[0] == 503
    door.inbox.error = None
    assert (await door.post(text, RECORDER, viewer))[0] == 200
    assert door.inbox.rows[0][0] == "acme"


async def test_a_large_batch_of_the_recorder_is_checked_beside_the_loop(doors):
    door = await doors()
    text = json.dumps([EVENT] * 20_000).encode()
    assert len(text) > 1 << 20
    assert await door.post(text, RECORDER) == (200, {"received": 20_000})
