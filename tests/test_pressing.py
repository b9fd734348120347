"""What people press in Slack and do in PagerDuty: who is believed, what comes of it, and that it acts once."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from builders import episode, event, view
from slack_sdk.signature import SignatureVerifier
from test_api import TOKENS, World, running
from test_correcting import Mind, incident
from timeline import START, alert, webhook

from bridge.api.pressing import BUTTONS, MENU
from bridge.auth import PAGERDUTY_SIGNATURE, SLACK_SIGNATURE, SLACK_TIMESTAMP
from bridge.intake.gate import UNSETTLED_BYTES
from connectors.kinds.slack.blocks import ACK, FALSE_ALARM, SPLIT, blocks

NOW_S = int(START.timestamp())
SLACK, PAGERDUTY = "slack-secret-of-default-1", "pagerduty-secret-of-default-1"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(World(tmp_path)) as it:
        yield it


@pytest.fixture
def mind(world: World) -> Mind:
    it = Mind(world)
    it.hear(
        0, webhook([alert({"alertname": "Node", "instance": "db-1", "severity": "critical"}, starts=START)])
    )
    return it


def digest(secret: str, signed: bytes) -> str:
    return hmac.new(secret.encode(), signed, "sha256").hexdigest()


def button(name: str, of: str, action: str = "tocsin_ack", press: str = "1", **changes: Any) -> bytes:
    payload = {
        "type": "block_actions", "trigger_id": press, "team": {"id": "T1"},
        "user": {"id": "U024BE7LH", "username": name, "name": name, "team_id": "T1"},
        "actions": [{"type": "button", "action_id": action, "block_id": "tocsin", "value": of}],
    }  # fmt: skip
    return urlencode({"payload": json.dumps(payload | changes)}).encode()


def as_slack(body: bytes, secret: str = SLACK, at_s: int = NOW_S) -> dict[str, str]:
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(at_s), body=body)
    return {
        SLACK_SIGNATURE: str(signature),
        SLACK_TIMESTAMP: str(at_s),
        "Content-Type": "application/x-www-form-urlencoded",
    }


def page(of: str, kind: str = "acknowledged", number: str = "E1", **agent: Any) -> bytes:
    who = {"id": "PLH1HKV", "type": "user_reference", "summary": "Tenex Engineer"} | agent
    return json.dumps({"event": {
        "id": number, "event_type": f"incident.{kind}", "resource_type": "incident", "agent": who,
        "occurred_at": "2026-01-05T03:00:05Z", "data": {"id": "PGR0VU2", "incident_key": of, "status": kind},
    }}).encode()  # fmt: skip


def as_pagerduty(body: bytes, *secrets: str) -> dict[str, str]:
    signatures = ",".join(f"v1={digest(each, body)}" for each in secrets or (PAGERDUTY,))
    return {PAGERDUTY_SIGNATURE: signatures, "Content-Type": "application/json"}


async def post(world: World, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    answer = await world.client.request("POST", path, data=body, headers=headers)
    return answer.status, json.loads(await answer.read())


async def open_incident(world: World) -> str:
    return str((await incident(world, 1))["incident"])


async def test_a_button_acknowledges_and_the_incident_and_the_log_say_who(world: World, mind: Mind) -> None:
    one = await open_incident(world)
    body = button("mia", one)
    status, told = await post(world, "/v1/slack", body, as_slack(body))
    assert status == 200
    mind.catch_up(10)
    shown = await world.json(f"/api/v1/incidents/{one}")
    assert shown["acknowledged_at"] == "2026-01-05T03:00:10Z"
    (action,) = shown["actions"]
    assert (action["id"], action["kind"], action["author"]) == (
        told["actions"][0],
        "ack",
        "mia (Slack U024BE7LH)",
    )
    (entry,) = (await world.json("/api/v1/audit", "admin"))["items"]
    assert (entry["actor"], entry["role"], entry["action"], entry["target"], entry["done"]) == (
        "mia (Slack U024BE7LH)", "responder", "ack", one, True,
    )  # fmt: skip


def test_the_buttons_of_our_messages_are_those_that_are_understood() -> None:
    assert {ACK, FALSE_ALARM} == set(BUTTONS)
    assert SPLIT == MENU


async def test_alerts_that_are_chosen_leave_for_an_incident_of_their_own(world: World, mind: Mind) -> None:
    mind.hear(
        5, webhook([alert({"alertname": "Disk", "instance": "db-2", "severity": "critical"}, starts=START)])
    )
    one = await incident(world, 2)
    told = event(
        incident=view(
            id=one["incident"],
            episodes=tuple(
                episode(fingerprint=each["fingerprint"], starts_at=datetime.fromisoformat(each["starts_at"]))
                for each in one["episodes"]
            ),
        )
    )
    (block,) = [
        each for each in blocks(told, 10, buttons=True) if each.get("block_id", "").startswith("split/")
    ]
    options = block["accessory"]["options"]

    def chosen(*numbers: int, press: str) -> bytes:
        action = {
            "type": "multi_static_select", "action_id": SPLIT, "block_id": block["block_id"],
            "selected_options": [options[number] for number in numbers],
        }  # fmt: skip
        return button("mia", "", press=press, actions=[action])

    for numbers, status in (((), 200), ((0, 1), 409), ((1,), 200), ((1,), 409)):
        body = chosen(*numbers, press=str(numbers))
        assert (await post(world, "/v1/slack", body, as_slack(body)))[0] == status, numbers
    mind.catch_up(10)
    assert [each["episode_count"] for each in (await world.json("/api/v1/incidents"))["items"]] == [1, 1]
    shown = await world.json(f"/api/v1/incidents/{one['incident']}")
    assert [(each["kind"], each["author"]) for each in shown["actions"]] == [
        ("split", "mia (Slack U024BE7LH)")
    ]
    bad = button(
        "mia",
        "",
        actions=[{"action_id": SPLIT, "block_id": block["block_id"], "selected_options": [{"value": "x/y"}]}],
    )
    assert (await post(world, "/v1/slack", bad, as_slack(bad)))[0] == 400


async def test_a_false_alarm_is_the_verdict(world: World, mind: Mind) -> None:
    one = await open_incident(world)
    body = button("mia", one, "tocsin_false_alarm")
    assert (await post(world, "/v1/slack", body, as_slack(body)))[0] == 200
    mind.catch_up(10)
    assert (await world.json(f"/api/v1/incidents/{one}"))["verdict"] == "false_alarm"


async def test_a_press_that_is_sent_again_is_refused_before_and_after_it_was_understood(
    world: World, mind: Mind
) -> None:
    one = await open_incident(world)
    body = button("mia", one)
    assert [(await post(world, "/v1/slack", body, as_slack(body)))[0] for _ in range(2)] == [200, 409]
    assert len(world.rows) == 1
    mind.catch_up(10)
    async with running(World(world.path.parent)) as restarted:
        assert (await post(restarted, "/v1/slack", body, as_slack(body, at_s=NOW_S + 60)))[0] == 409
        assert restarted.rows == []
        again = button("mia", one, press="2")  # somebody presses once more
        assert (await post(restarted, "/v1/slack", again, as_slack(again)))[0] == 200


@pytest.mark.parametrize(
    ("secret", "at_s", "change"),
    [
        ("slack-secret-of-nobody", NOW_S, {}),
        (PAGERDUTY, NOW_S, {}),
        (SLACK, NOW_S - 301, {}),
        (SLACK, NOW_S + 301, {}),
        (SLACK, NOW_S, {SLACK_TIMESTAMP: str(NOW_S - 1)}),
        (SLACK, NOW_S, {SLACK_TIMESTAMP: ""}),
        (SLACK, NOW_S, {SLACK_SIGNATURE: ""}),
        (SLACK, NOW_S, {SLACK_SIGNATURE: "v1=" + "0" * 64}),
        (SLACK, NOW_S, {SLACK_SIGNATURE: "v0=" + "0" * 64}),
    ],
)
async def test_what_slack_did_not_sign_just_now_is_not_believed(
    world: World, mind: Mind, secret: str, at_s: int, change: dict[str, str]
) -> None:
    body = button("mia", await open_incident(world))
    status, told = await post(world, "/v1/slack", body, as_slack(body, secret, at_s) | change)
    assert status == 401
    assert "signature" in told["detail"]
    assert (world.rows, mind.number) == ([], 1)


@pytest.mark.parametrize("role", ["responder", "admin"])
async def test_no_other_credential_says_what_somebody_did(world: World, mind: Mind, role: str) -> None:
    one = await open_incident(world)
    for path, body in (("/v1/slack", button("ceo", one)), ("/v1/pagerduty", page(f"{one}/e0"))):
        status, told = await post(world, path, body, {"Authorization": f"Bearer {TOKENS[role]}"})
        assert status == 401
        assert "signature" in told["detail"]
    assert (world.rows, mind.number) == ([], 1)
    assert (await world.json("/api/v1/audit", "admin"))["items"] == []


async def test_a_token_beside_a_signature_changes_nothing(world: World, mind: Mind) -> None:
    body = button("mia", await open_incident(world))
    for token, status in (("nobodys", 200), (TOKENS["viewer"], 409)):
        headers = as_slack(body) | {"Authorization": f"Bearer {token}"}
        assert (await post(world, "/v1/slack", body, headers))[0] == status
    assert mind.number == 1


async def test_a_body_of_more_than_64_kib_is_refused_and_one_of_64_kib_is_read(world: World) -> None:
    for size, status in ((65_536, 400), (65_537, 413), (1 << 20, 413)):
        body = b"x" * size
        assert (await post(world, "/v1/pagerduty", body, as_pagerduty(body)))[0] == status


async def test_a_body_that_is_announced_too_large_is_not_waited_for(world: World) -> None:
    reader, writer = await begun(world, 65_537, b"")
    assert await status_of(reader) == 413
    writer.close()


async def test_strangers_hold_only_so_much_and_what_they_gave_back_is_there_for_others(
    world: World, mind: Mind
) -> None:
    most = UNSETTLED_BYTES // 2 // 65_536  # of one peer
    held = [await begun(world, 65_536, b"x" * 65_535) for _ in range(most + 8)]
    answers = [asyncio.create_task(status_of(reader)) for reader, _ in held]
    async with asyncio.timeout(20):
        for _, each in zip(range(8), asyncio.as_completed(answers), strict=False):
            assert await each == 503
    body = button("mia", await open_incident(world))
    status, told = await post(world, "/v1/slack", body, as_slack(body))
    assert (status, "try again" in told["detail"]) == (503, True)
    for answer, (_, writer) in zip(answers, held, strict=True):
        if not answer.done():
            writer.write(b"x")
    async with asyncio.timeout(20):
        assert sorted(await asyncio.gather(*answers)) == [401] * most + [503] * 8
    assert (await post(world, "/v1/slack", body, as_slack(body)))[0] == 200
    assert mind.number == 1
    for _, writer in held:
        writer.close()


async def begun(
    world: World, announced: int, sent: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin to send what nobody signed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.client.port)
    head = (
        f"POST /v1/pagerduty HTTP/1.1\r\nHost: x\r\n{PAGERDUTY_SIGNATURE}: v1={'0' * 64}\r\n"
        f"Content-Length: {announced}\r\n\r\n"
    )
    writer.write(head.encode() + sent)
    return reader, writer


async def status_of(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(20):
        return int((await reader.readline()).split()[1])


async def test_a_body_that_was_changed_is_not_believed(world: World, mind: Mind) -> None:
    one = await open_incident(world)
    headers = as_slack(button("mia", one))
    assert (await post(world, "/v1/slack", button("eve", one), headers))[0] == 401
    headers = as_pagerduty(page(f"{one}/e0"))
    assert (await post(world, "/v1/pagerduty", page(f"{one}/e1"), headers))[0] == 401
    assert (world.rows, mind.number) == ([], 1)


@pytest.mark.parametrize("path", ["/v1/slack", "/v1/pagerduty"])
async def test_another_tenant_s_secret_reaches_nothing_here(world: World, mind: Mind, path: str) -> None:
    one = await open_incident(world)
    if path == "/v1/slack":
        body = button("eve", one)
        status, _ = await post(world, path, body, as_slack(body, "slack-secret-of-other-1"))
        assert status == 404
    else:
        body = page(f"{one}/e0")
        status, told = await post(world, path, body, as_pagerduty(body, "pagerduty-secret-of-other-1"))
        assert (status, told) == (200, {"actions": []})
    assert (world.rows, mind.number) == ([], 1)


async def test_a_secret_of_slack_or_pagerduty_opens_no_other_door(world: World, mind: Mind) -> None:
    one = await open_incident(world)
    body = b'{"text": "x"}'
    for headers in (as_slack(body), as_pagerduty(body)):
        assert (await post(world, f"/api/v1/incidents/{one}/note", body, headers))[0] == 401
    assert (world.rows, mind.number) == ([], 1)


@pytest.mark.parametrize("number", [1, 2])
async def test_two_secrets_are_good_while_one_is_rotated(world: World, mind: Mind, number: int) -> None:
    one = await open_incident(world)
    body = button("mia", one)
    assert (await post(world, "/v1/slack", body, as_slack(body, f"slack-secret-of-default-{number}")))[
        0
    ] == 200
    body = page(f"{one}/e0", number="E9")
    headers = as_pagerduty(body, "pagerduty-secret-of-nobody", f"pagerduty-secret-of-default-{number}")
    status, told = await post(world, "/v1/pagerduty", body, headers)
    assert (status, len(told["actions"])) == (200, 1)
    assert mind.number == 1


async def test_a_page_that_somebody_takes_is_acknowledged_here_once(world: World, mind: Mind) -> None:
    one = await open_incident(world)
    body = page(f"{one}/e2")
    first = await post(world, "/v1/pagerduty", body, as_pagerduty(body))
    again = await post(world, "/v1/pagerduty", body, as_pagerduty(body))
    mind.catch_up(10)
    later = await post(world, "/v1/pagerduty", body, as_pagerduty(body))
    assert (first[0], again, later) == (200, (200, {"actions": []}), (200, {"actions": []}))
    (action,) = (await world.json(f"/api/v1/incidents/{one}"))["actions"]
    assert (action["kind"], action["author"], action["state"]) == (
        "ack",
        "Tenex Engineer (PagerDuty PLH1HKV)",
        "applied",
    )


async def test_a_page_that_somebody_resolves_is_noted_and_closes_nothing(world: World, mind: Mind) -> None:
    one = await open_incident(world)
    body = page(f"{one}/e0", "resolved")
    assert (await post(world, "/v1/pagerduty", body, as_pagerduty(body)))[0] == 200
    mind.catch_up(10)
    shown = await world.json(f"/api/v1/incidents/{one}")
    assert shown["state"] == "open"
    assert [(each["kind"], each["text"]) for each in shown["actions"]] == [("note", "resolved in PagerDuty")]


async def test_what_is_no_business_of_ours_is_taken_and_passed_over(world: World, mind: Mind) -> None:
    one = await open_incident(world)
    pages = [
        page(f"{one}/e0", "triggered"),
        page(f"{one}/e0", type="service_reference"),  # our own acknowledgement comes back
        page("d3640fbd41094207a1c11e58e46b1662"),
        page("inc-0000000000000000/e0"),
        b'{"event": {"id": "E2", "event_type": "pagey.ping", "data": {"message": "Hello"}}}',
    ]
    for body in pages:
        assert await post(world, "/v1/pagerduty", body, as_pagerduty(body)) == (200, {"actions": []})
    for body in (button("mia", one, "open_runbook"), button("mia", one, type="view_submission")):
        assert await post(world, "/v1/slack", body, as_slack(body)) == (200, {"actions": []})
    assert (world.rows, mind.number) == ([], 1)


@pytest.mark.parametrize(
    "body", [b"", b"payload", b"payload=[]", b"payload=%7B&payload=%7B", b"payload=%FF", b"a=b"]
)
async def test_what_is_no_button_is_refused(world: World, body: bytes) -> None:
    assert (await post(world, "/v1/slack", body, as_slack(body)))[0] == 400
    assert (await post(world, "/v1/pagerduty", body, as_pagerduty(body)))[0] == 400
    assert world.rows == []


async def test_an_incident_that_is_gone_or_closed_is_said_to_whoever_presses(
    world: World, mind: Mind
) -> None:
    body = button("mia", "inc-0000000000000000")
    assert (await post(world, "/v1/slack", body, as_slack(body)))[0] == 404
    one = await open_incident(world)
    await world.ask(f"/api/v1/incidents/{one}/close", "responder", method="POST", json={})
    mind.catch_up(10)
    body = button("mia", one)
    assert (await post(world, "/v1/slack", body, as_slack(body)))[0] == 409


async def test_a_name_from_slack_is_one_short_printable_line(world: World, mind: Mind) -> None:
    body = button("eve\r\n\x1b[31m" + "x" * 500, await open_incident(world))
    assert (await post(world, "/v1/slack", body, as_slack(body)))[0] == 200
    (entry,) = (await world.json("/api/v1/audit", "admin"))["items"]
    assert entry["actor"].isprintable()
    assert len(entry["actor"]) == 200
    assert mind.number == 1
