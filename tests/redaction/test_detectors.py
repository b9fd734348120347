"""The detectors: what they find, what they leave alone, and that no text makes them slow."""

from __future__ import annotations

import re
import sys

import pytest

from bridge.redaction import KINDS, Redact, Redactor, detectors
from bridge.redaction.detectors import DETECTORS, holds_secret, looks_for

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
DIGEST = "sha256:8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"


def found(kind: str, text: str) -> list[str]:
    return [text[start:end] for start, end in DETECTORS[kind](text)]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("connect to postgres://app:hunter2@db:5432/shop failed", "hunter2"),
        ("ftp://user:p@ss@host/file", "p@ss"),
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("curl -H 'Authorization: Basic dXNlcjpwYXNz'", "dXNlcjpwYXNz"),
        ("sent with bearer abcdef0123456789==", "abcdef0123456789=="),
        ("password=hunter2", "hunter2"),
        ("password: swordfish, user bob", "swordfish"),
        ("(password=hunter2).", "hunter2"),
        ('password="my pass phrase"', "my pass phrase"),
        ('{"password": "hunter2", "a": 1}', "hunter2"),
        ('{\\"password\\": \\"hunter2\\"}', "hunter2"),
        ("MYSQL_ROOT_PASSWORD=s3cr3t", "s3cr3t"),
        ("mysql --password s3cr3t -h db", "s3cr3t"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("accessToken: abc", "abc"),
        ("https://x/y?api_key=abc123&z=1", "abc123"),
        ("https://x/graph?g0.expr=password%3D%22a%2Fbc%22%7D", "a%2Fbc"),
        ("token=abc123def", "abc123def"),
        ("token: abcdefghijklmnopqrst", "abcdefghijklmnopqrst"),
        ("https://x.blob.core.windows.net/c?sig=abc123%2Fdef&se=1", "abc123%2Fdef"),
        ("AccountKey=abcdefghijklmnopqrstuvwxyz==;EndpointSuffix=x", "abcdefghijklmnopqrstuvwxyz=="),
        ("routing_key: 0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"),
        (f"got {JWT} here", JWT),
        ("key AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        ("ghp_" + "a1" * 18, "ghp_" + "a1" * 18),
        ("xoxb-1234567890-abcdef", "xoxb-1234567890-abcdef"),
        ("https://hooks.slack.com/services/T000/B000/XXXX is down", "services/T000/B000/XXXX"),
        ("sk_" + "live_abcdef0123456789", "sk_" + "live_abcdef0123456789"),
        ("glpat-abcdefghij0123456789", "glpat-abcdefghij0123456789"),
        ("hvs.abcdefghij0123456789", "hvs.abcdefghij0123456789"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"),
        ("cut off: -----BEGIN PRIVATE KEY-----\nMIIE", "-----BEGIN PRIVATE KEY-----\nMIIE"),
    ],
)  # fmt: skip
def test_a_secret_is_found_and_nothing_beside_it(text, secret):
    assert found("secrets", text) == [secret]


@pytest.mark.parametrize(
    "text",
    [
        "api-7d9f8b6c5-x2x4z",
        f"registry.example.com/shop/api@{DIGEST}",
        DIGEST,
        "9fceb02d0ae598e95dc970b74767f19372d61af8",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "6f9d1bb6-6a2c-5ad0-9a44-70c51b0e7a11",
        "0123456789abcdef",
        "token: expired",
        "the token bucket holds 12 tokens: refill",
        "secret: db-credentials not found",
        'Secret "db-tls-v2" not found in namespace shop',
        "tokenizer: v2.31.4-alpha",
        "xAKIAIOSFODNN7EXAMPLE",
        "http://prometheus:9090/graph?g0.expr=kube_secret_created%7Bsecret%3D%22db-tls-v2%22%7D&g0.tab=1",
        "https://runbooks.prometheus-operator.dev/runbooks/kubernetes/kubepodcrashlooping",
        "orders.created.v2",
        "ip-10-0-1-23.eu-west-1.compute.internal",
        "arn:aws:sqs:eu-west-1:123456789012:orders",
    ],
)
def test_what_only_looks_random_is_no_secret(text):
    assert found("secrets", text) == []


@pytest.mark.parametrize(
    ("kind", "text", "finds"),
    [
        ("email", "mail bob@example.com.", ["bob@example.com"]),
        ("email", "<bob.smith+x@mail.example.co.uk>", ["bob.smith+x@mail.example.co.uk"]),
        ("email", "'bob@example.com' and /carol@example.com", ["bob@example.com", "carol@example.com"]),
        ("email", "getty@tty1.service", []),
        ("email", "git@github.com:o/r", []),
        ("email", f"api@{DIGEST}", []),
        ("ip", "10.0.0.1:9100", ["10.0.0.1"]),
        ("ip", "at 10.0.0.1.", ["10.0.0.1"]),
        ("ip", "v1.2.3.4", []),
        ("ip", "1.2.3.4.5", []),
        ("ip", "256.1.1.1", []),
        ("ip", "[::1]:9090 and fe80::1", ["::1", "fe80::1"]),
        ("ip", "2001:db8::8a2e:370:7334: down", ["2001:db8::8a2e:370:7334"]),
        ("ip", "::ffff:10.0.0.1", ["::ffff:10.0.0.1"]),
        ("ip", "std::string at 12:30:45 on aa:bb:cc:dd:ee:ff", []),
        ("ip", "g0.expr=up%7Binstance%3D%2210.0.0.1%3A9100%22%7D", ["10.0.0.1"]),
        ("email", "?user%3Dbob@example.com", ["bob@example.com"]),
        ("email", "?user=bob%40example.com&x=1", ["bob%40example.com"]),
        ("phone", "?call=%2B41446681800", ["%2B41446681800"]),
        ("card", "?n%3D4111111111111111", ["4111111111111111"]),
        ("secrets", "?key%3DAKIAIOSFODNN7EXAMPLE", ["AKIAIOSFODNN7EXAMPLE"]),
        ("ip", "ip-10-0-1-23.ec2.internal", ["ip-10-0-1-23"]),
        ("card", "card 4111 1111 1111 1111 ok", ["4111 1111 1111 1111"]),
        ("card", "5500-0000-0000-0004", ["5500-0000-0000-0004"]),
        ("card", "4111111111111112", []),
        ("card", "1764155689123456789", []),
        ("card", "id4111111111111111", []),
        ("card", "0.4111111111111111", []),
        ("phone", "call +41 44 668 18 00 now", ["+41 44 668 18 00"]),
        ("phone", "+1 (555) 123-4567", ["+1 (555) 123-4567"]),
        ("phone", "2026-01-01T00:00:00+02:00", []),
        ("phone", "1+12345678", []),
    ],
)
def test_the_other_detectors(kind, text, finds):
    assert found(kind, text) == finds


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("password", "x", True),
        ("db_password", "swordfish", True),
        ("clientSecret", "x", True),
        ("api_key", "x", True),
        ("secret", "db-tls-v2", False),  # kube-state-metrics names an object so
        ("token", "abc123def456", True),
        ("token", "expired", False),
        ("routing_key", "orders.created", False),  # RabbitMQ
        ("pwd", "/home/bob", False),
        ("pod", "api-7d9f8b6c5-x2x4z", False),
        ("tokens", "abc123def456", False),
    ],
)
def test_names_that_say_that_the_value_is_a_secret(name, value, expected):
    assert holds_secret(name, value) is expected


