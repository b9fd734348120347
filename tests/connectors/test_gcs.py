"""Cloud Storage: one object a batch, once, and a bucket that answers as the service does."""

from __future__ import annotations

import json

import duckdb
import pytest
import tenacity
from aiohttp.test_utils import TestServer
from builders import START, event
from destinations import build
from googles import ERRORS, THERE, Bucket, refused
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, Duplicate, EventKind, Reject, Retry
from bridge.ports import HttpResponse, Rendered
from connectors.transport.http import HttpSender

#: The same to those who may only create.
ONLY_CREATES = refused(
    403, "", "tocsin@p.iam.gserviceaccount.com does not have storage.objects.delete access to the Google Cloud "
    "Storage object.", errors=[{"domain": "global", "reason": "forbidden"}],
)  # fmt: skip
MAY_NOT = refused(
    403, "", "tocsin@p.iam.gserviceaccount.com does not have storage.objects.create access to the Google Cloud "
    "Storage object.", errors=[{"domain": "global", "reason": "forbidden"}],
)  # fmt: skip


def rendered(count: int = 1, **settings) -> Rendered:
    events = [event(EventKind.UPDATED, seq) for seq in range(1, count + 1)]
    return build("gcs", **settings).render(events, None, "")


@pytest.mark.parametrize(("answer", "verdict"), ERRORS)
def test_every_documented_error_leads_to_its_verdict_and_none_is_about_an_event(answer, verdict):
    verdict = Blocked if verdict is Reject else verdict

    assert [type(each) for each in build("gcs").judge(rendered(2), answer)] == [verdict] * 2


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (THERE, Duplicate),
        (ONLY_CREATES, Duplicate),
        (MAY_NOT, Blocked),
        (refused(412, "", "x", errors=[{"reason": "orgPolicyConstraintFailed"}]), Blocked),
    ],
)
def test_an_object_that_is_there_already_is_a_duplicate_and_no_other_refusal_is(answer, verdict):
    assert [type(each) for each in build("gcs").judge(rendered(2), answer)] == [verdict] * 2


def test_a_success_names_the_object():
    batch = rendered()
    other = json.dumps({"kind": "storage#object", "name": "other", "generation": "1"}).encode()

    (verdict,) = build("gcs").judge(batch, HttpResponse(status=200, headers={}, body=other))

    assert isinstance(verdict, Blocked)


def test_the_name_stands_in_the_address_escaped():
    batch = build("gcs", path="a=b/{day}").render([event()], None, "")

    assert "name=a%3Db%2F23%2F20261123T220001Z-" in batch.request.url
    assert "&ifGenerationMatch=0&" in batch.request.url


def test_one_event_an_object_has_the_effect_of_once():
    assert build("gcs", max_events=1).caps.delivery_class == "exactly-once effect"
    assert build("gcs").caps.delivery_class == "at least once, deduplicate on event_id"


def test_a_probe_tells_of_a_permission_that_is_missing():
    connector = build("gcs")
    probe = Rendered(request=connector.seal(connector.probe(), (), START), event_ids=("x",))

    (verdict,) = connector.judge(probe, HttpResponse(status=200, headers={}, body=b"{}"))

    assert isinstance(verdict, Blocked)
    assert "may not storage.objects.create" in verdict.reason


@pytest.mark.parametrize("bucket", ["Example", "a", "gs://b", "a/b"])
def test_a_bucket_that_cannot_be_is_told_of_when_the_configuration_is_read(bucket):
    with pytest.raises(ValidationError, match="bucket"):
        build("gcs", bucket=bucket)


# ---- a bucket ---------------------------------------------------------------------------------------------


@pytest.fixture
async def bucket():
    fake = Bucket()
    async with TestServer(fake.app()) as server:
        fake.url = str(server.make_url("/"))
        yield fake


async def deliver(bucket: Bucket, batch: Rendered):
    connector, sender = build("gcs", url=bucket.url), HttpSender(wait=tenacity.wait_none())
    response = await sender.send(connector.seal(batch.request, batch.event_ids, START), timeout_s=10)
    await sender.close()
    return connector.judge(batch, response)


async def test_an_incident_becomes_lines_of_one_object(bucket):
    batch = rendered(3)

    assert await deliver(bucket, batch) == (Delivered(),) * 3

    (name,) = bucket.objects
    assert name.startswith("incidents/year=2026/month=11/day=23/20261123T220001Z-")
    assert name.endswith(".jsonl")
    lines = bucket.objects[name].splitlines()
    assert tuple(json.loads(line)["event_id"] for line in lines) == batch.event_ids


async def test_a_batch_becomes_one_parquet_file_and_is_stored_once(bucket, tmp_path):
    batch = rendered(3, stored_as="parquet")

    first, second = [await deliver(bucket, batch) for _ in range(2)]

    assert (first, second) == ((Delivered(),) * 3, (Duplicate(),) * 3)
    ((name, body),) = bucket.objects.items()
    assert name.endswith(".parquet")
    (tmp_path / "x.parquet").write_bytes(body)
    with duckdb.connect(":memory:") as reader:
        read = reader.sql(f"from '{tmp_path}/x.parquet'").project("event_id").fetchall()
    assert tuple(each for (each,) in read) == batch.event_ids


async def test_a_connection_that_breaks_after_the_store_leaves_one_object(bucket):
    bucket.faults = ["reset after accept"]

    first = await deliver(bucket, rendered(2))
    second = await deliver(bucket, rendered(2))

    assert [(type(each), each.maybe_sent) for each in first] == [(Retry, True)] * 2
    assert second == (Duplicate(),) * 2
    assert len(bucket.objects) == 1


async def test_a_busy_bucket_is_waited_for_as_long_as_it_says(bucket):
    bucket.faults = [HttpResponse(status=503, headers={"Retry-After": "4"}, body=b"")]

    (verdict,) = await deliver(bucket, rendered())

    assert (type(verdict), verdict.after_s) == (Retry, 4.0)
