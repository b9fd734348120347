"""SNS: forms and XML, groups of ordered topics, an answer for each entry."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from builders import START, event, view
from destinations import NASTY, build
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry, Split
from bridge.ports import HttpResponse, Rendered

FIRST = "PublishBatchRequestEntries.member.1."
FAILED = [
    ("<Code>InternalError</Code><SenderFault>false</SenderFault>", Retry),
    ("<Code>KMSThrottlingException</Code><SenderFault>true</SenderFault>", Retry),
    ("<Code>InvalidMessageContents</Code><SenderFault>true</SenderFault>", Reject),
    ("<Code>InvalidParameter</Code><Message>Invalid parameter: Message too long</Message><SenderFault>true</SenderFault>", Split),
    ("<Code>AuthorizationError</Code><SenderFault>true</SenderFault>", Blocked),
]  # fmt: skip


def rendered(count: int = 1, case: str = "sns") -> Rendered:
    return build(case).render([event(EventKind.UPDATED, seq) for seq in range(1, count + 1)], None, "")


def answer(taken: list[str], failed: str = "") -> HttpResponse:
    members = "".join(f"<member><Id>{each}</Id><MessageId>1</MessageId></member>" for each in taken)
    body = (
        '<PublishBatchResponse xmlns="https://sns.amazonaws.com/doc/2010-03-31/"><PublishBatchResult>'
        f"<Failed>{failed}</Failed><Successful>\n{members}</Successful></PublishBatchResult></PublishBatchResponse>"
    )
    return HttpResponse(status=200, headers={}, body=body.encode())


def form(case: str = "sns", **changes) -> dict[str, str]:
    connector = build(case)
    batch = connector.render([event(incident=view(**changes))], None, "")
    body = connector.seal(batch.request, batch.event_ids, START).body.decode()
    return {key: value for key, (value,) in parse_qs(body, strict_parsing=True).items()}


def test_a_form_names_topic_action_and_what_subscriptions_filter_by():
    fields = form()

    assert (fields["Action"], fields["Version"]) == ("PublishBatch", "2010-03-31")
    assert fields["TopicArn"] == "arn:aws:sns:eu-west-1:123456789012:incidents"
    named = {
        fields[f"{FIRST}MessageAttributes.entry.{number}.Name"]: fields[
            f"{FIRST}MessageAttributes.entry.{number}.Value.StringValue"
        ]
        for number in range(1, 5)
    }
    assert named == {"kind": "opened", "severity": "critical", "state": "open", "tenant": "default"}
    assert f"{FIRST}MessageGroupId" not in fields


def test_an_ordered_topic_gets_groups():
    fields = form("sns_fifo")

    assert fields[f"{FIRST}MessageGroupId"] == event().incident.id
    assert fields[f"{FIRST}MessageDeduplicationId"] == event().event_id


@pytest.mark.parametrize("title", [NASTY * 10, "é" * 200, "\n \n", "", " x"])
def test_a_subject_is_ascii_of_one_line_and_not_empty(title):
    subject = form(title=title).get(f"{FIRST}Subject")

    assert subject is None or (
        0 < len(subject) <= 100 and subject.isascii() and subject.isprintable() and subject == subject.strip()
    )


@pytest.mark.parametrize(("failed", "verdict"), FAILED)
def test_every_failure_of_an_entry_leads_to_its_verdict_and_the_others_are_delivered(failed, verdict):
    one, two, three = rendered(3).event_ids

    verdicts = build("sns").judge(
        rendered(3), answer([three, one], f"<member>{failed}<Id>{two}</Id></member>")
    )

    assert [type(each) for each in verdicts] == [Delivered, verdict, Delivered]


def test_an_answer_about_others_is_not_trusted():
    assert isinstance(build("sns").judge(rendered(), answer(["other"]))[0], Blocked)


def test_a_topic_of_another_region_is_a_fault_of_the_settings():
    with pytest.raises(ValidationError, match="of another region"):
        build("sns", region="us-east-1")
