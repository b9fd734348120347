"""Who changed what: written before it is done, appended only, each tenant's its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sidecars import NO_MODELS, Sidecar, until, webhook

from bridge.app import minting
from bridge.app.auditing import AuditLog
from bridge.errors import StorageError

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now.timestamp()


def log(folder: Path, clock: Clock | None = None, keep_s: float = 86_400.0) -> AuditLog:
    return AuditLog(folder, wall=clock or Clock(), keep_s=lambda: keep_s)


def entry(target: str = "inc-1", tenant: str = "acme") -> dict[str, Any]:
    return {"tenant": tenant, "actor": "tokens[0]", "role": "responder", "action": "ack", "target": target}


async def test_an_entry_says_what_came_of_it_and_null_where_that_is_not_known(tmp_path: Path):
    audit = log(tmp_path)
    first = await audit.begin(entry("inc-1"))
    second = await audit.begin(entry("inc-2"))
    await audit.end(first, tenant="acme", done=True, after={"action": "act-1"})
    page = audit.page("acme", limit=10, cursor=None)
    assert page.next is None
    assert [(each["id"], each["target"], each["done"], each["after"]) for each in page.items] == [
        (second, "inc-2", None, None),
        (first, "inc-1", True, {"action": "act-1"}),
    ]
    assert page.items[0]["at"] == "2026-01-05T12:00:00Z"


async def test_a_tenant_sees_its_own_entries_and_no_end_of_anothers(tmp_path: Path):
    audit = log(tmp_path)
    ours, theirs = await audit.begin(entry()), await audit.begin(entry(tenant="other"))
    await audit.end(theirs, tenant="other", done=True, after="secret of the other")
    assert [each["id"] for each in audit.page("acme", limit=10, cursor=None).items] == [ours]
    assert audit.page("nobody", limit=10, cursor=None).items == ()
    with pytest.raises(ValueError, match="cursor"):
        audit.page("acme", limit=10, cursor=theirs)


async def test_pages_hold_every_entry_once_across_months(tmp_path: Path):
    clock = Clock()
    audit, written = log(tmp_path, clock, keep_s=10_000 * 86_400), []
    for number in range(25):
        clock.now = NOON + timedelta(days=5 * number)
        written.append(await audit.begin(entry(f"inc-{number}")))
        await audit.end(written[-1], tenant="acme", done=True, after=number)
    assert len(list(tmp_path.glob("audit-*.jsonl"))) == 5
    found, cursor = [], None
    for _ in range(9):
        page = audit.page("acme", limit=3, cursor=cursor)
        found += page.items
        cursor = page.next
        if cursor is None:
            break
    assert [each["id"] for each in found] == written[::-1]
    assert [each["after"] for each in found] == list(range(25))[::-1]
    with pytest.raises(ValueError, match="cursor"):
        audit.page("acme", limit=3, cursor="x")


async def test_a_month_goes_once_all_of_it_is_too_old_and_nothing_else_is_touched(tmp_path: Path):
    clock = Clock()
    audit = log(tmp_path, clock, keep_s=40 * 86_400)
    await audit.begin(entry())
    (tmp_path / "audit-not-a-month.jsonl").write_text("x")
    for day in (30, 60):
        clock.now = NOON + timedelta(days=day)
        await audit.begin(entry())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "audit-2026-01.jsonl", "audit-2026-02.jsonl", "audit-2026-03.jsonl", "audit-not-a-month.jsonl",
    ]  # fmt: skip
    clock.now = NOON + timedelta(days=90)
    await audit.begin(entry())
    assert not (tmp_path / "audit-2026-01.jsonl").exists()
    assert (tmp_path / "audit-2026-02.jsonl").exists()


async def test_half_a_line_of_a_killed_process_costs_nothing_else(tmp_path: Path):
    audit = log(tmp_path)
    first = await audit.begin(entry())
    path = tmp_path / "audit-2026-01.jsonl"
    path.write_bytes(path.read_bytes() + b'{"at":"2026-01-05T12:00:00Z","id":"aud-')
    second = await audit.begin(entry())
    assert [each["id"] for each in audit.page("acme", limit=10, cursor=None).items] == [second, first]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_where_nothing_can_be_written_that_is_said(tmp_path: Path):
    with pytest.raises(StorageError, match="cannot be written"):
        await log(tmp_path / "nowhere").begin(entry())


def test_minted_and_revoked_tokens_are_in_it(tmp_path: Path):
    now = minting.now()
    _, token = minting.mint(tmp_path, tenant="acme", role="admin", now=now, until=now + timedelta(days=1))
    minting.revoke(tmp_path, token.id, now=now)
    items = log(tmp_path).page("acme", limit=10, cursor=None).items
    assert [(each["action"], each["target"], each["done"]) for each in items] == [
        ("token_revoked", token.id, True),
        ("token_minted", token.id, True),
    ]
    assert items[1]["after"]["role"] == "admin"


async def test_an_old_month_goes_by_the_clock_although_nobody_changes_anything(tmp_path: Path) -> None:
    clock = Clock()
    audit = log(tmp_path, clock, keep_s=40 * 86_400)
    await audit.begin(entry())
    clock.now = NOON + timedelta(days=200)
    await audit.prune()
    assert list(tmp_path.glob("audit-*.jsonl")) == []


TENANTS = """
tenants:
  - name: acme
    tokens: [{token: acme-admin-0123456789, role: admin}, {token: acme-responder-0123456, role: responder}]
  - name: other
    tokens: [{token: other-admin-0123456789, role: admin}]
