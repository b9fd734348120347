"""What becomes of a tenant that takes more than it may, and of the others."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import msgspec
import timeline
from comparing import differences, examples
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from thinking import SHARING, Thinking, ends, fires, same
from timelines import BASE, timelines

from bridge.analysis.erasing import Erase, Label
from bridge.analysis.quotas import Quotas
from bridge.model import Event, InboxRow, RowKind
from bridge.pipeline import Common, State, advance, outstanding
from bridge.pipeline.desk import OVER_QUOTA
from bridge.pipeline.state import OutboxEntry

SMALL = replace(SHARING, quotas=(Quotas(tenant="default", alerts_per_s=0.05),))  # three in a minute


def over(thinking: Thinking) -> tuple[str, ...]:
    return thinking.tenant.record.usage.over


def test_within_its_quotas_alerts_are_put_together_by_what_they_share():
    thinking = Thinking(SMALL)
    thinking.hears("0s", fires("A", host="a"), group="one")
    thinking.hears("1s", fires("B", host="b"), group="two")
    thinking.hears("2s", fires("C", host="a"), group="three")
    assert not over(thinking)
    assert len(thinking.tenant.groups) == 2


def test_above_a_quota_time_alone_decides_and_events_say_that_they_are_degraded(tmp_path: Path):
    thinking = Thinking(SMALL)
    thinking.hears("0s", *[fires("A", host=f"a{number}") for number in range(4)])
    assert over(thinking) == ("alerts_per_s",)
    thinking.hears("1s", fires("B", host="b"), group="two")
    assert len(thinking.tenant.groups) == 1, "nothing is refused, and nothing but time is asked"
    assert len(thinking.group.firing) == 5
    assert all(event.degraded for event in thinking.events)
    assert thinking.counts["quota:alerts_per_s"] == 1
    assert same(thinking, thinking.restarted(tmp_path))


def test_it_ends_by_itself_after_a_calm_minute_and_grouping_is_as_before(tmp_path: Path):
    thinking = Thinking(SMALL)
    thinking.hears("0s", *[fires("A", host=f"a{number}") for number in range(4)])
    thinking.clock("115s")
    assert over(thinking)
    thinking.clock("130s")
    assert not over(thinking)
    thinking.hears("131s", fires("B", starts="131s", host="b"), group="two")
    assert len(thinking.tenant.groups) == 2
    assert not thinking.events[-1].degraded
    assert same(thinking, thinking.restarted(tmp_path))


def test_no_models_are_asked_while_it_lasts_and_what_was_not_asked_is_asked_then():
    thinking = Thinking(SMALL)
    thinking.hears("0s", *[fires(f"A{number}x", host="a") for number in range(4)])
    assert thinking.asks == []
    assert outstanding(thinking.state) == []
    thinking.clock("130s")
    (ask,) = thinking.asks
    assert len(ask.templates) == len(thinking.tenant.templates)  # type: ignore[union-attr]


def test_texts_above_their_quota_are_one(tmp_path: Path):
    names = ("Alpha", "Bravo", "Charlie", "Delta", "Echo")
    thinking = Thinking(replace(SHARING, quotas=(Quotas(tenant="default", templates=2),)))
    for number, name in enumerate(names):
        thinking.hears(f"{number}s", fires(name, host=name))
    assert over(thinking) == ("templates",)
    assert len(thinking.tenant.templates) == 4
    assert OVER_QUOTA.id in thinking.tenant.templates
    assert len(thinking.tenant.firing) == len(names)
    assert same(thinking, thinking.restarted(tmp_path))


def test_alerts_and_incidents_above_their_quotas_are_taken_in_all_the_same(tmp_path: Path):
    for quotas in (Quotas(tenant="default", fingerprints=2), Quotas(tenant="default", open_incidents=2)):
        thinking = Thinking(replace(SHARING, quotas=(quotas,)))
        for number in range(8):
            thinking.hears(f"{number}s", fires(f"A{number}x", host=f"h{number}"), group=str(number))
        assert len(over(thinking)) == 1
        assert len(thinking.tenant.firing) == 8
        assert len(thinking.tenant.groups) <= 4
        for number in range(8):
            thinking.hears("20s", ends(f"A{number}x", "20s", host=f"h{number}"), group=str(number))
        thinking.clock("12h")
        assert not over(thinking)
        where = tmp_path / quotas.tenant / str(quotas.fingerprints)
        where.mkdir(parents=True)
        assert same(thinking, thinking.restarted(where))


def test_new_quotas_act_at_once():
    thinking = Thinking(SMALL)
    thinking.hears("0s", *[fires("A", host=f"a{number}") for number in range(4)])
    thinking.settings("1s", SHARING)
    assert not over(thinking)
    thinking.settings("2s", replace(SHARING, quotas=(Quotas(tenant="default", fingerprints=1),)))
    assert over(thinking) == ("fingerprints",)


def test_what_tocsin_says_about_itself_is_not_counted():
    thinking = Thinking(SMALL)
    for number in range(9):
        thinking.hears(f"{number}s", fires("TocsinQuotaExceeded", quota=str(number)), source="tocsin")
    assert not over(thinking)


def test_an_erase_forgets_no_quota_that_is_exceeded(tmp_path: Path):
    thinking = Thinking(SMALL)
    thinking.hears("0s", *[fires("A", host=f"a{number}") for number in range(4)])
    for at, label in (("1s", Label(name="quota", value="alerts_per_s")), ("2s", None)):
        thinking.row(at, RowKind.ERASE, msgspec.json.encode(Erase(id="era-1", label=label)))
        assert over(thinking) == ("alerts_per_s",)
    assert same(thinking, thinking.restarted(tmp_path))


def test_another_tenant_notices_nothing():
    thinking = Thinking(replace(SHARING, quotas=(Quotas(tenant="loud", alerts_per_s=0.05),)))
    thinking.hears("0s", *[fires("A", host=f"a{number}") for number in range(9)], tenant="loud")
    thinking.hears("1s", fires("A", host="a"), group="one")
    thinking.hears("2s", fires("B", host="b"), group="two")
    assert thinking.state.tenants["loud"].record.usage.over
    assert len(thinking.tenant.groups) == 2
    assert not any(event.degraded for event in thinking.events if event.tenant == "default")


EAST = replace(
    BASE, quotas=(Quotas(tenant="east", alerts_per_s=0.1, fingerprints=3, templates=3, open_incidents=1),)
)


def thought(rows: list[InboxRow]) -> tuple[State, list[Event], list[OutboxEntry]]:
    """Think; return what west is told besides. Rows between its own only say at which of them its alarms ring."""
    state, events, outbox = State(Common(settings=EAST)), list[Event](), list[OutboxEntry]()
    for row in rows:
        outcome = advance(state, [row])
        events += [each for each in outcome.events if each.tenant == "west"]
        outbox += [each for each in outcome.outbox if each.tenant == "west"]
    return state, events, outbox


@examples(30)
@given(timelines(), st.booleans())
def test_whatever_one_tenant_sends_another_has_the_same_incidents(
    rows: list[InboxRow], with_quotas: bool
) -> None:
    """East has small quotas and sends what it likes, or nothing at all."""
    settings = (RowKind.SETTINGS,) if with_quotas else ()  # what is drawn has no quotas
    rows = [row for row in rows if row.kind not in settings]
    end = timeline.row(999, rows[-1].received_at + timedelta(hours=1), b"", kind=RowKind.CLOCK, tenant="")
    with ExitStack() as stack:
        for name in ("measuring.MAX_MEASURED", "measuring.MAX_BUSY", "reviews.MAX_BUSY"):
            stack.enter_context(patch(f"bridge.pipeline.{name}", 1000))
        both, *told = thought([*rows, end])
        alone, *told_alone = thought([*(row for row in rows if row.tenant != "east"), end])
    assert told == told_alone
    both.tenants.pop("east", None)
    both.charts = {key: chart for key, chart in both.charts.items() if key[0] != "east"}
    alone.charts = {key: chart for key, chart in alone.charts.items() if key[0] != "east"}
    assert differences(both, alone) == []
