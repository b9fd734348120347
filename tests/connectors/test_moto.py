"""The kinds of AWS against moto: what AWS' own clients find there is what was meant."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator

import amazon
import duckdb
import msgspec
import pytest
import tenacity
from amazon import ACCOUNT, REGION
from builders import START, at, event, view
from destinations import NASTY, build, nasty_event
from sidecars import NO_MODELS, Sidecar, until

from bridge.model import Blocked, Delivered, Duplicate, Event, EventKind, IncidentState
from bridge.ports import HttpResponse, Rendered
from connectors.transport.http import HttpSender

HOSTILE = event(
    EventKind.UPDATED, 2, incident=view(title=NASTY, summary=NASTY + "\uffff"), tenant='t"e]n\\ant'
)


@pytest.fixture(scope="module")
def moto() -> Iterator[amazon.Moto]:
    with amazon.running() as server:
        yield server


@pytest.fixture
async def sender():
    sender = HttpSender(wait=tenacity.wait_none())
    yield sender
    await sender.close()


async def deliver(sender: HttpSender, case: str, events: list[Event], **settings):
    connector = build(case, **settings)
    rendered = connector.render(events, None, "")
    response = await sender.send(connector.seal(rendered.request, rendered.event_ids, START), timeout_s=20)
    return connector.judge(rendered, response)


async def probe(sender: HttpSender, case: str, **settings):
    connector = build(case, **settings)
    rendered = Rendered(request=connector.probe(), event_ids=("probe",))
    response = await sender.send(connector.seal(rendered.request, rendered.event_ids, START), timeout_s=20)
    return connector.judge(rendered, response)


def several(count: int) -> list[Event]:
    return [event(EventKind.UPDATED, seq, incident=view(id=f"incident-{seq}")) for seq in range(1, count + 1)]


# ---- SQS -------------------------------------------------------------------------------------------------


def queue(moto: amazon.Moto, name: str) -> tuple[str, dict]:
    fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    url = moto.client("sqs").create_queue(QueueName=name, Attributes=fifo)["QueueUrl"]
    return url, moto.settings | {"queue_url": url}


def messages(moto: amazon.Moto, url: str) -> list[dict]:
    answer = moto.client("sqs").receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
    )
    return answer.get("Messages", [])


async def test_events_are_messages_of_a_queue_whatever_stands_in_them(moto, sender):
    url, settings = queue(moto, "plain")

    verdicts = await deliver(sender, "sqs", [event(), HOSTILE], **settings)

    assert verdicts == (Delivered(), Delivered())
    got = {each["event_id"]: each for each in (json.loads(each["Body"]) for each in messages(moto, url))}
    assert set(got) == {event().event_id, HOSTILE.event_id}
    assert got[HOSTILE.event_id] == json.loads(msgspec.json.encode(HOSTILE))


async def test_a_message_of_a_queue_says_what_consumers_choose_by(moto, sender):
    url, settings = queue(moto, "chosen")

    await deliver(sender, "sqs", [event()], **settings)

    (message,) = messages(moto, url)
    assert {name: each["StringValue"] for name, each in message["MessageAttributes"].items()} == {
        "kind": "opened", "severity": "critical", "state": "open", "tenant": "default",
    }  # fmt: skip


async def test_a_repeat_to_an_ordered_queue_is_one_message_and_each_incident_is_a_group(moto, sender):
    url, settings = queue(moto, "ordered.fifo")

    for _ in range(2):
        assert await deliver(sender, "sqs", several(3), **settings) == (Delivered(),) * 3

    got = messages(moto, url)
    assert [each["Attributes"]["MessageGroupId"] for each in got] == [
        "incident-1",
        "incident-2",
        "incident-3",
    ]
    assert [each["Attributes"]["MessageDeduplicationId"] for each in got] == [
        each.event_id for each in several(3)
    ]


async def test_a_queue_that_is_not_there_blocks_and_is_named(moto, sender):
    settings = moto.settings | {"queue_url": f"{moto.url}/{ACCOUNT}/none"}

    (verdict,) = await deliver(sender, "sqs", [event()], **settings)

    assert isinstance(verdict, Blocked)
    assert "QueueDoesNotExist" in verdict.reason or "NonExistentQueue" in verdict.reason


async def test_a_probe_of_a_queue_leaves_nothing_there(moto, sender):
    url, settings = queue(moto, "probed")

    assert await probe(sender, "sqs", **settings) == (Delivered(),)
    assert messages(moto, url) == []


# ---- SNS -------------------------------------------------------------------------------------------------


def topic(moto: amazon.Moto, name: str) -> tuple[str, dict]:
    """Return a queue that is subscribed to a new topic, and the settings for the topic."""
    end = ".fifo" if name.endswith(".fifo") else ""
    attributes = {"FifoTopic": "true"} if end else {}
    arn = moto.client("sns").create_topic(Name=name, Attributes=attributes)["TopicArn"]
    url, _ = queue(moto, f"of-{name}")
    target = f"arn:aws:sqs:{REGION}:{ACCOUNT}:of-{name}"
    moto.client("sns").subscribe(
        TopicArn=arn, Protocol="sqs", Endpoint=target,
        Attributes={"RawMessageDelivery": "true", "FilterPolicy": json.dumps({"severity": ["critical"]})},
    )  # fmt: skip
    return url, moto.settings | {"topic_arn": arn}


@pytest.mark.parametrize("name", ["topic", "topic.fifo"])
async def test_events_are_published_and_subscriptions_can_filter_them(moto, sender, name):
    url, settings = topic(moto, name)
    mild = event(EventKind.UPDATED, 3, incident=view(id="mild", severity="info"))

    verdicts = await deliver(sender, "sns", [event(), mild, HOSTILE], **settings)

    assert verdicts == (Delivered(),) * 3
    got = [json.loads(each["Body"]) for each in messages(moto, url)]
    assert sorted(each["event_id"] for each in got) == sorted([event().event_id, HOSTILE.event_id])
    assert json.loads(msgspec.json.encode(HOSTILE)) in got


async def test_a_topic_that_is_not_there_blocks_and_is_named(moto, sender):
    settings = moto.settings | {"topic_arn": f"arn:aws:sns:{REGION}:{ACCOUNT}:none"}

    (verdict,) = await deliver(sender, "sns", [event()], **settings)

    assert isinstance(verdict, Blocked)
    assert "NotFound" in verdict.reason


# ---- EventBridge -----------------------------------------------------------------------------------------


async def test_events_are_taken_by_a_bus(moto, sender):
    # That rules match is not seen here: moto needs a library for it that is installed for nothing else.
    moto.client("events").create_event_bus(Name="operations")

    verdicts = await deliver(sender, "eventbridge", [event(), HOSTILE], **moto.settings, bus="operations")

    assert verdicts == (Delivered(),) * 2


async def test_a_bus_that_is_not_there_blocks_and_is_named(moto, sender):
    (verdict,) = await deliver(sender, "eventbridge", [event()], **moto.settings, bus="none")

    assert isinstance(verdict, Blocked)
    assert "ResourceNotFoundException" in verdict.reason


async def test_a_probe_of_a_bus_is_taken(moto, sender):
    assert await probe(sender, "eventbridge", **moto.settings, bus="default") == (Delivered(),)


# ---- S3 --------------------------------------------------------------------------------------------------


def bucket(moto: amazon.Moto, name: str) -> dict:
    moto.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return moto.settings | {"bucket": name}


def objects(moto: amazon.Moto, name: str) -> dict[str, bytes]:
    client = moto.client("s3")
    keys = [each["Key"] for each in client.list_objects_v2(Bucket=name).get("Contents", [])]
    return {key: client.get_object(Bucket=name, Key=key)["Body"].read() for key in keys}


async def test_a_batch_is_one_object_of_json_lines_under_its_day(moto, sender):
    settings = bucket(moto, "lines")

    verdicts = await deliver(sender, "s3", [event(), HOSTILE], **settings)

    assert verdicts == (Delivered(), Delivered())
    ((key, body),) = objects(moto, "lines").items()
    assert key.startswith("incidents/year=2026/month=11/day=23/20261123T220001Z-")
    assert [json.loads(line) for line in body.splitlines()] == [
        json.loads(msgspec.json.encode(each)) for each in (event(), HOSTILE)
    ]


async def test_a_repeat_finds_its_object_and_changes_nothing(moto, sender):
    settings = bucket(moto, "repeats")

    first = await deliver(sender, "s3", several(3), **settings)
    before = objects(moto, "repeats")
    again = await deliver(sender, "s3", several(3), **settings)

    assert (first, again) == ((Delivered(),) * 3, (Duplicate(),) * 3)
    assert objects(moto, "repeats") == before
    assert len(before) == 1


async def test_the_largest_event_is_stored_whole(moto, sender):
    settings = bucket(moto, "large")

    (verdict,) = await deliver(sender, "s3", [nasty_event()], **settings)

    assert verdict == Delivered()
    ((_, body),) = objects(moto, "large").items()
    assert json.loads(body)["event_id"] == nasty_event().event_id


async def test_a_bucket_that_is_not_there_blocks_and_is_named(moto, sender):
    (verdict,) = await deliver(sender, "s3", [event()], **moto.settings, bucket="nobody-s-bucket")

    assert isinstance(verdict, Blocked)
    assert verdict.reason.startswith("HTTP 404: NoSuchBucket: ")


async def test_a_probe_of_a_store_that_looks_at_no_checksum_leaves_a_name_that_readers_skip(moto, sender):
    settings = bucket(moto, "probes")

    for _ in range(2):
        assert await probe(sender, "s3", **settings) == (Delivered(),)

    assert objects(moto, "probes") == {"incidents/_tocsin": b"tocsin"}


# ---- S3, as Parquet --------------------------------------------------------------------------------------

SECURITY_LAKE = "ext/tocsin/region=eu-west-1/accountId=123456789012/eventDay={year}{month}{day}"


def ask(folder, body: bytes, text: str) -> list[tuple]:
    (folder / "found.parquet").write_bytes(body)
    with duckdb.connect(":memory:") as reader:
        return reader.sql(text.replace("found", f"'{folder}/found.parquet'")).fetchall()


@pytest.mark.parametrize(("form", "finding"), [("ocsf-incident", 2005), ("ocsf-detection", 2004)])
async def test_what_security_lake_reads_is_parquet_of_one_class_by_time_under_its_day(
    moto, sender, tmp_path, form, finding
):
    settings = bucket(moto, f"lake-{finding}") | {"path": SECURITY_LAKE, "format": form}
    later = [msgspec.structs.replace(each, at=at(60 - each.seq)) for each in several(3)]

    verdicts = await deliver(sender, "s3", [*later, HOSTILE], stored_as="parquet", **settings)

    assert verdicts == (Delivered(),) * 4
    ((key, body),) = objects(moto, f"lake-{finding}").items()
    assert key.startswith("ext/tocsin/region=eu-west-1/accountId=123456789012/eventDay=20261123/20261123T")
    assert key.endswith(".parquet")
    rows = ask(tmp_path, body, "select class_uid, metadata.uid, time, message from found")
    assert [(row[0], row[1]) for row in rows] == [
        (finding, each.event_id) for each in (HOSTILE, *reversed(later))
    ]
    assert [row[2] for row in rows] == sorted(row[2] for row in rows)
    assert rows[0][3] == NASTY
    compressions = ask(tmp_path, body, "select distinct compression from parquet_metadata(found)")
    assert compressions == [("ZSTD",)]


async def test_our_own_events_are_columns_with_labels_that_can_be_asked_for(moto, sender, tmp_path):
    settings = bucket(moto, "columns")

    await deliver(sender, "s3", [event(), HOSTILE], stored_as="parquet", **settings)

    ((key, body),) = objects(moto, "columns").items()
    assert key.startswith("incidents/year=2026/month=11/day=23/")
    assert ask(
        tmp_path,
        body,
        """select event_id, kind, epoch_ms("at"), incident.alerts_total, incident.episodes[1].labels['instance']
        from found where seq = 1""",
    ) == [(event().event_id, "opened", int(event().at.timestamp() * 1000), 2, "10.0.0.0:9100")]


async def test_a_parquet_file_that_is_there_is_found_and_not_changed(moto, sender):
    settings = bucket(moto, "files") | {"stored_as": "parquet"}

    first = await deliver(sender, "s3", several(3), **settings)
    before = objects(moto, "files")
    again = await deliver(sender, "s3", several(3), **settings)

    assert (first, again) == ((Delivered(),) * 3, (Duplicate(),) * 3)
    assert objects(moto, "files") == before


async def test_a_parquet_file_goes_with_its_own_checksum_and_type(moto, sender):
    settings = bucket(moto, "checked") | {"stored_as": "parquet"}

    await deliver(sender, "s3", [event()], **settings)

    ((key, body),) = objects(moto, "checked").items()
    head = moto.client("s3").head_object(Bucket="checked", Key=key, ChecksumMode="ENABLED")
    assert head["ContentType"] == "application/vnd.apache.parquet"
    assert head["ChecksumCRC32"] == base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


# ---- Security Hub ----------------------------------------------------------------------------------------


async def test_an_incident_is_one_finding_that_is_kept_up_to_date(moto, sender):
    moto.client("securityhub").enable_security_hub()
    closed = event(EventKind.CLOSED, 4)
    assert closed.incident.state is IncidentState.CLOSED

    for each in (event(), event(EventKind.ESCALATED, 2, escalations=1), closed):
        assert await deliver(sender, "securityhub", [each], **moto.settings) == (Delivered(),)

    (finding,) = moto.client("securityhub").get_findings()["Findings"]
    assert finding["Id"] == f"tocsin/{closed.incident.id}"
    assert (finding["RecordState"], finding["ProductFields"]["tocsin/kind"]) == ("ARCHIVED", "closed")
    assert finding["Resources"][0]["Id"] == "10.0.0.0"


# ---- all of the way --------------------------------------------------------------------------------------


def test_an_alert_becomes_an_incident_in_buckets_and_in_a_queue(moto, tmp_path):
    bucket(moto, "whole")
    bucket(moto, "whole-files")
    url, _ = queue(moto, "whole")
    place = f"region: {REGION}, endpoint: '{moto.url}'"
    configuration = (
        f"{NO_MODELS}destinations:\n"
        f"  - {{name: lake, kind: s3, {place}, bucket: whole}}\n"
        f"  - {{name: files, kind: s3, {place}, bucket: whole-files, format: ocsf-incident, stored_as: parquet}}\n"
        f"  - {{name: queue, kind: sqs, {place}, queue_url: '{url}'}}\n"
        "routes: [{to: [lake, files, queue]}]\n"
    )
    keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "of-the-environment"}
    sidecar = Sidecar(tmp_path, configuration, **keys)
    try:
        sidecar.start()
        sidecar.send("DiskFull")
        stored = until(lambda: objects(moto, "whole"), "the object")
        files = until(lambda: objects(moto, "whole-files"), "the file")
        sent = until(lambda: messages(moto, url), "the message")
    finally:
        if sidecar.process is not None:
            sidecar.process.kill()
            sidecar.process.wait()

    ((key, body),) = stored.items()
    assert key.startswith("incidents/year=")
    assert [json.loads(line) for line in body.splitlines()] == [json.loads(each["Body"]) for each in sent]
    assert json.loads(body)["incident"]["episodes"][0]["labels"]["alertname"] == "DiskFull"
    ((key, body),) = files.items()
    assert key.endswith(".parquet")
    types = ask(tmp_path, body, "select class_uid, finding_info_list[1].types from found")
    assert types == [(2005, ["DiskFull"])]
    assert "of-the-environment" not in sidecar.log.read_text("utf-8")


# ---- credentials -----------------------------------------------------------------------------------------


async def test_a_role_is_assumed_with_the_keys_of_the_settings(moto, sender, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto.url)
    settings = bucket(moto, "assumed") | {"role_arn": f"arn:aws:iam::{ACCOUNT}:role/writer"}

    assert await deliver(sender, "s3", [event()], **settings) == (Delivered(),)
    assert len(objects(moto, "assumed")) == 1


async def test_what_an_sts_that_is_not_there_leads_to_passes(moto, sender, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    connector = build("s3", **moto.settings, bucket="assumed", role_arn=f"arn:aws:iam::{ACCOUNT}:role/writer")
    rendered = connector.render([event()], None, "")

    response = await sender.send(connector.seal(rendered.request, rendered.event_ids, START), timeout_s=20)

    assert not isinstance(response, HttpResponse)
    assert (response.kind, response.maybe_sent) == ("connect", False)
