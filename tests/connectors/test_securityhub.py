"""Security Hub: an incident as a finding in ASFF, and an answer for each."""

from __future__ import annotations

import json

import pytest
from botocore.session import Session
from botocore.validate import ParamValidator
from builders import episode, event, view
from destinations import NASTY, build, nasty_event

from bridge.model import Blocked, Delivered, EventKind, Retry
from bridge.ports import HttpResponse, Rendered


def finding(told=None, **settings) -> dict:
    body = build("securityhub", **settings).render([told or event()], None, "").request.body
    (one,) = json.loads(body)["Findings"]
    return one


def rendered(count: int) -> Rendered:
    events = [event(EventKind.UPDATED, seq, incident=view(id=f"i{seq}")) for seq in range(1, count + 1)]
    return build("securityhub").render(events, None, "")


def answer(failed: object, taken: object = 1) -> HttpResponse:
    body = {"FailedCount": 0, "SuccessCount": taken, "FailedFindings": failed}
    return HttpResponse(status=200, headers={}, body=json.dumps(body).encode())


@pytest.mark.parametrize("told", [event(), event(EventKind.CLOSED, 3), nasty_event(), event(title=NASTY, summary="", episodes=0)])  # fmt: skip
def test_a_finding_is_one_that_aws_own_client_would_import(told):
    shape = Session().get_service_model("securityhub").operation_model("BatchImportFindings").input_shape

    report = ParamValidator().validate({"Findings": [finding(told)]}, shape)

    assert not report.has_errors(), report.generate_report()


def test_what_an_analyst_looks_for_stands_in_the_fields_of_the_format():
    nodes = tuple(episode("NodeDown", number, labels={"alertname": "NodeDown", "node": f"db-{number}"}) for number in range(40))  # fmt: skip
    found = finding(event(episodes=nodes))

    assert found["Title"] == "checkout: HighLatency on 2 instances"
    assert found["FindingProviderFields"]["Severity"] == {"Label": "CRITICAL", "Original": "critical"}
    assert found["ProductArn"] == "arn:aws:securityhub:eu-west-1:123456789012:product/123456789012/default"
    assert (found["CreatedAt"], found["UpdatedAt"]) == (
        "2026-11-23T22:00:00.000000Z",
        "2026-11-23T22:00:01.000000Z",
    )
    assert [each["Id"] for each in found["Resources"]] == [f"db-{number}" for number in range(32)]
    assert found["SourceUrl"].startswith("https://prometheus.example.com/")
    assert "Workflow" not in found  # people's own


@pytest.mark.parametrize(
    ("region", "arn"), [("cn-north-1", "arn:aws-cn:"), ("us-gov-west-1", "arn:aws-us-gov:"), ("us-east-1", "arn:aws:")]
)  # fmt: skip
def test_a_partition_is_that_of_the_region(region, arn):
    assert finding(region=region)["ProductArn"].startswith(arn)


def test_an_incident_keeps_its_finding_and_ends_with_it():
    opened, closed = finding(), finding(event(EventKind.CLOSED, 5))

    assert opened["Id"] == closed["Id"]
    assert (opened["RecordState"], closed["RecordState"]) == ("ACTIVE", "ARCHIVED")


def test_an_incident_of_no_machine_is_about_itself():
    bare = event(episodes=(episode(labels={"alertname": "Watchdog"}),))

    assert [each["Id"] for each in finding(bare)["Resources"]] == [f"tocsin/{bare.incident.id}"]


@pytest.mark.parametrize("kind", [EventKind.FORECAST, EventKind.RECOMMENDATION])
def test_what_has_not_begun_is_no_finding(kind):
    assert not build("securityhub").wants(event(kind), None)
    assert build("securityhub").wants(event(), None)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [("InternalException", Retry), ("LimitExceededException", Retry), ("InvalidInput", Blocked)],
)
def test_a_finding_that_failed_has_its_own_verdict(code, verdict):
    failed = [{"Id": "tocsin/i2", "ErrorCode": code, "ErrorMessage": "m"}]

    verdicts = build("securityhub").judge(rendered(3), answer(failed, 2))

    assert [type(each) for each in verdicts] == [Delivered, verdict, Delivered]


@pytest.mark.parametrize(
    "failed",
    [
        [],
        [{"Id": "arn:aws:securityhub:x/tocsin/i1", "ErrorCode": "InvalidInput", "ErrorMessage": "m"}],
        [{"Id": None, "ErrorCode": "InvalidInput", "ErrorMessage": "m"}],
        ["InvalidInput"],
    ],
)
def test_a_failure_that_names_no_finding_of_ours_counts_as_nobodys_delivery(failed):
    named = [{"Id": "tocsin/i2", "ErrorCode": "InvalidInput", "ErrorMessage": "m"}]

    told = build("securityhub").judge(rendered(3), answer([*named, *failed], 1))

    assert [type(each) for each in told] == [Retry, Blocked, Retry]
    assert told[0].maybe_sent


@pytest.mark.parametrize("taken", [None, "3", True, 1.5])
def test_an_answer_without_a_count_is_not_trusted(taken):
    assert {type(each) for each in build("securityhub").judge(rendered(2), answer([], taken))} == {Blocked}
