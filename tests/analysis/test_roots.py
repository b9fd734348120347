"""Severity, then time, ranks suspects until people's own words have earned another ranking its place."""

from __future__ import annotations

import random
from datetime import timedelta

import msgspec
import pytest
from groups import at, episode
from msgspec.structs import replace

from bridge.analysis.causal_graph import key_of, looked_at
from bridge.analysis.causality import Causes, Orders, Precedes
from bridge.analysis.families import own_family
from bridge.analysis.ranking import MAX_SUSPECTS, importance
from bridge.analysis.roots import (
    FEATURES,
    LEAST_NAMED,
    NO_RANKER,
    Insight,
    NamedRoot,
    Ranker,
    Sample,
    fit_ranker,
    rows_of,
    suspects,
)
from bridge.analysis.topology import Call, Chart, Service, Topology
from bridge.model import Episode, RootSuspect, Severity

CHART = Chart(
    origin="file", services=(Service(name="shop"), Service(name="db")), calls=(Call(caller=0, callee=1),)
)
PLAIN = Insight(Topology(), own_family)
INFORMED = Insight(
    Topology([CHART]), own_family,
    Orders(Causes(edges=(
        Precedes(own_family("DbSlow"), own_family("ShopErrors"), True, 21, 23, 24.0, 30.0, 9.0, 1e-6, 1e-5, True),
    ))),
)  # fmt: skip


def ranking(alerts: list[Episode], insight: Insight = PLAIN) -> tuple[RootSuspect, ...]:
    ranked = sorted(alerts, key=importance)
    return suspects(ranked, insight.scene(looked_at(ranked)), insight.ranker)


# ---- the baseline ----------------------------------------------------------------------------------------------


def test_severity_then_time_ranks_and_its_confidence_is_an_order() -> None:
    alerts = [episode("Late", 9, "critical"), episode("Early", 3, "critical"), episode("First", 0, "info")]
    found = suspects(sorted(alerts, key=importance))
    assert [each.fingerprint.split("-")[0] for each in found] == ["Early", "Late", "First"]
    assert [each.confidence for each in found] == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=1e-4)
    assert found[0].why == "critical, started 03:00:03 UTC (rank 1 by severity, then time)"


def test_no_more_than_five_are_suspected() -> None:
    assert len(suspects([episode(f"A{n}", n) for n in range(40)])) == MAX_SUSPECTS
    assert suspects([]) == ()


def test_a_suspect_says_what_speaks_for_it_with_numbers() -> None:
    alerts = [
        episode("DbSlow", 0, "critical", service="db"),
        episode("ShopErrors", 12, service="shop"),
        episode("ShopErrors", 15, service="shop", host="s-2"),
    ]
    assert ranking(alerts, INFORMED)[0].why == (
        "critical, started 03:00:00 UTC (rank 1 by severity, then time); first of 3, 12 s before the next;"
        " its kind precedes ShopErrors in 21 of 23 cases; shop calls db (topology file)"
    )


def test_what_is_known_beside_changes_no_rank_while_nothing_was_learned_from_people() -> None:
    alerts = [episode("ShopErrors", 12, "critical", service="shop"), episode("DbSlow", 0, service="db")]
    assert [each.fingerprint for each in ranking(alerts, INFORMED)] == [
        each.fingerprint for each in ranking(alerts)
    ]


def test_the_first_of_a_storm_is_the_first_of_all_its_alerts_and_not_of_those_looked_at() -> None:
    found = ranking([episode(f"A{n}", n * 5) for n in range(400)], INFORMED)
    assert found[0].why.endswith("; first of 400, 5 s before the next")


def test_a_lone_alert_is_its_own_root_whatever_was_learned() -> None:
    (only,) = ranking([episode("DbSlow", 0, service="db")], acting())
    assert only.confidence == 1.0
    assert only.why.endswith("(rank 1 by severity, then time)")


