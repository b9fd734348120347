"""Reading answers and fitting texts: nothing raises, nothing is torn, no limit is passed."""

from __future__ import annotations

import json

import msgspec
import pytest
from builders import event
from destinations import nasty_event
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.model import Advice, EventKind
from bridge.ports import HttpResponse
from connectors.common import (
    clip,
    clip_escaped,
    excerpt,
    first_that_fit,
    fit,
    json_object,
    one_line,
    retry_after_s,
    utf8_size,
)
from connectors.credentials import Secret
from connectors.kinds.slack import escape

DATE = "Mon, 23 Nov 2026 22:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "120"}, b"", 120.0),
        ({"retry-after": " 1.5 "}, b"", 1.5),
        ({"retry-after": "Mon, 23 Nov 2026 22:00:30 GMT", "date": DATE}, b"", 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 21:00:00 GMT", "date": DATE}, b"", 0.0),  # already over
        ({"retry-after": "Mon, 23 Nov 2026 22:00:30 GMT"}, b"", None),  # nothing to measure it against
        ({"retry-after": "Mon, 23 Nov 2026 22:00:30 -0000", "date": DATE}, b"", 30.0),  # a naive date is UTC
        ({"retry-after": "soon", "date": DATE}, b"", None),
        ({"retry-after": "-5"}, b"", None),
        ({"retry-after": "1e999"}, b"", None),
        ({"retry-after": "nan"}, b"", None),
        ({}, b'{"retry_after": 0.25}', 0.25),
        ({}, b'{"retry_after_ms": 1500}', 1.5),
        ({}, b'{"retry_after": "3"}', 3.0),
        ({}, b'{"retry_after": true}', None),
        ({}, b"[1]", None),
        ({}, b"", None),
        ({"retry-after": "7"}, b'{"retry_after": 99}', 7.0),  # the header goes first
    ],
)
def test_every_form_of_retry_after_is_read(headers, body, seconds):
    assert retry_after_s(HttpResponse(status=429, headers=headers, body=body)) == seconds


@given(header=st.text(max_size=40), date=st.text(max_size=40), body=st.binary(max_size=60))
def test_no_retry_after_raises_and_none_is_negative(header, date, body):
    wait = retry_after_s(HttpResponse(status=429, headers={"retry-after": header, "date": date}, body=body))

    assert wait is None or wait >= 0


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 100_000, b'"a"', b"{", b"1e999", b'{"a":"\\ud800"}'])
def test_a_body_that_is_no_object_is_an_empty_one(body):
    assert json_object(body) == {}


def test_an_excerpt_is_one_short_printable_line():
    text = excerpt(b"<html>\r\n\x1b[31m  bad \xff\x00 " + b"x" * 5000)

    assert text.startswith(": <html> [31m bad")
    assert len(text) <= 202
    assert text.isprintable()


@pytest.mark.parametrize("spaces", range(1560, 1610, 7))
def test_no_beginning_of_a_secret_is_left_where_an_answer_is_cut(spaces):
    secret = "0123456789abcdef0123456789abcdef"
    body = b"it was " + b" " * spaces + secret.encode()

    assert "0123" not in excerpt(body, (Secret(secret),))


@pytest.mark.parametrize("spaces", [*range(0, 210, 13), *range(1560, 1610, 7)])
@pytest.mark.parametrize(
    "token", ["eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJ0b2NzaW4ifQ.c2lnbmF0dXJl-_", "ya29.a0AfH6SM-B_c.d"]
)
def test_a_token_is_hidden_wherever_it_stands_in_an_answer(token, spaces):
    text = excerpt(b"got " + b"x" * spaces + b" " * spaces + b"Bearer " + token.encode() + b", refused")

    assert "eyJpc3" not in text
    assert "a0Af" not in text


@given(st.text(), st.integers(0, 20))
def test_clipping_by_characters_keeps_the_limit(text, limit):
    assert len(clip(text, limit)) <= limit or not text
    assert clip(text, len(text)) == text


@given(st.text(alphabet="&<>aé🔥\n", max_size=60), st.integers(0, 40), st.sampled_from([len, utf8_size]))
def test_clipping_after_escaping_keeps_the_limit_and_tears_no_escape(text, limit, size):
    clipped = clip_escaped(text, limit, escape, size)
    kept = clipped.removesuffix("…").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")

    assert size(clipped) <= limit
    assert text.startswith(kept)
    assert clip_escaped(text, 1000, escape, size) == escape(text)


@given(st.text())
def test_one_line_has_no_control_character_and_keeps_its_length(text):
    assert not one_line(text) or one_line(text).isprintable()
    assert len(one_line(text)) == len(text)


def test_an_event_that_fits_is_not_touched():
    assert json.loads(fit(event(), 100_000))["incident"]["truncated"] == 0


@pytest.mark.parametrize("size", [2_000, 5_000, 20_000, 100_000, 1_000_000, 10_000_000])
def test_a_large_event_is_shortened_to_any_size_from_2_kib(size):
    shortened = fit(nasty_event(), size)
    incident = json.loads(shortened)["incident"]

    assert len(shortened) <= size
    assert len(incident["episodes"]) + incident["truncated"] == 141
    assert (incident["alerts_total"], incident["severity"]) == (100, "critical")


def test_the_worst_episodes_are_the_last_to_go():
    full = event(EventKind.UPDATED, episodes=100)
    kept = json.loads(fit(full, 10_000))["incident"]["episodes"]

    assert 0 < len(kept) < 100
    assert [each["fingerprint"] for each in kept] == [f"{number:016x}" for number in range(len(kept))]


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
@settings(max_examples=30)
def test_the_order_in_which_labels_came_changes_no_byte(labels):
    turned = dict(reversed(labels.items()))

    assert fit(event(common_labels=labels), 10**6) == fit(event(common_labels=turned), 10**6)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=8), st.integers(1, 30))
def test_a_batch_takes_as_many_as_fit_and_at_least_one(bodies, size):
    count = first_that_fit(bodies, size, joint_bytes=1)

    assert 1 <= count <= len(bodies)
    assert count == 1 or len(b"\n".join(bodies[:count])) <= size
    assert count == len(bodies) or len(b"\n".join(bodies[: count + 1])) > size


def test_recommendations_are_shortened_and_at_last_left_out():
    advice = tuple(
        Advice(about="done", text=f"{number} " + "t" * 390, score=1.0, evidence=("e" * 390,) * 3)
        for number in range(5)
    )
    told = msgspec.structs.replace(event(EventKind.RECOMMENDATION, episodes=()), recommendations=advice)
    whole = len(fit(told, 1 << 20))
    short = json.loads(fit(told, whole - 100))
    assert len(short["recommendations"]) == 5
    assert {len(each["evidence"]) for each in short["recommendations"]} == {1}
    bare = json.loads(fit(told, 3000))
    assert "recommendations" not in bare
    assert bare["event_id"] == told.event_id
