"""Records of a topic: what they carry, and what each error of Kafka's leads to."""

from __future__ import annotations

import json

import pytest
from builders import event
from destinations import build
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry, Split
from bridge.ports import Published, Unpublished

#: Source: https://kafka.apache.org/protocol, error codes; name, retriable there, what it leads to here.
ERRORS = [
    ("MESSAGE_SIZE_TOO_LARGE", False, Split),
    ("RECORD_LIST_TOO_LARGE", False, Split),
    ("INVALID_RECORD", False, Reject),
    ("INVALID_TIMESTAMP", False, Reject),
    ("UNKNOWN_TOPIC_OR_PARTITION", True, Blocked),
    ("TOPIC_AUTHORIZATION_FAILED", False, Blocked),
    ("CLUSTER_AUTHORIZATION_FAILED", False, Blocked),
    ("SASL_AUTHENTICATION_FAILED", False, Blocked),
    ("POLICY_VIOLATION", False, Blocked),
    ("SOMETHING_NEW", False, Blocked),
    ("NOT_ENOUGH_REPLICAS", True, Retry),
    ("NOT_LEADER_FOR_PARTITION", True, Retry),
    ("REQUEST_TIMED_OUT", True, Retry),
    ("KafkaTimeoutError", True, Retry),
]


def rendered(count: int = 1):
    return build("kafka").render([event(EventKind.UPDATED, seq) for seq in range(1, count + 1)], None, "")


@pytest.mark.parametrize(("name", "may_pass", "verdict"), ERRORS)
def test_each_error_leads_to_what_it_means(name, may_pass, verdict):
    fault = Unpublished(name=name, may_pass=may_pass)

    (judged,) = build("kafka").judge(rendered(), Published(faults=(fault,)))

    assert type(judged) is verdict
    assert name in judged.reason


def test_each_record_has_its_own_verdict_and_one_that_was_perhaps_sent_says_so():
    lost = Unpublished(name="REQUEST_TIMED_OUT", may_pass=True, maybe_sent=True)

    judged = build("kafka").judge(rendered(3), Published(faults=(None, lost)))

    assert judged[0] == Delivered()
    assert judged[1].maybe_sent
    assert isinstance(judged[2], Retry)


def test_a_record_has_the_attributes_of_a_cloud_event_beside_the_plain_event():
    (record,) = rendered().request.records

    assert record.key == b"default/3f1c9a7d52e84b06"
    assert record.headers["ce_type"] == "tocsin.incident.updated"
    assert record.headers["content-type"] == "application/json"
    assert json.loads(record.value)["event_id"] == record.headers["ce_id"]


def test_the_password_is_in_what_is_sealed_and_nowhere_before():
    connector = build("kafka")
    frozen = rendered().request

    sealed = connector.seal(frozen, ("x",), event().at)

    assert frozen.login == {}
    assert sealed.login == {
        "mechanism": "SCRAM-SHA-512",
        "username": "tocsin",
        "password": "kafka-password-of-tocsin",
    }
    assert sealed.records == frozen.records


@pytest.mark.parametrize(
    ("tls", "username", "security"),
    [(False, None, "plaintext"), (True, None, "tls"), (False, "me", "sasl"), (True, "me", "sasl+tls")],
)
def test_tls_and_user_make_the_security(tls, username, security):
    password = None if username is None else "secret-of-mine"

    connector = build("kafka", tls=tls, username=username, password=password)

    assert connector.probe().security == security


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": None},
        {"username": None},
        {"servers": "kafka.example.com"},
        {"servers": "a:1, b:2"},
        {"servers": "user:pw@a:1"},
        {"topic": "with space"},
        {"mechanism": "GSSAPI"},
        {"key_file": "only-the-key.pem"},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValidationError):
        build("kafka", **wrong)
