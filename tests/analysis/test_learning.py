"""A linker learns from a history alone what comes together, and from people what belongs together."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge.analysis import gate
from bridge.analysis.entities import tokens_of
from bridge.analysis.gate import LinkAsk, _decided, fit
from bridge.analysis.learning import (
    FEATURES,
    History,
    Judge,
    Linker,
    Sighting,
    Taught,
    common_of,
    fit_linker,
    spoken_of,
)
from bridge.analysis.learning import judge as judging
from bridge.analysis.pairs import (
    CALLER_LATER,
    OTHER_CLUSTER,
    SAME_SERVICE,
    SAME_SPACE,
    UNCHARTED,
    WINDOW_S,
    Columns,
    begun_s,
    traits_of,
)  # fmt: skip
from bridge.analysis.topology import Call, Chart, Service, Topology
from bridge.analysis.verdicts import FALLBACK, Evidence

START = datetime(2026, 1, 5, tzinfo=UTC)
HALF_S = (START + timedelta(days=4)).timestamp()
CHARTS = (
    Chart(
        origin="file", services=(Service(name="shop"), Service(name="db")), calls=(Call(caller=0, callee=1),)
    ),
)


def sighting(at_s: float, name: str, **labels: str) -> Sighting:
    at = START + timedelta(seconds=at_s)
    mine = {"alertname": name, **labels}
    return Sighting(at.timestamp(), "default", f"{name} {labels} ", at, f"t-{name}", mine)


def history(sightings: list[Sighting]) -> History:
    return History(sightings, families={}, vectors={}, charts=CHARTS, label="service")


def world(seed: int, days: int = 6, faults: int = 10) -> list[Sighting]:
    """Let a slow database be felt by the shop 20 s later, `faults` times a day; mail alerts come by themselves."""
    dice = random.Random(seed)
    found = []
    for _ in range(days * faults):
        at = dice.uniform(0, days * 86_400)
        found.append(sighting(at, "DbSlow", service="db", cluster="x", host=f"db-{dice.randrange(9)}"))
        found += [
            sighting(at + 20 + dice.uniform(0, 5), f"ShopErrors{number}", service="shop", cluster="x")
            for number in range(5)
        ]
    lone = [(dice.uniform(0, days * 86_400), dice.randrange(4), dice.randrange(9)) for _ in range(days * 120)]
    mails = [
        sighting(at, f"Mail{kind}", service="mail", cluster="x", host=f"m-{host}") for at, kind, host in lone
    ]
    return found + mails


def chance(judge: Judge, *pair: Sighting) -> float:
    columns = Columns(Topology(CHARTS), lambda _one, _other: None)
    for each in pair:
        family = f"t:{each.template}"
        columns.add(
            traits_of(
                each.labels, tokens_of(each.labels), at_s=each.at_s, template=each.template, family=family,
                topology=Topology(CHARTS), rarity=judge.rarity,
            ),
            judge.families.get(family, -1),
        )  # fmt: skip
    logit = judge.logits(judge.features(columns, np.array([0]), np.array([1])))[0]
    return float(1 / (1 + np.exp(-logit)))


DB = sighting(0, "DbSlow", service="db", cluster="x", host="db-1")
SHOP = sighting(22, "ShopErrors1", service="shop", cluster="x")
MAIL = sighting(22, "Mail1", service="mail", cluster="x", host="m-1")


@pytest.fixture(scope="module")
def linker() -> Linker:
    return fit_linker(history(world(1)))


def test_what_comes_together_more_often_than_by_chance_is_linked(linker: Linker) -> None:
    judge = Judge(linker)
    assert chance(judge, DB, SHOP) > 0.9
    assert chance(judge, DB, MAIL) < 0.3


def test_kinds_that_were_never_seen_are_not_linked_for_sure(linker: Linker) -> None:
    strange = sighting(600, "Strange", service="else", cluster="y")
    assert chance(Judge(linker), DB, strange) < 0.5


def test_the_same_history_teaches_the_same_in_any_order(linker: Linker) -> None:
    shuffled = world(1)
    random.Random(9).shuffle(shuffled)
    assert msgspec.msgpack.encode(fit_linker(history(shuffled))) == msgspec.msgpack.encode(linker)


def test_a_linker_survives_storage(linker: Linker) -> None:
    loaded = msgspec.msgpack.decode(msgspec.msgpack.encode(linker), type=Linker)
    assert loaded == linker
    assert chance(Judge(loaded), DB, SHOP) == chance(Judge(linker), DB, SHOP)


@pytest.mark.parametrize("number", [0, 1, 2, 9])
def test_hardly_any_history_teaches_nothing_and_breaks_nothing(number: int) -> None:
    found = fit_linker(history(world(1)[:number]))
    assert 0.0 <= chance(Judge(found), DB, SHOP) <= 1.0


def test_people_correct_what_history_suggests() -> None:
    seen = history(world(2))
    # Each alert by itself: what comes together does not belong together, people say; mail does.
    groups = [[each.key] for each in seen.sightings if not each.labels["alertname"].startswith("Mail")]
    mails: dict[int, list] = {}
    for each in seen.sightings:
        if each.labels["alertname"].startswith("Mail"):
            mails.setdefault(int(each.at_s // 1800), []).append(each.key)
    taught = [
        Taught(incident=f"inc-{number}", groups=(tuple(group),))
        for number, group in enumerate([*groups, *mails.values()])
    ]
    told = fit_linker(seen, taught)
    assert told.labelled >= 200
    assert chance(Judge(told), DB, SHOP) < 0.1 < chance(Judge(fit_linker(seen)), DB, SHOP)


def test_an_alert_begins_when_its_sender_says_if_that_can_be() -> None:
    seen = START + timedelta(hours=1)
    assert begun_s(seen - timedelta(seconds=40), seen) == seen.timestamp() - 40
    assert begun_s(seen + timedelta(seconds=40), seen) == seen.timestamp()
    assert begun_s(seen - timedelta(days=2), seen) == seen.timestamp() - WINDOW_S


def test_a_pair_is_the_same_wherever_it_stands() -> None:
    told = [DB, SHOP, MAIL, sighting(30, "DbSlow", service="else", cluster="y")]
    one, other = (Columns(Topology(CHARTS), lambda _one, _other: 0.7) for _ in range(2))
    for each in told:
        one.add(traits_of(each.labels, tokens_of(each.labels), at_s=each.at_s, template=each.template, family="f", topology=Topology(CHARTS), rarity=lambda _key: 1.0))  # fmt: skip
    for each in [MAIL, MAIL, *reversed(told)]:
        other.add(traits_of(each.labels, tokens_of(each.labels), at_s=each.at_s, template=each.template, family="f", topology=Topology(CHARTS), rarity=lambda _key: 1.0))  # fmt: skip
    other.drop(2)
    first, second = np.array([0, 0, 0]), np.array([1, 2, 3])
    lag = np.array([1.0, 2.0, 3.0])
    found = one.pairs(first, second, lag)
    assert np.array_equal(found, other.pairs(3 - first, 3 - second, lag))
    columns = FEATURES[: found.shape[1]]
    assert found[0, columns.index("service")] == CALLER_LATER
    assert found[2, columns.index("service")] != SAME_SERVICE
    assert found[0, columns.index("area")] != SAME_SPACE
    assert found[2, columns.index("area")] == OTHER_CLUSTER


def compared(*told: Sighting) -> Columns:
    columns = Columns(Topology(CHARTS), lambda _one, _other: 0.7)
    for each in told:
        columns.add(traits_of(each.labels, tokens_of(each.labels), at_s=each.at_s, template=each.template, family="f", topology=Topology(CHARTS), rarity=lambda _key: 0.3))  # fmt: skip
    return columns


def test_one_alert_against_many_is_what_each_pair_is_by_itself(linker: Linker) -> None:
    columns = compared(*world(3, days=1), DB, SHOP, sighting(5, "Nothing"))
    judge, rows = Judge(linker), np.arange(columns.number)
    columns.family[rows] = rows % 7 - 1
    for one in (0, columns.number - 1, columns.number - 2):
        each = np.full(len(rows), one)
        assert np.array_equal(judge.features(columns, rows, one), judge.features(columns, rows, each))
        assert np.array_equal(judge.features(columns, one, rows), judge.features(columns, each, rows))
        assert np.array_equal(columns.nearness(slice(0, columns.number), one), columns.nearness(rows, each))
        alone = [judge.features(columns, rows[row : row + 1], one)[0] for row in (0, 3, columns.number - 1)]
        assert np.array_equal(alone, judge.features(columns, rows[[0, 3, -1]], one))


def test_a_table_of_many_families_says_what_one_of_few_does(
    linker: Linker, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = compared(*world(3, days=1))
    few = Judge(linker)
    monkeypatch.setattr(judging, "MAX_SQUARE", 0)
    many, rows = Judge(linker), np.arange(columns.number - 1)
    columns.family[: columns.number] = np.arange(columns.number) % (len(few.families) + 1) - 1
    assert np.array_equal(few.features(columns, rows, rows + 1), many.features(columns, rows, rows + 1))


def test_a_service_is_the_same_whether_or_not_its_alerts_name_a_namespace() -> None:
    told = [{"cluster": "x", "namespace": "web"}, {"cluster": "x"}, {"cluster": "y"}]
    columns = compared(
        *(sighting(0, f"A{number}", service="till", **each) for number, each in enumerate(told))
    )
    service, _ = columns.standing(np.array([0, 1]), np.array([1, 2]))
    assert service.tolist() == [SAME_SERVICE, UNCHARTED]


def test_what_stands_in_every_hour_is_common() -> None:
    common = common_of([sighting(3600 * n, "A", cluster="x", host=f"h{n}") for n in range(50)])
    assert common["cluster=x"] < 0.2
    assert "host=h1" not in common


# ---- the gate --------------------------------------------------------------------------------------------


def asked(sightings: list[Sighting], taught: tuple[Taught, ...] = ()) -> LinkAsk:
    return LinkAsk(
        tenant="default", fit=1, sightings=tuple(sightings), families={}, vectors={}, charts=CHARTS, label="service",
        taught=taught, sensitivity=0.5, window_s=900.0,
    )  # fmt: skip


def test_with_too_few_undisputed_incidents_the_fallback_stays() -> None:
    verdict = fit(asked(world(1, days=2, faults=4))).verdict
    assert verdict.way == FALLBACK
    assert "too few" in verdict.reason


def test_what_takes_overlapping_incidents_apart_best_acts() -> None:
    answer = fit(asked(world(3, days=6, faults=14)))
    assert answer.verdict.of == "isolated bursts"
    assert answer.verdict.examined < answer.verdict.units
    assert {each.way for each in answer.verdict.evidence} == {"entities", "bursts", "linker"}
    best = max(answer.verdict.evidence, key=lambda each: each.f1)
    assert answer.verdict.way == best.way == "linker"
    assert fit(asked(world(3, days=6, faults=14))) == answer
    orders = {(edge.earlier, edge.later) for edge in answer.causes.edges}
    assert orders == {("t:t-DbSlow", f"t:t-ShopErrors{number}") for number in range(5)}
    assert answer.ranker.verdict.reason.startswith("0 incidents with a named root are too few")


def test_confirmed_incidents_go_before_bursts() -> None:
    seen = world(4, days=6, faults=8)
    taught = tuple(
        Taught(incident=f"inc-{n}", groups=(tuple(each.key for each in seen[n : n + 6]),))
        for n in range(0, 6 * 48, 6)
    )
    assert fit(asked(seen, taught)).verdict.of == "confirmed incidents"


def test_confirmed_incidents_are_examined_as_they_came() -> None:
    """Three minutes of silence between them, which time alone tells apart; closer together it could not."""
    seen = [
        sighting(240.0 * number + 12.0 * place, f"Kind{place}", cluster="x")
        for number in range(60)
        for place in range(6)
    ]
    taught = tuple(
        Taught(
            incident=f"inc-{number}", groups=(tuple(each.key for each in seen[6 * number : 6 * number + 6]),)
        )
        for number in range(60)
    )
    bursts = next(each for each in fit(asked(seen, taught)).verdict.evidence if each.way == "bursts")
    assert bursts.f1 == 1.0


def test_the_exam_takes_labels_for_as_common_as_they_were_before_what_is_examined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rollout names itself in every alert of the second half."""
    known: list[dict[str, float]] = []

    def watched(history: History, *given: Any, **named: Any) -> Linker:
        known.append(history.common)
        return fit_linker(history, *given, **named)

    monkeypatch.setattr(gate, "fit_linker", watched)
    seen = [
        msgspec.structs.replace(each, labels={**each.labels, "rollout": "42"}) if each.at_s > HALF_S else each
        for each in world(3, days=6, faults=14)
    ]
    assert fit(asked(seen)).linker.common["rollout=42"] < 0.5
    examined, acting = known
    assert "rollout=42" in acting
    assert "rollout=42" not in examined
    assert examined.keys() & acting.keys(), "what was common before is"


