"""What every destination promises, whatever its kind: one suite, all configurations."""

from __future__ import annotations

import json

import pytest
from builders import START, at, event
from destinations import CASES, EXPECTED, NASTY, SECRETS, build, expected_of, nasty_event, wire
from expected import payload
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import connectors
from bridge.errors import ConfigError
from bridge.model import (
    Blocked,
    Delivered,
    Duplicate,
    EventKind,
    Pending,
    Reject,
    Retry,
    Split,
)
from bridge.ports import (
    Appended,
    FramesResponse,
    HttpResponse,
    MailResponse,
    NoticeResponse,
    Published,
    Refused,
    Rendered,
    Request,
    Unpublished,
    Unreached,
    Upserted,
    decode_request,
    encode_request,
)

VERDICTS = (Delivered, Duplicate, Retry, Split, Reject, Blocked, Pending)
EVERY = pytest.mark.parametrize("case", CASES)
OVER_HTTP = pytest.mark.parametrize("case", [case for case in CASES if expected_of(case).url])
WHOLE_EVENTS = pytest.mark.parametrize(
    "case", [case for expected in EXPECTED.values() for case in expected.whole]
)
PROBED = pytest.mark.parametrize("case", [case for case in CASES if build(case).probe() is not None])
HUGE = nasty_event()

responses = st.one_of(
    st.builds(
        HttpResponse,
        status=st.integers(100, 599),
        headers=st.dictionaries(st.sampled_from(["retry-after", "date", "location"]), st.text(max_size=40)),
        body=st.one_of(
            st.binary(max_size=200),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
                ),
                max_leaves=6,
            ).map(lambda value: json.dumps(value).encode()),
            st.fixed_dictionaries(
                {},
                optional={"retry_after": st.floats() | st.text(max_size=5)}
                | {key: values for each in EXPECTED.values() for key, values in each.answers.items()},
            ).map(lambda value: json.dumps(value).encode()),
        ),
    ),
    st.builds(
        FramesResponse, accepted=st.integers(-1, 6), refused=st.text(max_size=5), answered=st.booleans()
    ),
    st.just(Appended()),
    st.builds(Upserted, returned=st.lists(st.text(max_size=40), max_size=3).map(tuple)),
    st.builds(Refused, code=st.text(max_size=5), reason=st.text(max_size=20)),
    st.builds(
        Published,
        faults=st.lists(
            st.none()
            | st.builds(
                Unpublished, name=st.text(max_size=5), may_pass=st.booleans(), maybe_sent=st.booleans()
            ),
            max_size=4,
        ).map(tuple),
    ),
    st.builds(NoticeResponse, taken=st.booleans()),
    st.builds(
        MailResponse,
        code=st.integers(100, 599),
        text=st.text(max_size=5),
        to=st.sampled_from(["connect", "hello", "auth", "mail", "rcpt", "data"]),
        refused=st.dictionaries(
            st.text(max_size=5) | st.just("oncall@example.com"),
            st.tuples(st.integers(100, 599), st.text(max_size=5)),
            max_size=2,
        ),
    ),
    st.builds(
        Unreached,
        reason=st.text(max_size=20),
        maybe_sent=st.booleans(),
        kind=st.sampled_from(["connect", "timeout", "reset", "tls", "local"]),
    ),
)


def batch(case: str, count: int = 3) -> list:
    size = min(count, build(case).caps.max_events)
    return [event(EventKind.UPDATED, seq) for seq in range(1, size + 1)]


def test_every_kind_can_be_loaded_and_its_example_is_valid():
    for kind in connectors.names():
        assert connectors.load(kind).Settings(**connectors.load(kind).example).kind == kind


def test_a_kind_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(ConfigError, match=f"there are: {', '.join(connectors.names())}"):
        connectors.load("smoke-signal")


@EVERY
def test_the_same_input_gives_the_same_bytes(case):
    events = batch(case)

    assert build(case).render(events, None, "") == build(case).render(events, None, "")


@EVERY
def test_a_frozen_request_survives_its_storage(case):
    request = build(case).render(batch(case), None, "").request

    assert decode_request(encode_request(request)) == request


@EVERY
def test_no_secret_is_in_what_is_stored_or_shown(case):
    connector = build(case)
    rendered = connector.render(batch(case), None, "")
    seen = (
        wire(rendered.request).decode(errors="replace")
        + repr(connector.Settings(**CASES[case]))
        + repr(vars(connector))
    )

    assert not [secret for secret in SECRETS if secret in seen]


