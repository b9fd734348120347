"""Templates: what varies between two alerts of one rule is masked, what tells rules apart is not."""

from __future__ import annotations

import re._constants as kind  # the parse tree of a pattern, to look for repeats that could try twice
import re._parser as parser
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis import text
from bridge.analysis.text import FIELD_LIMIT, TEXT_LIMIT, TemplateCache, template_of
from bridge.model import Alert

WHEN = datetime(2026, 11, 23, tzinfo=UTC)


def alert(summary: str = "", *, fingerprint: str = "f", description: str = "", **labels: str) -> Alert:
    told = {"summary": summary, "description": description}
    return Alert(
        tenant="default",
        source="default",
        fingerprint=fingerprint,
        labels={"alertname": "Rule", **labels},
        annotations={name: value for name, value in told.items() if value},
        firing=True,
        starts_at=WHEN,
        ends_at=None,
    )


def said(summary: str, **labels: str) -> str:
    return template_of(alert(summary, **labels)).text.removeprefix("Rule: ")


@pytest.mark.parametrize(
    ("summary", "labels", "masked"),
    [
        ("Instance web-0:9100 down", {"instance": "web-0:9100"}, "Instance <label> down"),
        ("web-01 is not web-0", {"instance": "web-0"}, "web-<num> is not <label>"),
        ("disk /var/lib on a/b", {"mount": "/var", "path": "a/b"}, "disk <label>/lib on <label>"),
        ("pod web-0 of web", {"app": "web", "pod": "web-0"}, "pod <label> of <label>"),
        ("主机web-0宕机", {"instance": "web-0"}, "主机<label>宕机"),
        ("webüber und web", {"app": "web"}, "webüber und <label>"),
        ("a label in <label>", {"team": "label"}, "a <label> in <<label>>"),
        ("critical disk is down", {"level": "critical", "state": "down"}, "critical disk is down"),
        ("disk a is full", {"disk": "a"}, "disk a is full"),
        ("Rule broke", {}, "Rule broke"),
        ("one  two\n\tthree", {"x": "one  two"}, "<label> three"),
        ("a-b-a-b-c", {"x": "a-b", "y": "b-c"}, "<label>-<label>-c"),
        ("empty", {"x": ""}, "empty"),
        ("one\x00two", {}, "one two"),
    ],
)
def test_label_values_are_masked_as_whole_words_the_longest_first(
    summary: str, labels: dict[str, str], masked: str
) -> None:
    assert said(summary, **labels) == masked


@pytest.mark.parametrize(
    ("varying", "masked"),
    [
        ("93.2", "<num>"),
        ("93%", "<num>"),
        ("-1.5e+06", "<num>"),
        ("1.234k", "<num>"),
        ("2.5GiB", "<num>"),
        ("1,234,567", "<num>"),
        ("1h 2m 3.5s", "<num>"),
        ("1h2m3.5s", "<num>"),
        ("+Inf", "<num>"),
        ("NaN%", "<num>"),
        ("v1.28.3", "<num>"),
        ("12345678", "<num>"),
        ("10:30:05.123", "<time>"),
        ("2026-11-23", "<time>"),
        ("2026-11-23T19:05:32.435062Z", "<time>"),
        ("2026-11-23T19:05:32+01:00", "<time>"),
        ("550e8400-e29b-41d4-a716-446655440000", "<id>"),
        ("4f3a2b1c9d", "<id>"),
        ("0x7ffde", "<id>"),
        ("10.0.0.7", "<ip>"),
        ("10.0.0.7:9100", "<ip>"),
        ("10.0.0.0/8", "<ip>"),
        ("fe80::1ff:fe23:4567:890a", "<ip>"),
        ("::1", "<ip>"),
        ("https://grafana.example.com/d/x?var=1", "<url>"),
    ],
)
def test_what_varies_without_a_label_is_masked_by_its_sort(varying: str, masked: str) -> None:
    assert said(f"was {varying} now") == f"was {masked} now"
    assert said(f"was ({varying}), now {varying}.") == f"was ({masked}), now {masked}"


@pytest.mark.parametrize(
    "word", ["p99", "5xx", "k8s", "sda1", "2nd", "defaced", "deadbeef", "std::string", "web_0", "e2e"]
)
def test_a_digit_inside_a_word_stays(word: str) -> None:
    assert said(f"the {word} thing") == f"the {word} thing"


def test_the_alert_name_stays_but_for_machine_names() -> None:
    assert template_of(alert("x", alertname="node-down 90", job="node")).text == "node-down 90: x"
    assert template_of(alert("x", alertname="Down on web-17", host="web-17")).text == "Down on <label>: x"


def test_an_alert_that_says_nothing_has_its_name_for_a_text() -> None:
    assert template_of(alert()).text == "Rule"
    assert template_of(alert(alertname="")).text == "unnamed alert"
    assert template_of(alert("full", alertname="")).text == "unnamed alert: full"


def test_a_description_that_repeats_the_summary_is_told_once() -> None:
    assert template_of(alert("Disk full.", description="Disk full.")).text == "Rule: Disk full"
    assert template_of(alert("Disk full.", description="Run.")).text == "Rule: Disk full. Run"


