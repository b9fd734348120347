"""Secrets stay secret, files are read, signatures fit what the world verifies them with."""

from __future__ import annotations

import html
import json
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import pytest
from cases.callback import SIGNING_SECRET
from destinations import CASES
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from yarl import URL

import connectors
from connectors.credentials import STARS, Secret, hidden, origin, signatures
from connectors.kinds.callback import CallbackSettings
from connectors.kinds.slack import SlackSettings
from connectors.kinds.splunk import SplunkSettings

SPLUNK = {"name": "siem", "kind": "splunk", "url": "https://splunk.example.com:8088"}


def test_a_secret_shows_itself_only_when_asked():
    secret = Secret("hunter2")

    assert (repr(secret), str(secret), f"{secret}", f"{[secret]}") == (STARS, STARS, STARS, f"[{STARS}]")
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2") != Secret("other")


@pytest.mark.parametrize("text", ["", "a\rb", "a\x00", "schlüssel"])
def test_a_secret_that_no_header_can_carry_is_refused(text):
    with pytest.raises(ValueError, match="printable ASCII"):
        Secret(text)


def test_the_published_vector_of_standard_webhooks_is_reproduced():
    now = datetime.fromtimestamp(1614265330, tz=UTC)

    headers = signatures(Secret(SIGNING_SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", now, b'{"test": 2432232314}')

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_zone_of_now_does_not_change_the_signature():
    """The library would take the wall clock of +02:00 for UTC."""
    now = datetime.fromtimestamp(1614265330, tz=timezone(timedelta(hours=2)))

    assert signatures(Secret(SIGNING_SECRET), "m", now, b"x") == signatures(
        Secret(SIGNING_SECRET), "m", now.astimezone(UTC), b"x"
    )


def test_a_secret_in_a_file_is_read_without_its_line_end(tmp_path):
    (tmp_path / "token").write_text("s3cret\n")

    settings = SplunkSettings(**SPLUNK, token_file=str(tmp_path / "token"))

    assert settings.needed("token").reveal() == "s3cret"
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in settings.model_dump_json()


def test_a_file_that_is_missing_is_told_with_its_key(tmp_path):
    with pytest.raises(ValidationError) as raised:
        SplunkSettings(**SPLUNK, token_file=str(tmp_path / "nowhere"))

    assert [error["loc"] for error in raised.value.errors()] == [("token_file",)]
    assert "No such file" in str(raised.value)


@pytest.mark.parametrize("given", [{}, {"token": "a", "token_file": "/dev/null"}])
def test_exactly_one_of_a_secret_and_its_twin_is_taken(given):
    with pytest.raises(ValidationError, match="token_file"):
        SplunkSettings(**SPLUNK, **given)


def test_a_validation_error_does_not_show_the_secret():
    with pytest.raises(ValidationError) as raised:
        SplunkSettings(**SPLUNK, token="hunter2\x00", index=5)

    assert "hunter2" not in str(raised.value)
    assert {error["loc"] for error in raised.value.errors()} == {("token",), ("index",)}


@pytest.mark.parametrize("kind", connectors.KINDS)
def test_every_kind_has_a_schema(kind):
    assert "name" in connectors.load(kind).Settings.model_json_schema()["properties"]


@pytest.mark.parametrize("kind", connectors.KINDS)
def test_an_unknown_key_is_an_error(kind):
    with pytest.raises(ValidationError, match="tokn"):
        connectors.load(kind).Settings(**CASES[kind], tokn="x")


@pytest.mark.parametrize(
    "url", ["", "splunk:8088", "ftp://splunk", "https://", "https://h:99999", "https://a b/", "https://[::1"]
)
def test_a_url_that_leads_nowhere_is_refused(url):
    with pytest.raises(ValidationError):
        SplunkSettings(name="siem", url=url, token="t")


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:8088", "http://localhost", "https://[::1]:1", "http://169.254.1.1:8088/"]
)
def test_private_addresses_are_allowed_in_the_configuration(url):
    assert SplunkSettings(name="siem", url=url, token="t").url == url


@pytest.mark.parametrize(
    ("secret", "words"),
    [("whsec_!!!", "base64"), ("whsec_c2hvcnQ=", "24 to 64 bytes"), ("whsec_" + "A" * 100, "24 to 64")],
)
def test_a_signing_secret_of_another_form_is_refused(secret, words):
    with pytest.raises(ValidationError, match=words):
        CallbackSettings(name="c", url="https://example.com/", secret=secret)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"token": "t"},
        {"channel": "#c"},
        {"token": "t", "channel": "#c", "url": "https://hooks.slack.com/x"},
        {"url": "https://hooks.slack.com/x", "channel": "#c"},
    ],
)
def test_slack_wants_a_bot_or_a_webhook(given):
    with pytest.raises(ValidationError, match="either token and channel"):
        SlackSettings(name="chat", **given)


