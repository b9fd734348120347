"""How much of each tenant is let in, and who hears that a quota is exceeded."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

import connectors
from bridge import config
from bridge.app.quotas import MINUTE_S, QuotaKeeper
from bridge.app.screen import status_page
from bridge.app.troubles import Troubles
from bridge.config import DoorQuotas, Settings
from bridge.model import RowKind
from bridge.telemetry import Telemetry

TEXT = """
tenants:
  - name: loud
    tokens: [{token: 0123456789abcdef-of-loud}]
    quotas: {bytes_per_s: 1KiB, storage: 1MiB, in_flight: 2MiB, alerts_per_s: 2, fingerprints: 7}
  - {name: quiet, tokens: [{token: 0123456789abcdef-of-quiet}]}
"""


class Desk:
    """One front's quotas, and a clock that the test turns."""

    def __init__(self, folder: Path) -> None:
        (folder / "tocsin.yaml").write_text(TEXT)
        self.settings: Settings = config.load(folder / "tocsin.yaml", {"file": connectors.load("file")}, {})
        self.now_s = 0.0
        self.stored: dict[str, int] = {}
        self.rows: list[tuple[str, bytes]] = []
        self.telemetry = Telemetry()
        self.troubles = Troubles(
            put=self.put, tenant="quiet", file=folder / "troubles.json",
            clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), telemetry=self.telemetry,
        )  # fmt: skip
        self.keeper = QuotaKeeper(
            settings=lambda: self.settings, stored=lambda: self.stored, troubles=self.troubles,
            telemetry=self.telemetry, clock=lambda: self.now_s,
        )  # fmt: skip

    async def put(self, tenant: str, _source: str, _kind: RowKind, body: bytes) -> int:
        self.rows.append((tenant, body))
        return len(self.rows)

    def firing(self) -> list[tuple[str, str]]:
        return [(each.tenant, each.labels["quota"]) for each in self.troubles.firing()]

    def exceeded(self) -> list[str]:
        return [quota.name for quota in self.keeper.health("loud") if quota.exceeded]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_quotas_are_handed_on_and_the_others_have_the_usual_ones(desk: Desk) -> None:
    assert desk.settings.quotas["loud"] == DoorQuotas(
        bytes_per_s=1024.0, in_flight_bytes=2 << 20, storage_bytes=1 << 20
    )
    assert desk.settings.quotas["quiet"].in_flight_bytes is None
    (quotas,) = desk.settings.analysis.quotas
    assert (quotas.tenant, quotas.alerts_per_s, quotas.fingerprints) == ("loud", 2.0, 7)


async def test_bytes_are_refused_above_a_minutes_worth_and_until_they_are_paid_for(desk: Desk) -> None:
    for _ in range(6):
        assert desk.keeper.refusal("loud") is None
        desk.keeper.took("loud", 10 * 1024)
    assert desk.keeper.refusal("loud") is None, "a minute's worth is what is allowed"
    desk.keeper.took("loud", 10 * 1024)
    assert desk.keeper.refusal("loud") is not None
    assert desk.keeper.refusal("quiet") is None
    desk.now_s = 9.0
    assert desk.keeper.refusal("loud") is not None
    desk.now_s = 10.1
    assert desk.keeper.refusal("loud") is None
    refused = desk.telemetry.value("tocsin_quota_refused_total", tenant="loud", quota="bytes_per_s")
    assert refused == 2
    assert desk.firing() == [("loud", "bytes_per_s")]
    desk.now_s += MINUTE_S + 1
    await desk.keeper.look()
    assert desk.firing() == []
    assert desk.exceeded() == []


async def test_a_full_store_refuses_until_it_is_well_below_its_quota(desk: Desk) -> None:
    for used, is_refused in ((1.0, False), (1.01, True), (0.96, True), (0.94, False), (0.99, False)):
        desk.stored = {"loud": round(used * (1 << 20)), "quiet": 9 << 20}
        await desk.keeper.look()
        assert (desk.keeper.refusal("loud") is not None) is is_refused
        assert desk.exceeded() == (["storage"] if is_refused else [])
        assert desk.firing() == ([("loud", "storage")] if is_refused else [])
        assert desk.keeper.refusal("quiet") is None


async def test_only_the_tenant_itself_is_told_what_thinking_found(desk: Desk) -> None:
    desk.keeper.hear({"quota:alerts_per_s:loud": 1.5, "over:alerts_per_s:loud": 1.0, "quota:templates:loud": 0.1,
                      "quota:alerts_per_s:quiet": 0.2, "degraded": 0.0})  # fmt: skip
    assert desk.keeper.refusal("loud") is None, "nothing is refused for it"
    assert desk.exceeded() == ["alerts_per_s"]
    used = {quota.name: (quota.limit, quota.used) for quota in desk.keeper.health("loud")}
    assert used["alerts_per_s"] == (2.0, 1.5)
    assert used["open_incidents"] == (20_000, None)
    shown = desk.telemetry.render().decode()
    assert 'tocsin_quota_exceeded{quota="alerts_per_s",tenant="loud"} 1.0' in shown
    assert "quiet" not in shown, "who exceeds nothing is not named"
    await desk.troubles.tell_all()
    assert [tenant for tenant, _ in desk.rows] == ["loud"]
    assert b"grouped by time alone" in desk.rows[0][1]
    desk.keeper.hear({"quota:alerts_per_s:loud": 0.5})
    await desk.troubles.tell_all()
    assert [tenant for tenant, _ in desk.rows] == ["loud", "loud"]
    assert desk.firing() == []
    assert desk.exceeded() == []


async def test_what_is_one_tenants_alone_does_not_move_to_another(desk: Desk) -> None:
    desk.keeper.crowded("loud")
    desk.troubles.move_to("loud")
    desk.troubles.move_to("quiet")
    assert desk.firing() == [("loud", "in_flight")]


async def test_another_configuration_acts_at_once(desk: Desk) -> None:
    desk.keeper.took("loud", 100 * 1024)
    assert desk.keeper.refusal("loud") is not None
    quotas = DoorQuotas(bytes_per_s=1e6, in_flight_bytes=None, storage_bytes=1 << 30)
    desk.settings = dataclasses.replace(desk.settings, quotas={"loud": quotas})
    assert desk.keeper.refusal("loud") is None


def test_status_names_a_quota_that_is_exceeded_and_what_that_means():
    stats = {
        "incidents": {"open": 1, "quiet": 0, "closed": 0}, "deliveries": {}, "episodes": 1, "episodes_firing": 1,
        "analyst": {"up": True, "models": "work", "degraded": False}, "grouping": {"way": "bursts", "reason": "so"},
        "processed_until": None, "inbox_backlog": 0, "quarantined": 0, "destinations": [],
        "quotas": [
            {"name": "alerts_per_s", "limit": 5000.0, "used": 1.5, "exceeded": True},
            {"name": "storage", "limit": 1024.0, "used": 1.5, "exceeded": True},
            {"name": "templates", "limit": 20000.0, "used": 0.5, "exceeded": False},
        ],
    }  # fmt: skip
    told = [line for line in status_page("http://x", stats).splitlines() if "quota" in line]
    assert told == [
        "  quota        alerts_per_s of 5,000 is exceeded: alerts are grouped by time alone",
        "  quota        storage of 1,024 is exceeded: webhooks get 503",
    ]
