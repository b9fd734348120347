"""Clustering: storms come together, strangers stay apart, and what turns out to be one is merged.

The streams run through the whole pipeline, because what an incident holds is kept up to date there.
"""

from __future__ import annotations

import random
from bisect import insort
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest
import timeline
from groups import at, episode, group
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bridge.analysis.clustering import (
    MAX_SCORED,
    PER_TOKEN,
    Choice,
    Index,
    Newcomer,
    bridged,
    by_age,
    choose,
    keys_of,
)
from bridge.analysis.entities import tokens_of
from bridge.analysis.incidents import Group, Signal, replace
from bridge.analysis.linking import family_token, group_token
from bridge.analysis.settings import AnalysisSettings
from bridge.model import EventKind, Origin
from bridge.pipeline import Common, State, advance

Labels = dict[str, str]
#: The way that this file is about.
SHARED = Common(settings=AnalysisSettings(grouping="entities"))


def stream(alerts: Sequence[tuple[float, Labels]], *, by_rule: bool = True) -> dict[int, str]:
    """Let alerts fire at their seconds; return each one's incident. Alertmanager groups them by rule or all in one."""
    rows = []
    for number, (seconds, labels) in enumerate(alerts, 1):
        when = timeline.START + timedelta(seconds=round(seconds, 3))
        told = timeline.alert({**labels, "replica": str(number)}, starts=when)  # a label that says nothing
        group_key = f'{{}}:{{alertname="{labels["alertname"]}"}}' if by_rule else "{}:{}"
        rows.append(timeline.row(number, when, timeline.webhook([told], group=group_key)))
    incident_of: dict[int, str] = {}
    outcome = advance(State(SHARED), rows)
    for one in outcome.episodes.values():
        incident_of[int(one.labels["replica"])] = one.incident
    return incident_of


def fleet(number: int, per_s: float, seed: int = 1) -> list[tuple[float, Labels]]:
    """Unrelated alerts of 200 rules on 200 hosts, 200 services and 20 namespaces, evenly in time."""
    draw = random.Random(seed)
    alerts = []
    for one in range(number):
        service = draw.randrange(200)
        labels = {
            "alertname": f"Rule{draw.randrange(200)}", "instance": f"node-{draw.randrange(200)}:9100",
            "service": f"svc-{service}", "namespace": f"ns-{service // 10}", "team": f"team-{service // 40}",
            "job": f"job-{draw.randrange(10)}", "cluster": "eu-1", "env": "prod",
        }  # fmt: skip
        alerts.append((one / per_s, labels))
    return alerts


@pytest.mark.parametrize("per_s", [1.0, 20.0, 200.0])
def test_strangers_do_not_become_one_incident_however_fast_they_come(per_s: float) -> None:
    counts = Counter(stream(fleet(2000, per_s)).values())
    assert len(counts) >= 60
    assert max(counts.values()) <= 110  # of 2,000


def test_strangers_stay_apart_in_one_group_for_everything() -> None:
    counts = Counter(stream(fleet(1000, 20.0), by_rule=False).values())
    assert len(counts) >= 40
    assert max(counts.values()) <= 100


def node_down(n: int) -> Labels:
    """One host dies: rules of several teams about it and what ran there."""
    kind = n % 4
    if kind == 0:
        return {"alertname": f"Node{n % 5}", "instance": "db-1:9100", "cluster": "eu-1"}
    if kind == 1:
        return {
            "alertname": "PodCrash",
            "node": "db-1",
            "pod": f"app{n}-7d9f8b6c5-x2x4z",
            "namespace": f"n{n}",
        }
    if kind == 2:
        return {"alertname": "DiskSlow", "host": "db-1", "device": f"sd{n}"}
    return {"alertname": "TargetDown", "kubernetes_node": "db-1", "job": f"job{n}"}


def rack_down(n: int) -> Labels:
    """A switch dies: thirty hosts of one rack, three rules."""
    return {"alertname": f"Rack{n % 3}", "instance": f"r-{n // 3}:9100", "rack": "r7", "cluster": "eu-1"}


def cascade(n: int) -> Labels:
    """A database is gone, and six services that need it complain, pod by pod."""
    service = f"shop{n % 6}"
    return {
        "alertname": f"Errors{n % 6}", "service": service, "namespace": "shop", "database": "shopdb",
        "pod": f"{service}-7d9f8b6c5-x2x{n:02}",
    }  # fmt: skip


def unreachable(n: int) -> Labels:
    """A network is cut: fifty hosts say the same, and share nothing but that."""
    return {"alertname": "NodeUnreachable", "instance": f"x-{n}:9100", "cluster": "us-1", "job": "node"}