@EVERY
def test_an_echo_of_what_was_sent_brings_no_secret_into_a_reason(case):
    connector = build(case)
    rendered = connector.render(batch(case), None, "")
    sealed = connector.seal(rendered.request, rendered.event_ids, START)
    echo = HttpResponse(status=400, headers={}, body=f"{SECRETS} {getattr(sealed, 'headers', '')}".encode())
    own = [
        secret
        for secret in SECRETS
        if secret in wire(sealed).decode(errors="replace") or secret in str(CASES[case])
    ]

    reasons = str(connector.judge(rendered, echo))

    assert not [secret for secret in own if secret in reasons]


@EVERY
def test_sealing_keeps_what_was_frozen_and_differs_only_in_what_it_must(case):
    connector = build(case)
    rendered = connector.render(batch(case), None, "")
    first = connector.seal(rendered.request, rendered.event_ids, START)

    assert payload(first).endswith(payload(rendered.request)[1:])
    assert first == connector.seal(rendered.request, rendered.event_ids, START)
    assert payload(first) == payload(connector.seal(rendered.request, rendered.event_ids, at(3600)))


@EVERY
@given(response=responses)
@settings(max_examples=150, deadline=None)
def test_every_answer_gets_one_verdict_per_event_and_nothing_raises(case, response):
    connector = build(case)
    for memory, step in ((None, ""), *expected_of(case).memories):
        rendered = connector.render(batch(case), memory, step)

        verdicts = connector.judge(rendered, response)

        assert len(verdicts) == len(rendered.event_ids)
        assert all(isinstance(verdict, VERDICTS) for verdict in verdicts)


@OVER_HTTP
def test_every_status_is_judged_as_the_table_says(case):
    """The verdicts that all HTTP destinations share; a body may only make them more precise."""
    connector = build(case)
    rendered = connector.render(batch(case), None, "")
    expected = dict.fromkeys(range(300, 500), Blocked) | {413: Split}
    expected |= dict.fromkeys((408, 425, 429, 500, 502, 503, 504), Retry)
    expected |= expected_of(case).statuses  # most say in their own words what is about the message

    for status, verdict in expected.items():
        judged = connector.judge(rendered, HttpResponse(status=status, headers={}, body=b""))

        assert {type(each) for each in judged} == {verdict}, status


@OVER_HTTP
@pytest.mark.parametrize(
    "words",
    [
        b"<center>The plain HTTP request was sent to HTTPS port</center>",
        b"You're speaking plain HTTP to an SSL-enabled server port.",
        b"Client sent an HTTP request to an HTTPS server.",
    ],
)
def test_a_server_that_wants_tls_is_told_of_as_that_and_nothing_is_thrown_away(case, words):
    connector = build(case)
    rendered = connector.render(batch(case), None, "")

    judged = connector.judge(rendered, HttpResponse(status=400, headers={}, body=words))

    assert {type(each) for each in judged} == {Blocked}
    assert "https://" in judged[0].reason or not expected_of(case).says_https


@OVER_HTTP
@pytest.mark.parametrize("status", [200, 201, 204])
@pytest.mark.parametrize("body", [b"<html>Please log in</html>", b"", b'{"status":"invalid event"}'])
def test_a_good_status_with_the_words_of_something_else_is_no_success(case, status, body):
    """A login page or a captive portal in between answers 200 to everything."""
    connector = build(case)
    rendered = connector.render(batch(case), None, "")

    judged = connector.judge(rendered, HttpResponse(status=status, headers={}, body=body))

    expected = expected_of(case)
    good = expected.bare_success if body else expected.bare_success | expected.empty_success
    assert {type(each) for each in judged} == {Delivered if status in good else Blocked}


@OVER_HTTP
def test_a_redirect_is_refused_and_the_reason_says_so(case):
    connector = build(case)
    rendered = connector.render(batch(case), None, "")

    verdict = connector.judge(
        rendered, HttpResponse(status=302, headers={"location": "http://elsewhere"}, body=b"")
    )[0]

    assert "redirects are never followed" in verdict.reason


@EVERY
@pytest.mark.parametrize(
    ("kind", "verdict"),
    [("connect", Retry), ("timeout", Retry), ("reset", Retry), ("tls", Blocked), ("local", Blocked)],
)
def test_no_answer_is_waited_for_unless_waiting_does_not_help(case, kind, verdict):
    connector = build(case)
    rendered = connector.render(batch(case), None, "")

    judged = connector.judge(rendered, Unreached(reason="why", maybe_sent=True, kind=kind))

    assert {type(each) for each in judged} == {verdict}
    assert all(each.maybe_sent for each in judged if isinstance(each, Retry))


