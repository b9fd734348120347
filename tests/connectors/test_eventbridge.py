"""EventBridge: what rules match by, and an answer for each entry."""

from __future__ import annotations

import json

import pytest
from botocore.session import Session
from botocore.validate import ParamValidator
from builders import event, view
from destinations import NASTY, build
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry, Split
from bridge.ports import HttpResponse, Rendered

#: Source: docs.aws.amazon.com, "PutEventsResultEntry".
CODES = [
    ("InternalFailure", "", Retry),
    ("ThrottlingException", "Rate exceeded", Retry),
    ("AccessDeniedException", "not authorized to perform events:PutEvents", Blocked),
    ("InvalidAccountIdException", "", Blocked),
    ("InvalidArgument", "Parameter EventBusName is not valid", Blocked),
    ("MalformedDetail", "Detail is malformed.", Reject),
    ("NotAuthorizedForSourceException", "", Blocked),
    ("NotAuthorizedForDetailTypeException", "", Blocked),
    ("SomethingNew", "", Blocked),
]


def rendered(count: int = 1) -> Rendered:
    return build("eventbridge").render(
        [event(EventKind.UPDATED, seq) for seq in range(1, count + 1)], None, ""
    )


def answer(*entries: object, status: int = 200) -> HttpResponse:
    body = {"FailedEntryCount": 0, "Entries": entries}
    return HttpResponse(status=status, headers={}, body=json.dumps(body).encode())


def test_an_entry_is_what_rules_match_by():
    hostile = event(EventKind.ESCALATED, 2, incident=view(title=NASTY, severity="warning"))
    body = json.loads(build("eventbridge", source="ops").render([hostile], None, "").request.body)

    (entry,) = body["Entries"]
    assert (entry["Source"], entry["DetailType"], entry["EventBusName"]) == (
        "ops", "incident.escalated", "operations",
    )  # fmt: skip
    assert entry["Time"] == hostile.at.timestamp()
    detail = json.loads(entry["Detail"])
    assert (detail["incident"]["severity"], detail["incident"]["title"]) == ("warning", NASTY)


def test_the_request_is_one_that_aws_own_client_would_make():
    shape = Session().get_service_model("events").operation_model("PutEvents").input_shape

    report = ParamValidator().validate(json.loads(rendered(10).request.body), shape)

    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize(("code", "message", "verdict"), CODES)
def test_every_documented_code_of_an_entry_leads_to_its_verdict(code, message, verdict):
    verdicts = build("eventbridge").judge(
        rendered(3), answer({"EventId": "1"}, {"ErrorCode": code, "ErrorMessage": message}, {"EventId": "3"})
    )

    assert [type(each) for each in verdicts] == [Delivered, verdict, Delivered]
    assert code in verdicts[1].reason


def test_an_answer_that_does_not_fit_the_request_is_not_trusted():
    assert isinstance(build("eventbridge").judge(rendered(2), answer({"EventId": "1"}))[0], Blocked)


@pytest.mark.parametrize("entry", [{}, None, "x", {"EventId": ""}, {"EventId": None}])
def test_an_entry_that_says_nothing_goes_again(entry):
    first, second = build("eventbridge").judge(rendered(2), answer({"EventId": "1"}, entry))

    assert first == Delivered()
    assert isinstance(second, Retry)
    assert second.maybe_sent


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (400, "ThrottlingException", Retry),
        (500, "InternalException", Retry),
        (400, "ExpiredTokenException", Blocked),
        (403, "AccessDeniedException", Blocked),
        (400, "ValidationException", Blocked),
        (413, "RequestEntityTooLarge", Split),
    ],
)
def test_every_refusal_of_a_request_leads_to_its_verdict(status, code, verdict):
    body = json.dumps({"__type": code, "message": "Total size of the entries is too large"}).encode()

    judged = build("eventbridge").judge(rendered(2), HttpResponse(status=status, headers={}, body=body))

    assert {type(each) for each in judged} == {verdict}


@pytest.mark.parametrize(
    ("setting", "reason"), [({"source": "aws.ec2"}, "for events of AWS"), ({"bus": "a b"}, "bus")]
)
def test_what_eventbridge_would_refuse_is_a_fault_of_the_settings(setting, reason):
    with pytest.raises(ValidationError, match=reason):
        build("eventbridge", **setting)