@pytest.mark.parametrize("storm", [node_down, rack_down, cascade, unreachable])
@pytest.mark.parametrize("every_s", [0.1, 2.0])
def test_a_storm_is_one_incident(storm, every_s: float) -> None:
    assert len(set(stream([(n * every_s, storm(n)) for n in range(60)]).values())) == 1


def test_storms_at_the_same_time_are_told_apart_among_strangers() -> None:
    storms = [(100 + n, kind(n)) for n in range(60) for kind in (rack_down, cascade, unreachable)]
    alerts = sorted([*fleet(300, 1.0), *storms], key=lambda one: one[0])
    incident_of = stream(alerts)
    for kind in (rack_down, cascade, unreachable):
        mine = {
            incident_of[number]
            for number, (_, labels) in enumerate(alerts, 1)
            if labels in [*map(kind, range(60))]
        }
        assert len(mine) == 1
        assert sum(incident == min(mine) for incident in incident_of.values()) == 60


# ---- one choice ------------------------------------------------------------------------------------------


def newcomer(
    name: str, seconds: float, *, origin: Origin = "alerts", group_key: str = "", **labels: str
) -> Newcomer:
    return Newcomer(
        tokens=tokens_of({"alertname": name, **labels}), origin=origin, template=name, at=at(seconds),
        group=group_token("am", group_key), family=family_token(f"t:{name}"),
    )  # fmt: skip


def indexed(*groups: Group) -> tuple[Index, dict[str, Group]]:
    index = Index()
    for one in groups:
        one.name_families(lambda template: f"t:{template}")
        index.note(one.head.id, one.head.opened_at, one.held)
    return index, {one.head.id: one for one in groups}


def chosen(one: Newcomer, *groups: Group, window_s: float = 900.0, sensitivity: float = 0.5) -> Choice:
    index, by_id = indexed(*groups)
    return choose(
        one, index, by_id, window_s=window_s, sensitivity=sensitivity, likeness=lambda _template, _group: None,
        rarity=lambda _key: 1.0,
    )  # fmt: skip


def test_the_same_host_seconds_later_joins() -> None:
    down = group([episode("NodeDown", instance="db-1:9100")])
    choice = chosen(newcomer("DiskSlow", 5, node="db-1"), down)
    assert choice.incident == down.head.id
    assert choice.link is not None
    assert choice.link.features.shared_keys == ("host=db-1",)
    assert choice.link.features.lag_s == 5.0


def test_nothing_in_common_founds_its_own() -> None:
    assert (
        chosen(newcomer("DiskSlow", 5, node="db-2"), group([episode(instance="db-1:9100")])).incident is None
    )


def test_labels_that_everybody_has_bring_nobody_together() -> None:
    other = group([episode(env="prod", region="eu", team="x")])
    assert chosen(newcomer("B", 1, env="prod", region="eu", team="x"), other).incident is None


def test_an_incident_takes_in_nobody_after_its_window_or_its_end_or_of_another_origin() -> None:
    one = newcomer("NodeDown", 100, instance="db-1:9100")
    assert chosen(one, group([episode(instance="db-1:9100")])).incident is not None
    assert chosen(one, group([episode(instance="db-1:9100")]), window_s=99.0).incident is None
    over = group([episode(instance="db-1:9100")])
    over.move(Signal.ALL_ENDED)
    assert chosen(one, over).incident is not None
    over.move(Signal.QUIET_OVER)
    assert chosen(one, over).incident is None
    assert chosen(one, group([episode(instance="db-1:9100")], origin="tocsin")).incident is None


def test_higher_sensitivity_joins_more() -> None:
    one = newcomer("B", 200, node="db-1", namespace="other")
    down = group([episode("A", instance="db-1:9100", namespace="web", service="s")])
    assert chosen(one, down, sensitivity=0.0).incident is None
    assert chosen(one, down, sensitivity=1.0).incident == down.head.id


def test_the_more_likely_incident_takes_it_and_the_other_is_named() -> None:
    near = group([episode("A", 50, instance="db-1:9100", service="shop")], opened=50)
    far = group([episode("A", 40, instance="db-2:9100", service="shop")], opened=40)
    choice = chosen(newcomer("A", 51, instance="db-1:9100", service="shop"), near, far)
    assert choice.incident == near.head.id
    assert choice.also == (far.head.id,)


def test_a_crowd_of_candidates_is_cut() -> None:
    crowd = [group([episode("A", n, instance=f"h{n}", service="shop")], opened=n) for n in range(50)]
    index, _ = indexed(*crowd)
    assert len(index.newest("service=shop")) == PER_TOKEN
    choice = chosen(newcomer("A", 51, instance="h49", service="shop"), *crowd)
    assert choice.incident == crowd[49].head.id
    assert len(choice.also) < MAX_SCORED


