from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.matchers import Matcher, all_hold, parse, parse_list

OPERATORS = st.sampled_from(["=", "!=", "=~", "!~"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ('team="db"', {"team": "db"}, True),
        ('team="db"', {"team": "dba"}, False),
        ('team!="db"', {"team": "dba"}, True),
        ('team!="db"', {}, True),  # a missing label is "", which is not "db"
        ('team=""', {}, True),
        ('team!=""', {}, False),
        ('team=~"db|net"', {"team": "net"}, True),
        ('team=~"db|net"', {"team": "network"}, False),  # the whole value, not its beginning
        ('team=~"b"', {"team": "db"}, False),  # nor its end
        ('team=~".+"', {}, False),
        ('team=~".*"', {}, True),
        ('team!~"db.*"', {"team": "dba"}, False),
        ('team!~"db.*"', {}, True),
        ('text=~"a.*b"', {"text": "a\nb"}, True),  # as Prometheus 3: the dot matches a newline
        ('team=~"(?i)DB"', {"team": "db"}, True),
        ("team=db", {"team": "db"}, True),
        ("team=~db|net.+", {"team": "db"}, True),
        ("  team =~ db ", {"team": "db"}, True),
        ("{team=db}", {"team": "db"}, True),
        ("team='db'", {"team": "db"}, True),
        ("path=~`C:\\\\.+`", {"path": "C:\\x"}, True),
        ('"service.name"="shop"', {"service.name": "shop"}, True),
        ('"имя"="магазин"', {"имя": "магазин"}, True),
        (r'a="line\nbreak \"x\" \u00e9 \xc3\xa9 \\"', {"a": 'line\nbreak "x" é é \\'}, True),
        (r"a=~`[*+]+`", {"a": "*+"}, True),
        (r"a=~`\++`", {"a": "++"}, True),
        ('a=~"[[:alpha:]]+"', {"a": "db"}, True),
        (r"a=~`\d`", {"a": "\u0663"}, False),  # an Arabic three: RE2's \d is ASCII
        ("url=http://x/?a=b", {"url": "http://x/?a=b"}, True),
    ],
)
def test_a_matcher_holds_as_it_does_in_prometheus(text, labels, expected):
    assert parse(text).holds(labels) is expected


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "empty"),
        ("team", "expected =, !=, =~ or !~"),
        ("=db", "expected a label name"),
        ("service.name=x", "expected =, !="),
        ("1a=b", "stands in quotes"),
        ("team=", 'an empty one is ""'),
        ("team==db", "one = instead of =="),
        ('team="db', 'closing " is missing'),
        ("summary=two words", "stands in quotes"),
        ("{team=db", "expected , or }"),
        ("team=db}", "expected a comma or the end"),
        ("team=~[0-9]{2}", "stands in quotes"),
        ('team=~"("', "not a regular expression"),
        ('team=~"a(?!b)"', "lookaround"),
        ('team=~"(a)\\\\1"', "backreferences"),
        ('team=~"a++"', "bad repetition"),
        ('team=~"a{1001}"', "repetition size"),
        (r'team=~"\d+"', r"write \\d"),
        (r'team="\xff"', "UTF-8"),
        (r'team="\ud800"', "not a character"),
        ('""="b"', "cannot be empty"),
        ("a=b,c=d", "holds 2 matchers where one is needed"),
        ("{}", "holds 0 matchers"),
    ],
)
def test_a_wrong_matcher_says_what_to_write(text, advice):
    with pytest.raises(ValueError, match=re.escape(advice)):
        parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", []),
        ('{a="b",c=~"d"}', ['a="b"', 'c=~"d"']),
        ('{ a = "b" , c !~ "d" , }', ['a="b"', 'c!~"d"']),
        ("a=b,c!=d", ['a="b"', 'c!="d"']),
        ('a="x,y}"', ['a="x,y}"']),
    ],
)
def test_lists_are_read_in_order(text, expected):
    assert [matcher.text for matcher in parse_list(text)] == expected


def test_all_must_hold_and_none_hold_for_everything():
    both = parse_list('{team="db",env!="dev"}')
    assert all_hold(both, {"team": "db"})
    assert not all_hold(both, {"team": "db", "env": "dev"})
    assert all_hold((), {})


def test_doubled_backslashes_are_not_mistaken_for_backreferences():
    assert parse(r'a=~"\\\\1"').holds({"a": "\\1"})


def test_an_expression_that_other_engines_backtrack_on_costs_nothing():
    assert not parse('handler=~"(/?[a-z]+)+"').holds({"handler": "/" + "abcdefghij" * 400 + "X"})


@given(TEXT.filter(bool), st.sampled_from(["=", "!="]), TEXT)
def test_text_of_a_matcher_reads_back_equal(name, operator, value):
    matcher = Matcher(name, operator, value)
    assert parse(matcher.text) == matcher
    assert parse_list("{" + matcher.text + "}") == (matcher,)


@given(st.text(max_size=60))
def test_any_text_is_a_matcher_or_a_value_error(text):
    try:
        found = parse_list(text)
    except ValueError:
        return
    assert parse_list("{" + ",".join(matcher.text for matcher in found) + "}") == found


@given(TEXT, TEXT)
def test_an_operator_and_its_negation_never_agree(value, actual):
    labels = {"a": actual}
    assert Matcher("a", "=", value).holds(labels) is not Matcher("a", "!=", value).holds(labels)


@given(st.from_regex(r"[a-z0-9|.*+?]{0,8}", fullmatch=True), TEXT)
def test_a_regular_expression_and_its_negation_never_agree(value, actual):
    try:
        positive, negative = Matcher("a", "=~", value), Matcher("a", "!~", value)
    except ValueError:
        return
    assert positive.holds({"a": actual}) is not negative.holds({"a": actual})
