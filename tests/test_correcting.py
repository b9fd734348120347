"""What people say of incidents through the API: what is put into the inbox, and what is refused before that."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from stores import FRONT, firing, row
from test_api import World, problem_of, running
from timeline import START, alert, webhook

from bridge import pipeline
from bridge.model import RowKind
from bridge.storage.state import StateStore


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(World(tmp_path)) as it:
        yield it


class Mind:
    """The analyst: puts rows into the store that the API reads."""

    def __init__(self, it: World) -> None:
        self._it = it
        self.number = 0

    def hear(self, at_s: float, body: bytes, kind: RowKind = RowKind.WEBHOOK) -> None:
        self.number += 1
        one = row(self.number, START + timedelta(seconds=at_s), body, kind=kind)
        with closing(StateStore(self._it.path)) as store:
            store.commit(pipeline.advance(store.load(), [one]), front=FRONT, rows=[one])

    def catch_up(self, at_s: float) -> None:
        """Let in what the API put into the inbox."""
        for tenant, source, kind, body in self._it.rows:
            assert (tenant, source, kind) == ("default", "", RowKind.FEEDBACK)
            self.hear(at_s, body, kind)
        self._it.rows.clear()


@pytest.fixture
def mind(world: World) -> Mind:
    """Two incidents: one of two alerts, one of one."""
    it = Mind(world)
    two = [
        alert({"alertname": name, "instance": "db-1", "severity": "critical"}, starts=START)
        for name in ("Node", "Disk")
    ]
    it.hear(0, webhook(two))
    it.hear(1, firing("Cert", START, host="mail-9", cluster="mail"))
    return it


async def incident(world: World, episodes: int) -> dict[str, Any]:
    """Return the incident that has so many episodes."""
    items = (await world.json("/api/v1/incidents"))["items"]
    (one,) = [item["incident"] for item in items if item["episode_count"] == episodes]
    return dict(await world.json(f"/api/v1/incidents/{one}"))


def ref(episode: dict[str, Any]) -> dict[str, Any]:
    return {"fingerprint": episode["fingerprint"], "starts_at": episode["starts_at"]}


async def say(world: World, one: str, verb: str, body: Any = None, role: str = "responder") -> Any:
    more = {} if body is None else {"json": body}
    return await world.ask(f"/api/v1/incidents/{one}/{verb}", role, method="POST", **more)


async def test_what_is_said_is_on_the_disk_and_then_shown(world: World, mind: Mind) -> None:
    one = (await incident(world, 1))["incident"]
    answer = await say(world, one, "ack", {"author": "mia", "text": "on it"})
    assert answer.status == 202
    action = (await answer.json())["id"]
    mind.catch_up(10)
    shown = await world.json(f"/api/v1/incidents/{one}")
    (told,) = shown["actions"]
    assert told == {
        "id": action, "at": "2026-01-05T03:00:10Z", "kind": "ack", "text": "on it", "author": "mia",
        "state": "applied", "reason": "", "undoes": None,
    }  # fmt: skip
    assert shown["acknowledged_at"] == "2026-01-05T03:00:10Z"
    assert shown["events"][-1]["kind"] == "acknowledged"
    assert shown["events"][-1]["note"] == "on it"


async def test_every_way_to_say_something_has_its_effect(world: World, mind: Mind) -> None:
    two, one = await incident(world, 2), await incident(world, 1)
    name = two["incident"]
    assert (await say(world, name, "note", {"text": "looked"})).status == 202
    assert (await say(world, name, "feedback", {"kind": "useful"})).status == 202
    named = {"kind": "root", "episodes": [ref(two["episodes"][1])], "author": "mia"}
    assert (await say(world, name, "feedback", named)).status == 202
    moved = {"episodes": [ref(two["episodes"][0])], "to": one["incident"]}
    assert (await say(world, name, "split", moved)).status == 202
    mind.catch_up(10)
    shown = await world.json(f"/api/v1/incidents/{name}")
    assert [each["kind"] for each in shown["actions"]] == ["note", "useful", "root", "move"]
    assert shown["verdict"] == "useful"
    assert shown["root"][0]["why"] == "named by mia"
    assert len((await incident(world, 2))["episodes"]) == 2
    assert (await say(world, name, "merge", {"into": one["incident"]})).status == 202
    mind.catch_up(20)
    assert len((await incident(world, 3))["episodes"]) == 3
    assert (await say(world, one["incident"], "split", {"episodes": [ref(one["episodes"][0])]})).status == 202
    assert (await say(world, one["incident"], "close")).status == 202
    mind.catch_up(30)
    assert (await world.json(f"/api/v1/incidents/{one['incident']}"))["state"] == "closed"


async def test_an_action_is_undone_once(world: World, mind: Mind) -> None:
    one = (await incident(world, 1))["incident"]
    action = (await (await say(world, one, "feedback", {"kind": "false_alarm"})).json())["id"]
    path = f"/api/v1/actions/{action}/undo"
    early = await world.ask(path, "responder", method="POST")
    assert (early.status, "once it is understood" in (await problem_of(early))["detail"]) == (404, True)
    mind.catch_up(10)
    answer = await world.ask(path, "responder", method="POST")
    assert answer.status == 202
    undo = (await answer.json())["id"]
    mind.catch_up(20)
    shown = await world.json(f"/api/v1/incidents/{one}")
    assert [(each["kind"], each["state"], each["undoes"]) for each in shown["actions"]] == [
        ("false_alarm", "undone", None), ("undo", "applied", action),
    ]  # fmt: skip
    assert shown["verdict"] is None
    for again in (action, undo):
        assert (await world.ask(f"/api/v1/actions/{again}/undo", "responder", method="POST")).status == 409


async def test_what_turns_out_wrong_later_is_shown_with_its_reason(world: World, mind: Mind) -> None:
    one = (await incident(world, 1))["incident"]
    for _ in range(2):
        assert (await say(world, one, "close")).status == 202
    mind.catch_up(10)
    first, second = (await world.json(f"/api/v1/incidents/{one}"))["actions"]
    assert (first["state"], second["state"], second["reason"]) == (
        "applied",
        "refused",
        f"{one} is closed already",
    )


async def test_what_is_seen_to_be_wrong_is_refused_and_not_written(world: World, mind: Mind) -> None:
    two, one = await incident(world, 2), await incident(world, 1)
    name, other = two["incident"], one["incident"]
    wrong: list[tuple[int, str, str, Any]] = [
        (404, "inc-0", "ack", None),
        (400, name, "note", {}),
        (400, name, "note", {"text": "  "}),
        (400, name, "note", {"text": "x" * 4001}),
        (400, name, "ack", {"txt": "mistyped"}),
        (400, name, "ack", []),
        (400, name, "merge", {}),
        (404, name, "merge", {"into": "inc-0"}),
        (409, name, "merge", {"into": name}),
        (400, name, "split", {"episodes": []}),
        (400, name, "split", {"episodes": [{"fingerprint": "f", "starts_at": "2026-01-05T03:00:00"}]}),
        (404, name, "split", {"episodes": [{"fingerprint": "f", "starts_at": "2026-01-05T03:00:00Z"}]}),
        (409, name, "split", {"episodes": [ref(each) for each in two["episodes"]]}),
        (400, name, "feedback", {"kind": "root"}),
        (400, name, "feedback", {"kind": "nonsense"}),
    ]
    for status, where, verb, body in wrong:
        answer = await say(world, where, verb, body)
        assert answer.status == status, (verb, body, await answer.text())
        assert (await problem_of(answer))["detail"]
    assert world.rows == []
    await say(world, other, "close")
    mind.catch_up(10)
    assert (await say(world, other, "ack")).status == 409
    assert (await say(world, name, "merge", {"into": other})).status == 409
    assert (await say(world, other, "merge", {"into": name})).status == 202
    mind.catch_up(20)
    gone = await problem_of(await say(world, other, "note", {"text": "x"}))
    assert (gone["status"], gone["detail"]) == (409, f"{other} was merged into {name}: say it of that")
    assert (await say(world, name, "merge", {"into": other})).status == 409


@pytest.mark.parametrize("raw", [b"{", b"\xff", b'{"text": "\\ud800"}', b"[" * 100_000, b"7"])
async def test_a_body_that_is_no_json_object_is_refused(world: World, mind: Mind, raw: bytes) -> None:
    one = (await incident(world, 1))["incident"]
    answer = await world.ask(f"/api/v1/incidents/{one}/ack", "responder", method="POST", data=raw)
    assert answer.status == 400
    await problem_of(answer)
    assert (mind.number, world.rows) == (2, [])


async def test_a_body_that_is_too_large_is_refused(world: World, mind: Mind) -> None:
    one = (await incident(world, 1))["incident"]
    raw = io.BytesIO(b'{"text": "' + b"x" * (1 << 20) + b'"}')
    answer = await world.ask(f"/api/v1/incidents/{one}/ack", "responder", method="POST", data=raw)
    assert answer.status == 413
    await problem_of(answer)
    assert (mind.number, world.rows) == (2, [])


async def test_only_responders_of_the_tenant_may(world: World, mind: Mind) -> None:
    one = (await incident(world, 1))["incident"]
    assert (await say(world, one, "ack", role="viewer")).status == 403
    assert (await say(world, one, "ack", role="token-of-another")).status == 404
    undo = await world.ask("/api/v1/actions/act-1/undo", "viewer", method="POST")
    assert undo.status == 403
    assert json.dumps(world.rows) == "[]"
    assert mind.number == 2