# ---- two that are one ------------------------------------------------------------------------------------


def pair(bridges: int, *, sizes: tuple[int, int] = (4, 4), apart_s: float = 60.0) -> tuple[Group, Group]:
    older = group([episode("A", n, host=f"a{n}") for n in range(sizes[0])])
    younger = group([episode("B", apart_s + n, host=f"b{n}") for n in range(sizes[1])], opened=apart_s)
    younger.progress = replace(younger.progress, bridges={older.head.id: bridges})
    return older, younger


@pytest.mark.parametrize(
    ("bridges", "sizes", "apart_s", "one"),
    [
        (3, (4, 4), 60.0, True),
        (2, (4, 4), 60.0, False),  # too little
        (3, (11, 50), 60.0, False),  # too little for incidents of that size
        (4, (11, 50), 60.0, True),
        (30, (4, 4), 1801.0, False),  # began too far apart
    ],
)
def test_when_two_incidents_are_one(
    bridges: int, sizes: tuple[int, int], apart_s: float, *, one: bool
) -> None:
    older, younger = pair(bridges, sizes=sizes, apart_s=apart_s)
    assert bridged(older, younger) is one
    assert by_age(younger, older) == (older, younger)


def test_alerts_that_fit_two_incidents_merge_them() -> None:
    """Two racks of one service are two incidents until the service itself complains about both."""
    alerts: list[tuple[float, Labels]] = []
    for n in range(3):
        alerts.append((n, {"alertname": "HostDown", "rack": "r1", "host": f"a{n}"}))
        alerts.append((n + 0.5, {"alertname": "LinkLost", "queue": "q9", "device": f"d{n}"}))
    alerts += [(10 + n, {"alertname": "Slow", "rack": "r1", "queue": "q9"}) for n in range(6)]
    rows = []
    for number, (seconds, labels) in enumerate(alerts, 1):
        when = timeline.START + timedelta(seconds=seconds)
        told = timeline.alert({**labels, "replica": str(number)}, starts=when)
        rows.append(timeline.row(number, when, timeline.webhook([told])))
    rows.append(timeline.row(99, timeline.after("60s"), b"", kind=timeline.RowKind.CLOCK))
    state = State(SHARED)
    events = advance(state, rows).events
    kinds = [event.kind for event in events]
    assert kinds.count(EventKind.OPENED) == 2
    merged = next(event for event in events if event.kind is EventKind.MERGED)
    first, second = [event.incident.id for event in events if event.kind is EventKind.OPENED]
    assert (merged.incident.id, merged.incident.merged_into) == (second, first)
    assert len(state.tenants["default"].groups[first].episodes) == len(alerts)


# ---- the index -------------------------------------------------------------------------------------------


