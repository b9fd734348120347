"""Tocsin's own troubles become webhooks like any others, once each, and are resolved even by the next front."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.app import troubles as troubles_module
from bridge.app.troubles import TROUBLES, Troubles
from bridge.errors import StoreFullError
from bridge.model import Alert, RowKind
from bridge.telemetry import Telemetry
from bridge.webhooks.alertmanager import parse


class Inbox:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.tenants: list[str] = []
        self.is_full = False

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        if self.is_full:
            raise StoreFullError("no room")
        assert (source, kind) == ("tocsin", RowKind.WEBHOOK)
        self.tenants.append(tenant)
        self.bodies.append(body)
        return len(self.bodies)

    def alerts(self) -> list[Alert]:
        parsed = [parse(body, tenant="first", source="tocsin") for body in self.bodies]
        assert not [fault for notification in parsed for fault in notification.faults]
        return [alert for notification in parsed for alert in notification.alerts]


def made(inbox: Inbox, folder: Path, **options: Any) -> Troubles:
    return Troubles(
        put=inbox.put, tenant="first", file=folder / "troubles.json", clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        telemetry=Telemetry(), **options,
    )  # fmt: skip


async def test_a_trouble_is_raised_once_and_resolved_as_the_same_alert(tmp_path: Path):
    inbox = Inbox()
    troubles = made(inbox, tmp_path)
    for _ in range(3):
        troubles.is_wrong("TocsinDestinationBlocked", "401 from the collector", destination="siem")
        await troubles.tell_all()
    troubles.is_well("TocsinDestinationBlocked", destination="siem")
    troubles.is_well("TocsinDestinationBlocked", destination="siem")
    await troubles.tell_all()
    fires, ends = inbox.alerts()
    assert fires.labels["alertname"] == "TocsinDestinationBlocked"
    assert fires.labels["destination"] == "siem"
    assert fires.labels["severity"] == "critical"
    assert fires.annotations["description"] == "401 from the collector"
    assert (fires.firing, ends.firing) == (True, False)
    assert fires.fingerprint == ends.fingerprint
    assert ends.ends_at is not None


@pytest.mark.parametrize(
    ("name", "reason", "labels", "summary"),
    [
        (
            "TocsinDestinationBlocked",
            "HTTP 403 (no such token)",
            {"destination": "siem"},
            "Destination siem refuses Tocsin: HTTP 403 (no such token). Everything is kept and goes out later.",
        ),
        (
            "TocsinDestinationUnreachable",
            "{braces} and a full stop.",
            {"destination": "chat"},
            "Destination chat takes nothing: {braces} and a full stop. Everything is kept for it.",
        ),
        (
            "TocsinDiskFilling",
            "3 MiB are free",
            {},
            "The disk of the stores is nearly full: 3 MiB are free. When it is full webhooks get 503.",
        ),
    ],
)
async def test_the_summary_says_what_is_wrong_with_whom(
    tmp_path: Path, name: str, reason: str, labels: dict[str, str], summary: str
):
    inbox = Inbox()
    troubles = made(inbox, tmp_path)
    troubles.is_wrong(name, reason, **labels)
    await troubles.tell_all()
    [alert] = inbox.alerts()
    assert alert.annotations["summary"] == summary


async def test_what_lasts_is_told_again_while_something_else_comes_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Otherwise it would expire although it lasts: an alert that is not told again is taken as over."""
    monkeypatch.setattr(troubles_module, "RESEND_S", 0.2)
    inbox = Inbox()
    troubles = made(inbox, tmp_path)
    running = asyncio.create_task(troubles.run())
    troubles.is_wrong("TocsinDestinationBlocked", "401", destination="siem")
    told: list[Alert] = []
    for _ in range(500):  # on a busy machine it takes longer
        troubles.is_wrong("TocsinDeadLetters", "1 event", destination="chat")
        await asyncio.sleep(0.02)
        troubles.is_well("TocsinDeadLetters", destination="chat")
        await asyncio.sleep(0.02)
        told = [alert for alert in inbox.alerts() if alert.labels["destination"] == "siem"]
        if len(told) >= 3:
            break
    running.cancel()
    assert len(told) >= 3
    assert all(alert.firing for alert in told)


async def test_two_destinations_are_two_alerts(tmp_path: Path):
    inbox = Inbox()
    troubles = made(inbox, tmp_path)
    troubles.report("TocsinDestinationBlocked", "refused", destination="siem")
    troubles.report("TocsinDestinationBlocked", "refused", destination="chat")
    troubles.report("TocsinDestinationBlocked", None, destination="chat")
    await troubles.tell_all()
    assert [(alert.labels["destination"], alert.firing) for alert in inbox.alerts()] == [
        ("siem", True), ("chat", False),
    ]  # fmt: skip


