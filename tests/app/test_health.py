"""What the front knows of its parts is what metrics and own alerts say, and a tenant is told of its own."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

import connectors
from bridge import config
from bridge.app.health import health_of
from bridge.app.troubles import Troubles
from bridge.config import Settings
from bridge.model import RowKind
from bridge.telemetry import Telemetry

TEXT = """
tenants:
  - {name: a, tokens: [{token: 0123456789abcdef-of-a}]}
  - {name: b, tokens: [{token: 0123456789abcdef-of-b}]}
destinations:
  - {name: siem, kind: file, path: ./a}
  - {name: chat, kind: file, path: ./b}
  - {name: nobodys, kind: file, path: ./c}
routes:
  - {to: [siem]}
  - {to: [chat], tenant: b}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "tocsin.yaml").write_text(TEXT)
    return config.load(tmp_path / "tocsin.yaml", {"file": connectors.load("file")}, {})


async def put(_tenant: str, _source: str, _kind: RowKind, _body: bytes) -> int:
    return 1


@pytest.fixture
def troubles(tmp_path: Path) -> Troubles:
    return Troubles(
        put=put, tenant="a", file=tmp_path / "troubles.json",
        clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), telemetry=Telemetry(),
    )  # fmt: skip


def test_a_destination_in_trouble_says_since_when_and_why(settings: Settings, troubles: Troubles) -> None:
    troubles.is_wrong("TocsinDestinationUnreachable", "timeout", destination="siem")
    [siem] = health_of("a", settings, Telemetry(), troubles).destinations
    assert (siem.name, siem.state, siem.reason) == ("siem", "unreachable", "timeout")
    assert siem.since == "2026-01-01T00:00:00Z"
    troubles.is_wrong("TocsinDestinationBlocked", "HTTP 403", destination="siem")
    [siem] = health_of("a", settings, Telemetry(), troubles).destinations
    assert (siem.state, siem.reason) == ("blocked", "HTTP 403")
    for name in ("TocsinDestinationBlocked", "TocsinDestinationUnreachable"):
        troubles.is_well(name, destination="siem")
    [siem] = health_of("a", settings, Telemetry(), troubles).destinations
    assert (siem.state, siem.reason, siem.since) == ("working", "", None)


def test_a_tenant_is_told_of_the_destinations_it_has_a_route_to(
    settings: Settings, troubles: Troubles
) -> None:
    told = {
        tenant: [each.name for each in health_of(tenant, settings, Telemetry(), troubles).destinations]
        for tenant in "ab"
    }
    assert told == {"a": ["siem"], "b": ["siem", "chat"]}


def test_the_analyst_is_what_its_metrics_say(settings: Settings, troubles: Troubles) -> None:
    telemetry = Telemetry()
    analyst = health_of("a", settings, telemetry, troubles).analyst
    assert (analyst.up, analyst.models, analyst.degraded) == (False, "missing", False)
    for name in ("tocsin_analyst_up", "tocsin_models_up", "tocsin_degraded"):
        telemetry.set(name, 1)
    analyst = health_of("a", settings, telemetry, troubles).analyst
    assert (analyst.up, analyst.models, analyst.degraded) == (True, "work", True)
    off = dataclasses.replace(settings, analysis=msgspec.structs.replace(settings.analysis, models=False))
    assert health_of("a", off, telemetry, troubles).analyst.models == "off"