class AnyIndex(RuleBasedStateMachine):
    """The index beside a list of what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Index()
        self.told: dict[str, tuple[int, set[str]]] = {}

    @rule(
        name=st.sampled_from("abcdefghijkl"),
        opened=st.integers(0, 3),
        keys=st.sets(st.sampled_from("uvwxyz")),
    )
    def note(self, name: str, opened: int, keys: set[str]) -> None:
        opened, known = self.told.setdefault(name, (opened, set()))
        self.index.note(name, at(opened), keys)
        known |= keys

    @rule(name=st.sampled_from("abcdefghijkl"))
    def drop(self, name: str) -> None:
        opened, _ = self.told.pop(name, (0, set()))
        self.index.drop(name, at(opened))

    @invariant()
    def it_knows_what_it_was_told(self) -> None:
        assert len(self.index) == len(self.told)
        for key in "uvwxyz":
            members: list[tuple[int, str]] = []
            for name, (opened, known) in self.told.items():
                assert self.index.holds(name)
                if key in known:
                    insort(members, (opened, name))
            assert self.index.newest(key) == [name for _, name in members[-PER_TOKEN:]]
            assert self.index.spread(key) == len(members)


TestAnyIndex = AnyIndex.TestCase


@given(st.text(max_size=5), st.text(max_size=5))
def test_a_newcomer_is_found_by_what_an_incident_of_it_holds(service: str, group_key: str) -> None:
    """Or else the index would lead to incidents that hold nothing of it."""
    one = episode("A", changes={"group_key": group_key, "labels": {"alertname": "A", "service": service}})
    made = group([one])
    made.name_families(lambda template: f"t:{template}")
    who = Newcomer(
        tokens=tokens_of(one.labels), origin="alerts", template="A", at=at(0), family=family_token("t:A"),
        group=group_token(one.source, group_key),
    )  # fmt: skip
    assert set(keys_of(who)) == set(made.held)


@given(
    st.dictionaries(
        st.sampled_from("abcdefghijkl"),
        st.tuples(st.integers(0, 3), st.lists(st.sampled_from("uvwxyz"), max_size=6)),
    ),
    st.randoms(),
)
def test_the_index_depends_on_no_order_and_keeps_nothing_of_what_is_gone(
    told: dict[str, tuple[int, list[str]]], dice: random.Random
) -> None:
    straight, mixed = Index(), Index()
    for name, (opened, keys) in told.items():
        straight.note(name, at(opened), keys)
    notes = [(name, opened, key) for name, (opened, keys) in told.items() for key in [*keys, *keys]]
    dice.shuffle(notes)
    for name, opened, key in notes:
        mixed.note(name, at(opened), [key])
    for key in "uvwxyz":
        assert mixed.newest(key) == straight.newest(key)
        assert mixed.spread(key) == straight.spread(key) == sum(key in keys for _, keys in told.values())
    for name, (opened, _) in told.items():
        mixed.drop(name, at(opened))
    assert len(mixed) == 0
    assert mixed._by_key == {}


# ---- streams as Alertmanager groups them -------------------------------------------------------------------


def played(webhooks: Sequence[tuple[float, str, Sequence[Labels]]]) -> State:
    """Let webhooks of (second, group key, alerts that fire) come one after another."""
    rows = []
    for number, (seconds, group_key, fire) in enumerate(webhooks, 1):
        when = timeline.START + timedelta(seconds=seconds)
        alerts = [timeline.alert(labels, starts=when) for labels in fire]
        rows.append(timeline.row(number, when, timeline.webhook(alerts, group=group_key)))
    state = State(SHARED)
    advance(state, rows)
    return state


def members(state: State) -> list[Group]:
    return [one for one in state.tenants["default"].groups.values() if one.episodes]


@pytest.mark.parametrize("per_webhook", [1, 10])
def test_a_busy_fleet_grouped_by_namespace_falls_apart_into_its_namespaces(per_webhook: int) -> None:
    """2,000 alerts of 40 rules over 200 hosts in 20 namespaces within 100 s: a hundred or so each."""
    draw = random.Random(7)
    webhooks = []
    for number in range(0, 2000, per_webhook):
        namespace = draw.randrange(20)
        fire = [
            {
                "alertname": f"Rule{draw.randrange(40)}", "instance": f"node-{draw.randrange(200)}:9100",
                "namespace": f"ns-{namespace}", "cluster": "eu-1", "job": "node", "env": "prod", "n": str(number + one),
            }
            for one in range(per_webhook)
        ]  # fmt: skip
        webhooks.append((number / 20.0, f'{{}}:{{namespace="ns-{namespace}"}}', fire))
    found = members(played(webhooks))
    assert sum(len(one.episodes) for one in found) == 2000
    assert len(found) >= 20
    assert max(len(one.episodes) for one in found) <= 250
    # A host that several namespaces share may bring a few of their alerts together.
    own = sum(
        max(Counter(each.labels["namespace"] for each in one.episodes.values()).values()) for one in found
    )
    assert own >= 1800


def test_a_job_alone_brings_nobody_together() -> None:
    """Every host has `job=node`; a different rule on a different host every three seconds."""
    strangers = [
        (
            n * 3.0,
            f'{{}}:{{alertname="Rule{n}"}}',
            [{"alertname": f"Rule{n}", "job": "node", "instance": f"h{n}"}],
        )
        for n in range(40)
    ]
    assert len(members(played(strangers))) == 40


def test_what_fits_a_merged_incident_joins_the_older() -> None:
    racks = [(n, "{}:{}", [{"alertname": "HostDown", "rack": "r1", "host": f"a{n}"}]) for n in range(3)]
    links = [
        (n + 0.5, "{}:{}", [{"alertname": "LinkLost", "queue": "q9", "device": f"d{n}"}]) for n in range(3)
    ]
    both = [
        (10 + n, "{}:{}", [{"alertname": "Slow", "rack": "r1", "queue": "q9", "n": str(n)}]) for n in range(6)
    ]
    late = [(60, "{}:{}", [{"alertname": "LinkLost", "queue": "q9", "device": "d7"}])]
    state = played([*sorted([*racks, *links]), *both, *late])
    (one,) = members(state)
    assert len(one.episodes) == 13
    assert {each.incident for each in one.episodes.values()} == {one.head.id}
    assert not any(
        state.tenants["default"].index.holds(other)
        for other in state.tenants["default"].groups
        if other != one.head.id
    )