"""


def test_what_was_done_in_a_sidecar_that_is_killed_stands_there(make: Callable[..., Sidecar]):
    sidecar = make(configuration=NO_MODELS + TENANTS)
    sidecar.start()
    admin = {"Authorization": "Bearer acme-admin-0123456789"}
    responder = {"Authorization": "Bearer acme-responder-0123456"}
    other = {"Authorization": "Bearer other-admin-0123456789"}

    def audit(headers: dict[str, str]) -> list[dict[str, Any]]:
        status, answer = sidecar.ask("GET", "/api/v1/audit", headers=headers)
        assert status == 200, answer
        return list(json.loads(answer)["items"])

    assert sidecar.ask("POST", "/v1/alertmanager", webhook("Here"), admin)[0] == 200
    [incident] = until(
        lambda: json.loads(sidecar.ask("GET", "/api/v1/incidents", headers=admin)[1])["items"], "the incident"
    )
    path = f"/api/v1/incidents/{incident['incident']}"
    status, answer = sidecar.ask("POST", f"{path}/ack", b'{"author": "Ada"}', responder)
    assert status == 202
    assert sidecar.ask("POST", "/api/v1/deliveries/7/retry", b"", responder)[0] == 404
    assert sidecar.ask("POST", "/-/reload", b"", admin)[0] == 200
    assert sidecar.ask("GET", "/api/v1/audit", headers=responder)[0] == 403
    os.kill(sidecar.pid, signal.SIGKILL)
    assert sidecar.process is not None
    sidecar.process.wait()
    sidecar.start()
    reload, retry, ack = audit(admin)
    assert (reload["action"], reload["actor"], reload["role"], reload["done"]) == (
        "reload",
        "tokens[0]",
        "admin",
        True,
    )
    assert (retry["action"], retry["target"], retry["done"]) == ("delivery_retry", "7", False)
    assert (ack["action"], ack["target"], ack["actor"]) == ("ack", incident["incident"], "tokens[1]")
    assert (ack["before"], ack["after"]) == (
        {"state": "open", "merged_into": None}, {"action": json.loads(answer)["id"]},
    )  # fmt: skip
    assert ack["asked"]["author"] == "Ada"
    assert ack["peer"] == "127.0.0.1"
    assert audit(other) == []
    assert not any("0123456" in path.read_text() for path in sidecar.data.glob("audit-*.jsonl"))