def test_only_the_origin_of_a_secret_url_is_stored():
    assert (
        origin(Secret("https://host.example.com:8443/path/secret?token=t"))
        == "https://host.example.com:8443/"
    )
    assert origin(Secret("http://[2001:db8::1]/x")) == "http://[2001:db8::1]/"


def test_parts_of_a_secret_url_are_hidden_as_well():
    url = Secret("https://host.example.com/hooks/T00/abcdefghijk?key=1234567890")

    text = hidden("Cannot POST /hooks/T00/abcdefghijk with key=1234567890, not abcdefghijk", [url])

    assert text == f"Cannot POST {STARS} with {STARS}, not {STARS}"


def test_the_values_in_a_secret_url_are_hidden_however_they_are_escaped():
    url = Secret("https://host.example.com/x?sv=1&sig=abcde%2Bfghij%3D")

    text = hidden("the signature abcde+fghij= is wrong, got sig=abcde%2Bfghij%3D of version 1", [url])

    assert text == f"the signature {STARS} is wrong, got sig={STARS} of version 1"


@pytest.mark.parametrize(
    "url",
    [
        "https://h.example/hooks/ab%2bcdefgh%3dsecret?sig=q%2bwertyuiop%3d",
        "https://h.example/hooks/t%C3%B6ken~secret!x",
        'https://h.example/hooks/aa|bbccddee"ff?key=a b"c|defgh'.replace(" ", "+"),
    ],
)
def test_an_url_is_hidden_as_the_client_sends_it(url):
    sent = URL(url)

    for text in (sent.raw_path, sent.raw_query_string, sent.path, *sent.query.values(), str(sent)):
        assert set(hidden(text, [Secret(url)])) <= {"*"}, text


@given(
    st.text(
        st.characters(codec="ascii", exclude_categories=["C"], exclude_characters=STARS),
        min_size=1,
        max_size=30,
    ).filter(str.strip),
    st.data(),
)
def test_a_secret_is_hidden_with_any_of_its_characters_escaped(secret, data):
    escapes = (
        str, lambda each: quote(each, safe=""), lambda each: quote(quote(each, safe=""), safe=""),
        lambda each: quote(each, safe="").lower() if not each.isalnum() else each,
        lambda each: json.dumps(each)[1:-1], html.escape,
        lambda each: each if each.isalnum() else f"&#x{ord(each):X};",
        lambda each: each if each.isalnum() else f"&#{ord(each)};",
        lambda each: each if each.isalnum() else f"\\u{ord(each):04x}",
    )  # fmt: skip
    text = "".join(data.draw(st.sampled_from(escapes))(each) for each in secret)

    assert hidden(text, [Secret(secret)]) == STARS


def test_an_escaped_secret_is_hidden_within_json():
    secret = Secret('pa"ss/word\\+long=secret')

    assert hidden(json.dumps({"error": secret.reveal()}), [secret]) == '{"error": "********"}'
    assert hidden(r'{"path":"\/hooks\/T0KEN-SECRET"}', [Secret("https://h.example/hooks/T0KEN-SECRET")]) == (
        '{"path":"********"}'
    )


def test_what_is_no_secret_stays():
    assert hidden("100% of a&b are \\u0041 at /hooks", [Secret("pa+ss%20word")]) == (
        "100% of a&b are \\u0041 at /hooks"
    )