def test_the_newest_word_about_an_episode_counts() -> None:
    one, other = DB.key, SHOP.key
    first = Taught(incident="inc-1", groups=((one, other),))
    second = Taught(incident="inc-1", groups=((one,), (other,)))
    assert spoken_of([first, second]) == {one: (1, 0), other: (1, 1)}


def test_what_was_put_together_with_something_goes_along_when_a_newer_word_names_that() -> None:
    """One incident that was corrected twice is one; what newer words took to two places says nothing of the rest."""
    one, other, third = DB.key, SHOP.key, MAIL.key
    together = Taught(incident="inc-1", groups=((one, other),))
    again = Taught(incident="inc-2", groups=((other, third),))
    assert spoken_of([together, again]) == dict.fromkeys((one, other, third), (1, 0))
    apart = Taught(incident="inc-2", groups=((one,), (other,)))
    all_of_them = Taught(incident="inc-1", groups=((one, other, third),))
    assert spoken_of([all_of_them, apart]) == {one: (1, 0), other: (1, 1)}


def test_what_comes_into_a_burst_by_chance_is_no_part_of_the_truth() -> None:
    """Six alerts of one service within seconds, and each minute after that a stranger: three minutes in all."""
    dice = random.Random(5)
    seen = []
    for number in range(60):
        at = 7200.0 * number + dice.uniform(0, 5000)
        seen += [sighting(at + place, f"Kind{place}", service="shop", cluster="x") for place in range(6)]
        seen += [
            sighting(
                at + 60.0 * place, f"Mail{dice.randrange(900)}", host=f"m-{dice.randrange(900)}", cluster="x"
            )
            for place in (1, 2, 3)
        ]
    linker = next(each for each in fit(asked(seen)).verdict.evidence if each.way == "linker")
    assert linker.recall > 0.95, "the strangers need not be found"


def test_a_way_that_is_hardly_better_does_not_act() -> None:
    def evidence(way: str, f1: float) -> Evidence:
        return Evidence(way=way, f1=f1, precision=f1, recall=f1)  # type: ignore[arg-type]

    close = [evidence("entities", 0.5), evidence("bursts", 0.80), evidence("linker", 0.89)]
    assert _decided(close, units=40, examined=16, of="isolated bursts").way == "bursts"
    clear = [evidence("entities", 0.5), evidence("bursts", 0.80), evidence("linker", 0.91)]
    assert _decided(clear, units=40, examined=16, of="isolated bursts").way == "linker"