def test_the_id_is_the_text_and_nothing_else() -> None:
    one, other = alert("up 3 s on web-0", host="web-0"), alert("up 9 s on db", host="db", zone="west")
    assert template_of(one) == template_of(other)
    assert re_hex(template_of(one).id)
    assert template_of(one).id != template_of(alert("down 3 s")).id


def test_the_id_is_the_same_in_every_process_and_release() -> None:
    """Changing it orphans every stored vector: then this line is changed on purpose."""
    assert template_of(alert("up 3 s on web-0", host="web-0")).id == "c8cbd40b4d937057"


def re_hex(value: str) -> bool:
    return len(value) == 16 and set(value) <= set("0123456789abcdef")


TEXTS = st.text(alphabet=st.sampled_from("ab0:/.-_ \n\x00é主%<>"), max_size=60)
LABELS = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.text("ab0-/.", max_size=5), max_size=4)


@given(summary=TEXTS, labels=LABELS, data=st.data())
def test_the_order_of_labels_does_not_matter(
    summary: str, labels: dict[str, str], data: st.DataObject
) -> None:
    names = data.draw(st.permutations(sorted(labels)))
    assert said(summary, **labels) == said(summary, **{name: labels[name] for name in names})


@given(summary=st.text(), labels=st.dictionaries(st.text(), st.text(), max_size=4))
def test_any_text_gets_one_bounded_line(summary: str, labels: dict[str, str]) -> None:
    one = alert(summary)
    template = template_of(msgspec.structs.replace(one, labels=labels))
    assert len(template.text) <= TEXT_LIMIT
    assert template.text == " ".join(template.text.split())
    assert "\x00" not in template.text


@given(head=TEXTS, piece=st.text("a0.:/-,+ ex", min_size=1, max_size=6))
def test_a_longer_text_costs_nothing_beyond_the_limit(head: str, piece: str) -> None:
    long = head + piece * FIELD_LIMIT
    assert template_of(alert(long)) == template_of(alert(long * 2))


def repeats(tree: Any) -> list[tuple[str, int]]:
    """Return (operator, upper bound) of each repeat in a parsed pattern."""
    found: list[tuple[str, int]] = []
    for operator, argument in tree:
        if operator in {kind.MAX_REPEAT, kind.MIN_REPEAT, kind.POSSESSIVE_REPEAT}:
            _, upper, inner = argument
            found += [(str(operator), int(upper)), *repeats(inner)]
        elif operator is kind.BRANCH:
            found += [repeat for branch in argument[1] for repeat in repeats(branch)]
        elif operator is kind.SUBPATTERN:
            found += repeats(argument[3])
        elif operator in {kind.ASSERT, kind.ASSERT_NOT}:
            found += repeats(argument[1])
        elif operator is kind.ATOMIC_GROUP:
            found += repeats(argument)
    return found


@pytest.mark.parametrize(
    "pattern", [text._PATTERN, text._NUMBERS, text._DIGIT_OR_SIGN], ids=["mask", "runs", "candidate"]
)
def test_no_pattern_can_try_an_unbounded_repeat_twice(pattern: Any) -> None:
    for operator, upper in repeats(parser.parse(pattern.pattern, pattern.flags)):
        assert upper <= 16 or operator == "POSSESSIVE_REPEAT"


def test_the_mask_starts_at_word_boundaries_only() -> None:
    first = parser.parse(text._PATTERN.pattern, text._PATTERN.flags)[0]
    assert first[0] is kind.ASSERT_NOT
    assert first[1][0] == -1  # looks behind


# ---- the cache -------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.builds(
            alert,
            st.sampled_from(["a 1", "a 2", "b x", ""]),
            fingerprint=st.sampled_from(["f", "g", "h"]),
            host=st.sampled_from(["x", "yy", "a"]),
        ),
        max_size=30,
    )
)
def test_the_cache_never_changes_an_answer_even_if_fingerprints_lie(alerts: list[Alert]) -> None:
    cache = TemplateCache(entries=2)
    for each in alerts:
        assert cache.template_of(each) == template_of(each)
        assert len(cache) <= 2


def test_a_resend_gets_the_remembered_template() -> None:
    cache = TemplateCache()
    first = cache.template_of(alert("up on web-0", host="web-0"))
    assert cache.template_of(alert("up on web-0", host="web-0")) is first


def test_the_alert_seen_longest_ago_is_forgotten_first() -> None:
    cache = TemplateCache(entries=2)
    first = cache.template_of(alert("one", fingerprint="1"))
    second = cache.template_of(alert("two", fingerprint="2"))
    assert cache.template_of(alert("one", fingerprint="1")) is first
    cache.template_of(alert("three", fingerprint="3"))
    assert cache.template_of(alert("one", fingerprint="1")) is first
    assert cache.template_of(alert("two", fingerprint="2")) is not second


def test_a_huge_alert_is_not_kept() -> None:
    cache = TemplateCache(entry_limit=1000)
    cache.template_of(alert("x", host="h" * 1000))
    assert len(cache) == 0