def test_a_quick_look_misses_nothing_that_a_detector_finds():
    for kind in KINDS:
        for text in (
            "password=hunter2",
            "a@b.example",
            "10.0.0.1",
            "::1",
            "4111111111111111",
            "+41446681800",
            JWT,
        ):
            if found(kind, text):
                assert looks_for((kind,))(text), (kind, text)


# Each of these makes engines that try again take quadratic time or worse.
HOSTILE = {
    "names": "password=",
    "names that are words": "token: expired ",
    "names in names": "token:token:",
    "addresses": "a://b:c",
    "at signs": "a@",
    "dots": "a.b@c.",
    "colons": "a:",
    "numbers": "1.1.1.",
    "digits": "4111 1111 ",
    "dashes": "-----BEGIN PRIVATE KEY",
    "tokens": "eyJaaaaaaaaa",
    "tokens in a word": "xxoxb-1234567890",
    "plus": "+1 ",
    "bearers": "authorization: bearer ",
    "placeholders": "<secret>",
    "halves of placeholders": "<secret:",
}


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_twice_the_text_is_at_most_twice_the_work(piece):
    """Counts calls, of Python's and of C's functions: the expressions themselves are RE2's, which never tries again."""

    def work(times: int) -> int:
        redactor = Redactor(Redact(email="mask", ip="mask", card="mask", phone="mask"))
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        text = piece * times
        sys.setprofile(count)
        try:
            redactor.text(text)
        finally:
            sys.setprofile(None)
        return calls

    work(1)
    small, large = work(300), work(600)
    assert large <= 2.2 * small + 200


def test_every_expression_is_of_an_engine_that_is_linear_or_looks_at_a_few_characters_only():
    for finder in detectors._FINDERS.values():
        if not type(finder).__module__.startswith("re2"):
            assert re._parser.parse(finder.pattern).getwidth()[1] <= 64, finder.pattern  # type: ignore[attr-defined]
