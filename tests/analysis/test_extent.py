"""Extent: how large incidents become, learned from those that are over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bridge.analysis.extent import HALF_LIFE_S, Extent, learned, tails, things_in

AT = datetime(2026, 1, 5, tzinfo=UTC)


def lived(sizes: list[tuple[int, int]]) -> Extent | None:
    extent = None
    for number, (alerts, things) in enumerate(sizes):
        extent = learned(extent, alerts, things, AT + timedelta(hours=number))
    return extent


def test_nothing_is_said_before_enough_incidents_are_over():
    assert tails(None, 100, 100) == []
    assert tails(lived([(1, 1)] * 15), 100, 100) == []
    assert len(tails(lived([(1, 1)] * 25), 100, 100)) == 2


def test_one_alert_is_never_large():
    extent = lived([(10, 3)] * 40)
    assert tails(extent, 1, 1) == []
    assert [why[:9] for _, why in tails(extent, 1, 2)] == ["2 things "]


def test_what_no_incident_has_been_is_rarer_than_what_many_were():
    extent = lived([(1, 1)] * 30 + [(2, 2), (4, 2), (3, 1)] * 5)
    few, many, storm = (tails(extent, size, 1)[0][0] for size in (2, 5, 200))
    assert 0.2 < few < 0.5
    assert few > many > storm
    assert storm < 1e-3


def test_where_storms_are_usual_they_are_no_surprise():
    calm, stormy = lived([(1, 1), (2, 1)] * 30), lived([(1, 1), (200, 20)] * 30)
    assert tails(calm, 200, 1)[0][0] < 1e-3
    assert tails(stormy, 200, 1)[0][0] > 0.05


def test_reasons_say_how_often_there_was_more_than_one():
    [(_, alerts), (_, things)] = tails(lived([(1, 1)] * 30 + [(3, 1)] * 10), 1200, 7)
    assert alerts == "1,200 alerts, 25% of 39 incidents had more than one"
    assert things.startswith("7 things named, 0% of 39 incidents")


def test_it_fades():
    extent = lived([(50, 50)] * 30)
    assert extent is not None
    later = learned(extent, 1, 1, extent.updated_at + timedelta(seconds=HALF_LIFE_S))
    assert abs(later.incidents - (extent.incidents / 2 + 1)) < 1e-9
    assert later.alerts.larger == extent.alerts.larger / 2


def test_things_are_hosts_services_and_the_like():
    held = [
        "host=db-1",
        "service=shop",
        "team=db",
        "cluster=eu",
        "\0family t:1",
        "\0group x",
        "namespace=web",
    ]
    assert things_in(held) == 3
    assert things_in([]) == 1