def test_of_alerts_of_one_moment_the_one_that_others_call_comes_first() -> None:
    shop, db = episode("A", 0, service="shop"), episode("B", 0, service="db")
    assert [each.fingerprint[0] for each in ranking([shop, db])] == ["A", "B"]
    found = ranking([shop, db], INFORMED)
    assert [each.fingerprint[0] for each in found] == ["B", "A"]
    assert found[0].why.endswith("; of 2 that began at this moment the one that most others call")
    assert "moment" not in found[1].why
    worse = episode("A", 0, "critical", service="shop")
    assert [each.fingerprint[0] for each in ranking([worse, db], INFORMED)] == ["A", "B"]


# ---- learning --------------------------------------------------------------------------------------------------


def alert(name: str, start: float, severity: Severity = "warning", **labels: str) -> Sample:
    made = episode(name, start, severity, **labels)
    return Sample(
        source=made.source, fingerprint=made.fingerprint, starts_at=made.starts_at, seen_at=made.seen_at,
        labels=made.labels, template=made.template, severity=made.severity,
    )  # fmt: skip


def incident(dice: random.Random, number: int) -> list[Sample]:
    """Return a slow database behind loud and critical shops; the database is neither worst nor first."""
    start = number * 7200.0
    shops = [
        alert(
            f"ShopErrors{dice.randrange(6)}",
            start + dice.uniform(0, 60),
            "critical",
            service="shop",
            host=f"s{n}",
        )
        for n in range(dice.randint(2, 5))
    ]
    return [*shops, alert("DbSlow", start + dice.uniform(10, 90), service="db")]


def named(number: int, *, right: bool = True, seed: int = 0) -> list[NamedRoot]:
    """Let people name the database, or anything."""
    dice = random.Random(seed)
    told = []
    for each in range(number):
        alerts = incident(dice, each)
        root = alerts[-1] if right else dice.choice(alerts)
        told.append(NamedRoot(root=key_of(root), alerts=tuple(alerts)))
    return told


def acting(*, number: int = 60) -> Insight:
    return INFORMED._replace(ranker=fit_ranker(named(number), INFORMED))


def test_what_people_name_again_and_again_is_learned_and_acts() -> None:
    insight = acting()
    verdict = insight.ranker.verdict
    assert verdict.acts
    assert (verdict.named, verdict.baseline, verdict.learned) == (60, 0.0, 1.0)
    fresh = [as_episode(each) for each in incident(random.Random(99), 500)]
    found = ranking(fresh, insight)
    assert found[0].fingerprint.startswith("DbSlow")
    assert found[0].confidence > 0.6
    assert sum(each.confidence for each in found) <= 1.0
    assert "(rank 1 by what people named before," in found[0].why
    assert "its kind was named in 60 of 60 incidents that had it" in found[0].why


def as_episode(each: Sample) -> Episode:
    return episode(
        each.labels["alertname"], (each.starts_at - at(0)).total_seconds(), each.severity,
        **{name: value for name, value in each.labels.items() if name not in {"alertname", "severity"}},
    )  # fmt: skip


def test_too_few_named_roots_change_nothing() -> None:
    ranker = fit_ranker(named(LEAST_NAMED - 1), INFORMED)
    assert not ranker.verdict.acts
    assert ranker.verdict.reason == "29 incidents with a named root are too few to tell, 30 are needed"
    assert fit_ranker(named(LEAST_NAMED), INFORMED).verdict.acts


@pytest.mark.parametrize("seed", range(6))
def test_what_people_name_at_random_earns_nothing(seed: int) -> None:
    dice = random.Random(seed)
    told = []
    for number in range(60):
        alerts = [alert(f"K{dice.randrange(9)}", number * 7200 + n * 20, service=f"s{n}") for n in range(4)]
        told.append(NamedRoot(root=key_of(dice.choice(alerts)), alerts=tuple(alerts)))
    assert not fit_ranker(told, INFORMED).verdict.acts


def test_a_ranking_that_is_no_better_than_severity_and_time_does_not_act() -> None:
    told = []
    for number in range(60):
        alerts = [
            alert(f"K{n}", number * 7200 + n, "critical" if n == 0 else "info", service="db")
            for n in range(4)
        ]
        told.append(NamedRoot(root=key_of(alerts[0]), alerts=tuple(alerts)))
    verdict = fit_ranker(told, INFORMED).verdict
    assert not verdict.acts
    assert verdict.baseline == 1.0
    assert verdict.reason.endswith("severity and time act")


