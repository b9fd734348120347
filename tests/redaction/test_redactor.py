"""The redactor: rules by name, placeholders, hashes; once is enough, and no order matters."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.redaction import KINDS, Redact, Redactor, Redactors, Rule, key_of, takes

KEY = key_of(b"k" * 32, "acme")
ALL = Redact(
    labels=(Rule(name="user", action="hash"), Rule(name="*_token", action="drop"), Rule(regex="(?i)cust.*", action="mask")),
    annotations=(Rule(name="query", action="mask"), Rule(name="raw", action="drop")),
    email="hash", ip="hash", card="mask", phone="mask",
)  # fmt: skip
HASH = r"c?[a-f][0-9a-f]{15}"
SENSITIVE = st.sampled_from(
    ["password=hunter2", "a@b.example", "10.0.0.1", "::1", "4111 1111 1111 1111", "+41446681800", "hunter2", "alice",
     "postgres://a:b@10.0.0.1/", "token: x", "<secret>", "<ip:a123456789012345>", "<masked>", "<", ">", "\n", " ", '"', "\\",
     "=", ":", "-----BEGIN PRIVATE KEY-----", "bearer abcdefghijklmn", "é", "x"]
)  # fmt: skip
TEXTS = st.lists(SENSITIVE, max_size=6).map("".join) | st.text(max_size=30)
TREATMENTS = st.sampled_from(["keep", "mask", "hash"])
REDACTS = st.builds(
    lambda treatments, rules: Redact(labels=tuple(rules), **dict(zip(KINDS, treatments, strict=True))),
    st.tuples(*[TREATMENTS] * len(KINDS)),
    st.lists(st.builds(Rule, name=st.sampled_from(["user", "us*", "u?er", "pod", "*"]),
                       action=st.sampled_from(["drop", "mask", "hash", "keep"])), max_size=3),
)  # fmt: skip
LABELS = st.dictionaries(st.sampled_from(["user", "pod", "ip", "a@b.example", "password"]), TEXTS, max_size=4)


def redactor(redact: Redact = ALL, key: bytes = KEY) -> Redactor:
    return Redactor(redact, key)


def test_the_golden_alert():
    told = redactor()
    labels = {
        "alertname": "LoginFailed", "user": "alice", "x_token": "abc", "Customer": "Big Corp", "severity": "critical",
        "pod": "api-7d9f8b6c5-x2x4z", "instance": "10.0.0.1:9100", "password": "hunter2",
    }  # fmt: skip
    user, ip = told.labels({"user": "alice"})["user"], told.text("10.0.0.1")
    assert re.fullmatch(rf"<hash:{HASH}>", user)
    assert re.fullmatch(rf"<ip:{HASH}>", ip)
    assert told.labels(labels) == {
        "alertname": "LoginFailed", "user": user, "Customer": "<masked>", "severity": "critical",
        "pod": "api-7d9f8b6c5-x2x4z", "instance": f"{ip}:9100", "password": "<secret>",
    }  # fmt: skip
    follow = told.followed(labels)
    annotations = {"summary": "alice of Big Corp at 10.0.0.1, not malice", "query": "select 1", "raw": "x"}
    assert told.annotations(annotations, follow) == {
        "summary": f"{user} of <masked> at {ip}, not malice", "query": "<masked>"
    }  # fmt: skip
    assert follow("http://x/?u=alice&c=Big+Corp&d=Big%20Corp") == f"http://x/?u={user}&c=<masked>&d=<masked>"
    key = '{}/{team="db"}:{alertname="A", user="alice", x_token="abc", instance="10.0.0.1:9100"}'
    assert told.group_key(key) == (
        f'{{}}/{{team="db"}}:{{alertname="A", user="{user}", x_token="<masked>", instance="{ip}:9100"}}'
    )


def test_hashes_are_the_same_for_the_same_value_and_differ_between_tenants_and_keys():
    def hashed(master: bytes, tenant: str, value: str) -> str:
        return Redactors(master).of(tenant, ALL).labels({"user": value})["user"]

    same = hashed(b"k" * 32, "acme", "alice")
    assert hashed(b"k" * 32, "acme", "alice") == same
    others = {
        hashed(b"k" * 32, "acme", "bob"),
        hashed(b"k" * 32, "other", "alice"),
        hashed(b"x" * 32, "acme", "alice"),
    }
    assert len({same, *others}) == 4


def test_every_byte_of_a_long_key_counts():
    assert key_of(b"k" * 64 + b"a", "acme") != key_of(b"k" * 64 + b"b", "acme")


def test_counts_say_what_was_taken_without_values():
    told = redactor()
    told.labels({"user": "alice", "x_token": "a", "instance": "10.0.0.1"})
    told.annotation("query", "select 1")
    told.text("a@b.example and 10.0.0.2")
    told.text("a@b.example and 10.0.0.2")  # from memory
    assert told.counts == {"label": 2, "annotation": 1, "ip": 3, "email": 2}


def test_keep_by_name_lets_no_detector_look():
    kept = redactor(Redact(labels=(Rule(name="digest", action="keep"),), ip="mask"))
    assert kept.labels({"digest": "10.0.0.1", "ip": "10.0.0.1"}) == {"digest": "10.0.0.1", "ip": "<ip>"}


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ([("user", "hash"), ("u*", "mask")], "<masked>"),
        ([("u*", "mask"), ("user", "drop")], None),
        ([("us??", "keep"), ("user", "mask")], "<masked>"),
        ([("u?", "drop")], "alice"),
        ([("User", "drop")], "alice"),
        ([("u.*", "drop")], "alice"),
    ],
)
def test_the_strongest_rule_acts_in_whatever_order(rules, left):
    for order in (rules, rules[::-1]):
        told = redactor(Redact(labels=tuple(Rule(name=name, action=action) for name, action in order)))
        assert told.labels({"user": "alice"}).get("user") == left


def test_what_is_taken_can_be_asked():
    rules = (Rule(regex=".*severity", action="hash"), Rule(name="alertname", action="keep"))
    assert [takes(rules, name) for name in ("severity", "alertname", "pod")] == [True, False, False]


def test_an_expression_that_is_none_is_refused():
    with pytest.raises(ValueError, match="not a regular expression"):
        redactor(Redact(labels=(Rule(regex="(", action="drop"),)))


def test_an_alert_with_more_such_labels_than_can_be_looked_for_keeps_no_texts():
    told = redactor(Redact(labels=(Rule(name="*", action="mask"),)))
    follow = told.followed({f"label{number}": f"value{number}" for number in range(200)})
    assert follow("value7 is down") == "<masked>"


def test_nothing_stays_nothing():
    assert redactor().labels({"user": "", "password": ""}) == {"user": "", "password": ""}


def test_broken_json_is_redacted_by_the_names_in_it():
    broken = (
        '{"labels":{"user":"alice","x_token": 5,"password":"hun\\"ter2"},"a":"mail a@b.example, password=abc'
    )
    left = redactor().raw(broken)
    for gone in ("alice", "hun", "ter2", "a@b.example", "abc", " 5"):
        assert gone not in left, gone
    assert redactor().raw(left) == left


@settings(deadline=None)
@given(REDACTS, TEXTS)
@example(ALL, "a@b.com4111111111111111")
@example(ALL, "password=<secret>x 10.0.0.1<ip>10.0.0.2")
def test_once_is_enough(redact, text):
    told = redactor(redact)
    once = told.text(text)
    assert told.text(once) == redactor(redact).text(once) == once
    raw = told.raw(text)
    assert told.raw(raw) == raw
    key = told.group_key(f'{{}}:{{user="{text}"}}')
    assert told.group_key(key) == key


@settings(deadline=None)
@given(REDACTS, LABELS, LABELS)
def test_once_is_enough_for_labels_and_no_order_of_them_matters(redact, labels, annotations):
    told = redactor(redact)
    once = told.labels(labels)
    assert told.labels(once) == once
    backwards = dict(reversed(labels.items()))
    assert told.labels(backwards) == once
    noted = told.annotations(annotations, told.followed(labels))
    assert told.annotations(dict(reversed(annotations.items())), told.followed(backwards)) == noted
    assert told.annotations(noted, told.followed(once)) == noted


@settings(deadline=None)
@given(TEXTS)
def test_no_order_of_rules_matters(text):
    rules = [Rule(name=name, action=action) for name in ("user", "u*") for action in ("hash", "mask")]
    told = [redactor(Redact(labels=tuple(order))).labels({"user": text}) for order in (rules, rules[::-1])]
    assert told[0] == told[1]