async def test_what_the_inbox_does_not_take_waits_and_is_not_forgotten(tmp_path: Path):
    inbox = Inbox()
    inbox.is_full = True
    troubles = made(inbox, tmp_path)
    troubles.is_wrong("TocsinDiskFilling", "3 MiB are free")
    await troubles.tell_all()
    assert inbox.bodies == []
    inbox.is_full = False
    await troubles.tell_all()
    assert [alert.labels["alertname"] for alert in inbox.alerts()] == ["TocsinDiskFilling"]


async def test_the_next_front_resolves_what_this_one_left_firing(tmp_path: Path):
    before = made(Inbox(), tmp_path)
    before.is_wrong("TocsinAnalystDown", "died 3 times")
    await before.tell_all()
    inbox = Inbox()
    await made(inbox, tmp_path).tell_all()
    assert [(alert.labels["alertname"], alert.firing) for alert in inbox.alerts()] == [
        ("TocsinAnalystDown", False)
    ]
    silent = Inbox()
    await made(silent, tmp_path).tell_all()
    assert silent.bodies == []


async def test_a_front_that_is_killed_on_the_way_leaves_nothing_firing_for_ever(tmp_path: Path):
    """The file is written before the row, with what is told to end, too."""
    inbox = Inbox()
    before = made(inbox, tmp_path)
    before.is_wrong("TocsinAnalystDown", "died 3 times")
    before.is_wrong("TocsinDiskFilling", "3 MiB are free")
    await before.tell_all()
    before.is_well("TocsinAnalystDown")
    before.is_wrong("TocsinDeadLetters", "2 events", destination="siem")
    inbox.is_full = True  # it is killed before the row is there
    await before.tell_all()
    after = Inbox()
    await made(after, tmp_path).tell_all()
    assert {(alert.labels["alertname"], alert.firing) for alert in after.alerts()} == {
        ("TocsinAnalystDown", False), ("TocsinDiskFilling", False), ("TocsinDeadLetters", False),
    }  # fmt: skip
    assert not list(tmp_path.glob(".*"))


async def test_a_file_that_cannot_be_written_keeps_no_alert_back(tmp_path: Path):
    (tmp_path / "troubles.json").mkdir()
    inbox = Inbox()
    troubles = made(inbox, tmp_path)
    troubles.is_wrong("TocsinDiskFilling", "3 MiB are free")
    await troubles.tell_all()
    await troubles.tell_all()
    assert len(inbox.bodies) == 1


async def test_another_first_tenant_hears_of_what_is_wrong_and_the_old_one_of_its_end(tmp_path: Path):
    inbox = Inbox()
    troubles = made(inbox, tmp_path)
    troubles.is_wrong("TocsinDiskFilling", "3 MiB are free")
    await troubles.tell_all()
    troubles.move_to("renamed")
    troubles.move_to("renamed")
    await troubles.tell_all()
    troubles.is_well("TocsinDiskFilling")
    await troubles.tell_all()
    told = [alert.firing for alert in inbox.alerts()]
    assert list(zip(inbox.tenants, told, strict=True)) == [
        ("first", True), ("first", False), ("renamed", True), ("renamed", False),
    ]  # fmt: skip


#: What no release writes: an alert that there is not, and one that does not say which destination.
UNKNOWN, UNNAMED = (
    f'[[{{"alertname": "{name}"}}, "why", "2026-01-01T00:00:00Z", "first"]]'
    for name in ("TocsinElse", "TocsinDeadLetters")
)


@pytest.mark.parametrize("left", ["", "{", "[1]", '[["a"]]', '{"a": 1}', "null", UNKNOWN, UNNAMED])
async def test_a_spoilt_file_leaves_nothing(tmp_path: Path, left: str):
    (tmp_path / "troubles.json").write_text(left, "utf-8")
    inbox = Inbox()
    await made(inbox, tmp_path).tell_all()
    assert inbox.bodies == []


def test_a_reason_shows_no_secret(tmp_path: Path):
    inbox = Inbox()
    troubles = made(inbox, tmp_path)
    troubles.is_wrong("TocsinDestinationBlocked", "POST https://host/hook/SECRET: 404", destination="chat")
    assert "SECRET" not in json.dumps([firing.reason for firing in troubles._firing.values()])


def test_every_trouble_says_what_to_do():
    for name, (severity, meaning) in TROUBLES.items():
        assert name.startswith("Tocsin")
        assert severity in {"critical", "warning", "info"}
        assert meaning.endswith(".")
        assert "{reason}" in meaning