@EVERY
def test_the_largest_event_stays_within_the_limit_and_parses_for_the_receiver(case):
    connector = build(case)

    rendered = connector.render([HUGE], None, expected_of(case).tells)

    sealed = connector.seal(rendered.request, rendered.event_ids, START)
    sent = payload(sealed)
    assert len(sent) <= connector.caps.max_bytes
    assert rendered.event_ids == (HUGE.event_id,)
    assert HUGE.event_id.encode() in read(case, sealed)
    expected_of(case).parse(case, read(case, sealed))


@EVERY
@pytest.mark.parametrize("size", [100_000, 10_000, 4096, 2048])
def test_an_event_that_was_too_large_can_be_made_smaller_and_keeps_its_ids_and_counts(case, size):
    connector = build(case)

    rendered = connector.render([HUGE], None, expected_of(case).tells, size)

    sealed = connector.seal(rendered.request, rendered.event_ids, START)
    sent = payload(sealed)
    assert len(sent) <= size
    assert HUGE.event_id.encode() in read(case, sealed)
    assert expected_of(case).count.search(read(case, sealed))
    expected_of(case).parse(case, read(case, sealed))


@pytest.mark.parametrize("case", [case for case in CASES if expected_of(case).has_max_bytes])
def test_the_size_of_a_request_can_be_set(case):
    connector = build(case, max_bytes=4096)

    rendered = connector.render([HUGE] * 3, None, expected_of(case).tells)

    sealed = connector.seal(rendered.request, rendered.event_ids, START)
    sent = payload(sealed)
    assert len(sent) <= 4096 == connector.caps.max_bytes
    assert HUGE.event_id.encode() in read(case, sealed)
    with pytest.raises(ValidationError, match="max_bytes"):
        build(case, max_bytes=4095)


@OVER_HTTP
def test_an_url_with_a_password_in_it_is_refused_and_not_repeated(case):
    expected = expected_of(case)
    key = expected.urls.get(case, expected.url)

    with pytest.raises(ValidationError, match="no user and password") as caught:
        build(case, **{key: "https://user:hunter2@host.example.com:8088/"})

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("case", [case for case in CASES if expected_of(case).has_ca_file])
def test_certificates_that_are_not_there_are_a_fault_that_names_the_file(case, tmp_path):
    with pytest.raises(ValidationError, match=r"cannot read .*/none\.pem: No such file"):
        build(case, ca_file=str(tmp_path / "none.pem"))
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----")
    with pytest.raises(ValidationError, match=r"key\.pem holds no certificate"):
        build(case, ca_file=str(tmp_path / "key.pem"))


def read(case: str, request: Request) -> bytes:
    return expected_of(case).readable(request)


@EVERY
def test_a_batch_that_is_too_large_goes_in_parts(case):
    connector = build(case)
    events = [HUGE] * min(connector.caps.max_events, 20)

    rendered = connector.render(events, None, "")

    assert 1 <= len(rendered.event_ids) <= len(events)
    assert len(payload(rendered.request)) <= connector.caps.max_bytes


@WHOLE_EVENTS
def test_what_is_left_out_is_counted(case):
    expected = expected_of(case)
    assert expected.incident is not None
    incident = expected.incident(case, read(case, build(case).render([HUGE], None, "").request))

    assert len(incident["episodes"]) + incident["truncated"] == 141
    assert incident["alerts_total"] == 100


@EVERY
def test_a_corrected_address_heals_what_is_frozen(case):
    """An operator fixes a typo; what waited since before goes to the right place."""
    expected = expected_of(case)
    wrong, changed = build(case), expected.corrections.get(case, expected.corrected)
    rendered = wrong.render(batch(case), None, "")

    sealed = build(case, **changed).seal(rendered.request, rendered.event_ids, START)

    assert "right" in str(
        getattr(sealed, "url", "") or getattr(sealed, "address", "") or getattr(sealed, "path", "")
    )


@PROBED
def test_a_probe_is_harmless_and_its_good_answer_is_delivered(case):
    connector = build(case)
    probe = connector.probe()
    assert HUGE.event_id not in wire(probe).decode(errors="replace")
    good = expected_of(case).probed
    assert connector.judge(Rendered(request=connector.seal(probe, (), START), event_ids=("x",)), good) == (
        Delivered(),
    )


def test_hostile_text_cannot_begin_a_second_line():
    assert "\n" in NASTY
    for case in ("syslog", "syslog_cef", "syslog_json"):
        frames = build(case).render([nasty_event(size=100)] * 3, None, "").request.frames

        assert len(frames) == 3
        assert not any(b"\n" in frame or b"\r" in frame for frame in frames)
