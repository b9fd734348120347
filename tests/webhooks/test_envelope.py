from __future__ import annotations

import contextlib
import json
import tracemalloc

import pytest
from bodies import HOPELESS, alert, body
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import PayloadError
from bridge.webhooks import envelope
from bridge.webhooks.envelope import HANDFUL, MAX_ALERTS, MAX_DEPTH, check, opened

GOOD = {
    "no alerts at all": (body(), 0),
    "one alert": (body(alert()), 1),
    "10,000 alerts": (body(*[alert()] * 10_000), 10_000),
    "another version": (body(alert(), version="5"), 1),
    "no version": (b'{"alerts": [{}]}', 1),
    "unknown fields": (body(alert(mood="bad"), routeLabels={"a": "b"}, notification_reason="unknown"), 1),
    "alerts that are none": (b'{"alerts": [1, null, "x", []]}', 4),
    "the last of two lists counts": (b'{"alerts": [1, 2], "alerts": [1, 2, 3]}', 3),
    "a number that no float holds": (b'{"alerts": [{"value": 1e400}], "truncatedAlerts": -1e999}', 1),
    "a NUL as an escape": (rb'{"alerts": [{"labels": {"a": "\u0000"}}]}', 1),
    "a surrogate pair": (rb'{"alerts": [{"labels": {"a": "\ud83d\ude00"}}]}', 1),
    "a backslash and ud800": (rb'{"alerts": [{"labels": {"a": "\\ud800"}}]}', 1),
    "every script": (body(alert(labels={"a": "č 中 🔔 ש e\u0301"})), 1),
    "white space": (b' {\n"alerts"\t: [ { } , { } ] } \r\n', 2),
    "brackets in strings are no levels": (body(*[alert(annotations={"a": "[{" * 500})] * 40), 40),
    "as deep as allowed": (
        b'{"alerts": [], "x": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
        0,
    ),
    "many brackets, few levels": (b'{"alerts": [' + b",".join([b"[[],[[]]]"] * 1000) + b"]}", 1000),
}


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch):
    """Let every body count as small, or as large, looked through in pieces of a few bytes."""
    monkeypatch.setattr(envelope, "LARGE_BYTES", 1 << 30 if request.param == "small" else 0)
    if request.param == "large":
        monkeypatch.setattr(envelope, "WALK_BYTES", 1000)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("sent", GOOD)
def test_takes_what_can_be_a_webhook(sent):
    text, alerts = GOOD[sent]
    assert check(text) == alerts
    assert len(opened(text).alerts) == alerts


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("sent", HOPELESS)
def test_refuses_what_can_never_be_one_and_says_why(sent):
    text, reason = HOPELESS[sent]
    with pytest.raises(PayloadError, match=reason) as refused:
        check(text)
    assert len(str(refused.value)) < 200


def levels(value) -> int:
    """Count the levels of nesting the plain way."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels, inner), default=0)


texts = st.text(alphabet='[]{}"\\\x00abč', max_size=6)
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=30,
)


@given(
    st.lists(values, max_size=40), values, st.booleans(), st.integers(1, 14), st.sampled_from((0, 1 << 20)),
    st.integers(1, 9),
)  # fmt: skip
def test_depth_and_number_are_judged_exactly(alerts, beside, escaped, limit, large, piece):
    """With a low limit, so that random bodies lie on both sides of it; as small ones and as large ones."""
    sent = {"alerts": alerts, "beside": beside}
    text = json.dumps(sent, ensure_ascii=escaped).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envelope, "MAX_DEPTH", limit)
        patch.setattr(envelope, "HANDFUL", 3)
        patch.setattr(envelope, "LARGE_BYTES", large)
        patch.setattr(envelope, "WALK_BYTES", piece)
        if levels(sent) <= limit:
            assert check(text) == len(alerts)
        else:
            with pytest.raises(PayloadError, match="nested deeper"):
                check(text)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_raises_nothing_but_a_payload_error(noise):
    for text in (noise, b'{"alerts": [' + noise + b"]}", b'{"alerts": [], "x": "' + noise + b'"}'):
        try:
            check(text)
        except PayloadError:
            continue
        text.decode()
        assert isinstance(json.loads(text)["alerts"], list)


def test_a_character_may_lie_across_two_pieces(monkeypatch):
    monkeypatch.setattr(envelope, "PIECE_BYTES", 64)
    for shift in range(70):
        text = body(receiver="x" * shift + "🔔中č")
        assert check(text) == 0
        for cut in ("🔔", "中", "č"):
            with pytest.raises(PayloadError, match="not UTF-8"):
                check(text.replace(cut.encode(), cut.encode()[:-1]))


def test_depth_is_found_in_every_handful_and_in_large_bodies(monkeypatch):
    monkeypatch.setattr(envelope, "PIECE_BYTES", 64)
    deep = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    for place in (0, HANDFUL - 1, HANDFUL, 3 * HANDFUL + 1):
        alerts = ["{}"] * (4 * HANDFUL)
        alerts[place] = deep
        with pytest.raises(PayloadError, match="nested deeper"):
            check(f'{{"alerts": [{",".join(alerts)}], "x": "{"y" * 10_000}"}}'.encode())


@pytest.mark.parametrize("text", [b"0", b"{}", b'{"labels": {"a": "b, c"}}'])
def test_the_number_of_alerts_is_bounded(text):
    for large in (b"", b'"x": "' + b"y" * (1 << 20) + b'", '):
        assert check(b'{%b"alerts": [%b]}' % (large, b",".join([text] * MAX_ALERTS))) == MAX_ALERTS
        with pytest.raises(PayloadError, match="more than 100000 alerts in one body: group by more labels"):
            check(b'{%b"alerts": [%b]}' % (large, b",".join([text] * (MAX_ALERTS + 1))))


@pytest.mark.parametrize("unit", [b"0,", b"{},", b'"",', b'"[",', b"[" * 90 + b"]" * 90 + b","])
@pytest.mark.parametrize("place", [b'{"alerts": [%b0]}', b'{"alerts": [], "x": [%b0]}'])
def test_the_check_of_a_large_body_needs_no_memory_beside_it(unit, place):
    text = place % (unit * ((8 << 20) // len(unit)))
    tracemalloc.start()
    with contextlib.suppress(PayloadError):  # too many of them
        check(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 << 20
