"""Linking: the score says what each reason is worth, and a sentence says which ones there were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bridge.analysis.clustering import JOIN_AT
from bridge.analysis.entities import GENERIC_WEIGHT, tokens_of
from bridge.analysis.linking import (
    LEAST_RARITY,
    Features,
    Link,
    burst,
    explain,
    family_token,
    group_token,
    likeness,
    probability,
    worth,
)

NOTHING = Features(
    lag_s=0.0, burst=0.0, shared=0.0, shared_keys=(), same_kind=False, family=0.0, text=None, group=0.0
)


def test_a_family_and_a_group_are_found_under_keys_that_no_label_can_have() -> None:
    labels = {"family": "x", "group": "am {}:{host=y}"}
    named = [token.key for token in tokens_of(labels)]
    assert len({family_token("x"), group_token("am", '{}:{host="y"}'), *named}) == 4


def test_a_group_is_that_of_one_source() -> None:
    assert group_token("am", '{}:{service="db"}') != group_token("am2", '{}:{service="db"}')


@pytest.mark.parametrize(
    ("group_key", "says"),
    [
        ('{}:{alertname="X", service="db"}', True),
        ('{}/{severity!="info",team=~"db|net"}:{namespace="shop"}', True),
        ('{}:{instance="a:{c"}', False),
        ("", False),
        ("{}:{}", False),  # no group_by
        ('{}/{service="db"}:{}', False),  # a route's matchers are not what is grouped by
        ('{}:{alertname="X"}', False),  # that is what families are for
        ('{}:{cluster="prod", alertname="X"}', False),
        ("what another sender writes", False),
        ("x:{", False),
    ],
)
def test_a_group_says_something_if_its_labels_name_a_thing(group_key: str, *, says: bool) -> None:
    assert bool(group_token("am", group_key)) is says


def test_what_everything_shares_is_worth_little_but_a_host_keeps_half() -> None:
    tokens = tokens_of({"instance": "db-1", "namespace": "shop", "monitor": "prod"})
    rare = dict(worth(tokens, lambda _key: 1.0))
    common = dict(worth(tokens, lambda _key: 0.0))
    assert [rare[token] for token in tokens] == [1.0, 0.5, 0.25]
    assert [common[token] for token in tokens] == [LEAST_RARITY, 0.0, 0.0]
    assert LEAST_RARITY >= GENERIC_WEIGHT, "where all runs on one machine, a burst is one incident"


# ---- the score ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "joins"),
    [
        ({"burst": 1.0}, False),  # at the same moment, nothing else
        ({"shared": 1.0}, True),  # the same labels, however long ago
        ({"shared": 0.5}, False),
        ({"shared": 0.5, "burst": 0.5}, True),
        ({"family": 1.0}, False),
        ({"family": 1.0, "burst": 0.5}, True),
        ({"group": 1.0}, False),
        ({"group": 1.0, "burst": 0.6}, True),
        ({"text": 1.0}, False),
        ({"text": 1.0, "family": 1.0}, True),
    ],
    ids=str,
)
def test_what_is_enough_to_join(known: dict[str, float], joins: bool) -> None:
    assert (probability(replace(NOTHING, **known), 0.5) >= JOIN_AT) is joins


_shares = st.floats(0, 1)
_features = st.builds(
    replace, st.just(NOTHING), burst=_shares, shared=_shares, family=_shares, group=_shares,
    text=st.none() | _shares,
)  # fmt: skip


@given(_features, st.sampled_from(("burst", "shared", "family", "group", "text")), _shares)
def test_nothing_that_alerts_have_in_common_speaks_against_them(
    features: Features, name: str, more: float
) -> None:
    value = getattr(features, name) or 0.0
    better = replace(features, **{name: max(value, more)})
    assert 0.0 < probability(features, 0.5) <= probability(better, 0.5) < 1.0


@given(_features, _shares, _shares)
def test_sensitivity_joins_more(features: Features, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert probability(features, low) <= probability(features, high)


def test_a_text_that_is_not_known_changes_nothing() -> None:
    assert probability(replace(NOTHING, text=None), 0.5) == probability(replace(NOTHING, text=0.0), 0.5)


def test_time_fades() -> None:
    assert burst(-5.0) == burst(0.0) == 1.0
    assert burst(90.0) == pytest.approx(0.3679, abs=1e-4)
    assert burst(900.0) < 0.001


def test_likeness_is_the_cosine() -> None:
    one, other, between = (np.array(vector, dtype="<f2").tobytes() for vector in ([1, 0], [0, 1], [0.6, 0.8]))
    assert (likeness(one, one), likeness(one, other)) == (1.0, 0.0)
    assert likeness(one, between) == likeness(between, one) == pytest.approx(0.6, abs=1e-3)


# ---- the reasons -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chance", "known", "sentence"),
    [
        (0.9514, {"lag_s": 4.2, "shared_keys": ("host=db-1",)}, "same host db-1, 4 s apart (p=0.95)"),
        (
            0.8,
            {"lag_s": 119.4, "shared_keys": ("host=db-1", "rack=r7", "zone=a", "env=prod"), "group": 0.2},
            "same host db-1, rack r7, zone a, same Alertmanager group, 119 s apart (p=0.80)",
        ),
        (
            0.5,
            {"lag_s": 600.0, "family": 0.01, "same_kind": True, "text": 0.9},  # one kind includes one text
            "same kind of alert, 10 min apart (p=0.50)",
        ),
        (0.5, {"family": 0.5}, "similar kind of alert, 0 s apart (p=0.50)"),
        (0.7, {"text": 0.6049}, "similar text (0.60), 0 s apart (p=0.70)"),
        (0.7, {"text": 0.59}, "0 s apart (p=0.70)"),
        (0.7, {"lag_s": 1.0, "shared_keys": ("selector=a=b",)}, "same selector a=b, 1 s apart (p=0.70)"),
        (
            1.0,
            {
                "lag_s": 120.0,
                "shared_keys": ("service=shop",),
                "family": 1.0,
                "same_kind": True,
                "group": 1.0,
            },
            "same service shop, same kind of alert, same Alertmanager group, 2 min apart (p=1.00)",
        ),
    ],
)
def test_why_an_alert_joined(chance: float, known: dict[str, object], sentence: str) -> None:
    assert explain(Link(probability=chance, features=replace(NOTHING, **known))) == sentence