def test_a_learned_ranking_doubts_where_nothing_looks_like_a_root() -> None:
    insight = acting()
    strangers = [
        as_episode(alert("ShopErrors1", 0.0, "critical", service="shop")),
        as_episode(alert("ShopErrors2", 300.0, "critical", service="shop")),
    ]
    assert ranking(strangers, insight)[0].confidence < 0.5


def test_roots_of_kinds_that_were_never_seen_before_are_found_by_what_else_is_known() -> None:
    dice = random.Random(3)
    told = []
    for number in range(60):
        start = number * 7200.0
        first = alert(f"Only{number}", start + dice.uniform(0, 80), service="x")
        others = [
            alert(f"K{dice.randrange(4)}", start + dice.uniform(30, 200), service=f"s{n}") for n in range(6)
        ]
        others += [
            alert(f"Also{number}-{n}", start + dice.uniform(30, 200), service=f"t{n}") for n in range(3)
        ]
        told.append(NamedRoot(root=key_of(first), alerts=(first, *others)))
    verdict = fit_ranker(told, INFORMED).verdict
    assert verdict.acts
    assert verdict.learned > verdict.baseline + 0.1


def test_a_ranking_that_may_not_act_leaves_everything_as_it_was() -> None:
    ranker = acting().ranker
    silent = INFORMED._replace(ranker=replace(ranker, verdict=replace(ranker.verdict, acts=False)))
    fresh = [as_episode(each) for each in incident(random.Random(5), 3)]
    assert ranking(fresh, silent) == ranking(fresh, INFORMED)


def test_an_incident_of_which_the_root_is_not_there_teaches_nothing() -> None:
    told = [replace(each, root=("am", "elsewhere", at(0))) for each in named(60)]
    assert fit_ranker(told, INFORMED).verdict.named == 0
    alone = [replace(each, alerts=each.alerts[-1:]) for each in named(60)]
    assert fit_ranker(alone, INFORMED).verdict.named == 0


def test_the_order_in_which_roots_are_told_changes_nothing_and_the_ranker_survives_storage() -> None:
    told = named(40)
    ranker = fit_ranker(told, INFORMED)
    assert fit_ranker(told[::-1], INFORMED) == ranker
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ranker), type=Ranker) == ranker


def test_a_feature_that_is_left_out_has_no_weight() -> None:
    ranker = fit_ranker(named(60), INFORMED, without={"record", "severity"})
    weights = dict(zip(FEATURES, ranker.weights, strict=True))
    assert weights["record"] == weights["severity"] == 0.0
    assert any(weights.values())


def test_features_say_what_they_are_called() -> None:
    scene = INFORMED.scene(
        [episode("DbSlow", 0, service="db"), episode("ShopErrors", 24, "critical", service="shop"),
         episode("NodeDown", 60, "info", host="h")]
    )  # fmt: skip
    rows = rows_of(scene, NO_RANKER)
    seen = {name: [round(float(value), 3) for value in rows[:, FEATURES.index(name)]] for name in FEATURES}
    assert seen["severity"] == [-1, 0, -2]
    assert seen["rank"] == [0.5, 1, 0.333]
    assert seen["earliest"] == [1, 0.5, 0.333]
    assert seen["lag"][0] == 0 < seen["lag"][1] < seen["lag"][2] < 1
    assert (seen["precedes"], seen["preceded"]) == ([0.5, 0, 0], [0, 0.5, 0])
    assert (seen["called by"], seen["calls"]) == ([0.5, 0, 0], [0, 0.5, 0])
    assert seen["same thing"] == [0.333] * 3
    assert seen["machine"] == [0, 0, 1]
    assert seen["record"] == seen["none of these"] == [0] * 3


def test_times_that_cannot_be_are_not_believed() -> None:
    liar = episode("Liar", -90_000, service="db", changes={"seen_at": at(30)})
    scene = INFORMED.scene([liar, episode("ShopErrors", 24, service="shop")])
    assert scene.begun_s[0] == (at(30) - timedelta(seconds=900)).timestamp()
