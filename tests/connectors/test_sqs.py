"""SQS: groups and deduplication of ordered queues, an answer for each entry."""

from __future__ import annotations

import json

import pytest
from botocore.session import Session
from botocore.validate import ParamValidator
from builders import START, event, view
from destinations import build

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry, Split
from bridge.ports import HttpResponse, Rendered

LONG = "One or more parameters are invalid. Reason: Message must be shorter than 262144 bytes."
#: Source: docs.aws.amazon.com, "BatchResultErrorEntry", and the errors of SendMessage.
FAILED = [
    ({"Code": "InternalError", "SenderFault": False}, Retry),
    ({"Code": "SomethingNew", "SenderFault": False}, Retry),
    ({"Code": "RequestThrottled", "SenderFault": True}, Retry),
    ({"Code": "InvalidMessageContents", "SenderFault": True}, Reject),
    ({"Code": "InvalidParameterValue", "SenderFault": True, "Message": LONG}, Split),
    (
        {"Code": "InvalidParameterValue", "SenderFault": True, "Message": "not valid for this queue type"},
        Blocked,
    ),
    ({"Code": "KmsAccessDenied", "SenderFault": True}, Blocked),
    ({"SenderFault": True}, Blocked),
]


def rendered(count: int = 1, case: str = "sqs") -> Rendered:
    return build(case).render([event(EventKind.UPDATED, seq) for seq in range(1, count + 1)], None, "")


def answer(taken, failed, status: int = 200) -> HttpResponse:
    body = {"Successful": taken, "Failed": failed}
    return HttpResponse(status=status, headers={}, body=json.dumps(body).encode())


@pytest.mark.parametrize("case", ["sqs", "sqs_standard"])
def test_the_request_is_one_that_aws_own_client_would_make(case):
    shape = Session().get_service_model("sqs").operation_model("SendMessageBatch").input_shape
    batch = rendered(10, case)
    sealed = build(case).seal(batch.request, batch.event_ids, START)

    report = ParamValidator().validate(json.loads(sealed.body), shape)

    assert not report.has_errors(), report.generate_report()
    assert json.loads(sealed.body)["QueueUrl"] == build(case)._settings.queue_url


def test_only_an_ordered_queue_gets_groups():
    ordered, plain = (
        json.loads(rendered(1, case).request.body)["Entries"][0] for case in ("sqs", "sqs_standard")
    )

    assert (ordered["MessageGroupId"], ordered["MessageDeduplicationId"]) == (
        event().incident.id,
        ordered["Id"],
    )
    assert not [key for key in plain if "Group" in key or "Dedup" in key]


def test_a_group_is_no_longer_than_it_may_be():
    long = event(incident=view(id="i" * 200))
    (entry,) = json.loads(build("sqs").render([long], None, "").request.body)["Entries"]

    assert len(entry["MessageGroupId"]) <= 128


@pytest.mark.parametrize(("failed", "verdict"), FAILED)
def test_every_failure_of_an_entry_leads_to_its_verdict_and_the_others_are_delivered(failed, verdict):
    one, two, three = rendered(3).event_ids

    verdicts = build("sqs").judge(
        rendered(3), answer([{"Id": three}, {"Id": one}], [{"Id": two, "Message": ""} | failed])
    )

    assert [type(each) for each in verdicts] == [Delivered, verdict, Delivered]


def test_an_entry_that_the_answer_does_not_name_goes_again():
    batch = rendered(2)

    first, second = build("sqs").judge(batch, answer([{"Id": batch.event_ids[0]}], []))

    assert (first, isinstance(second, Retry)) == (Delivered(), True)


def test_an_answer_about_others_is_not_trusted():
    assert isinstance(build("sqs").judge(rendered(), answer([{"Id": "other"}], []))[0], Blocked)


def test_an_event_is_not_delivered_because_a_batch_was_called_empty():
    empty = HttpResponse(
        status=400, headers={}, body=b'{"__type":"AWS.SimpleQueueService.EmptyBatchRequest"}'
    )

    assert isinstance(build("sqs").judge(rendered(), empty)[0], Blocked)
