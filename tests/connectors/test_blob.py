"""Azure Blob Storage: names, signatures, and each answer to a blob that is new, there, or refused."""

from __future__ import annotations

import pytest
from azures import Answer, service
from builders import START, event
from cases.blob import SIGNATURE
from destinations import build
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, Duplicate, EventKind, Retry, Split
from bridge.ports import HttpResponse, Rendered

ETAG = {"ETag": '"0x8DCAFE"'}


def error(code: str) -> bytes:
    return f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>told</Message></Error>'.encode()


def rendered(case: str = "blob", count: int = 1) -> Rendered:
    return build(case).render([event(EventKind.UPDATED, seq) for seq in range(1, count + 1)], None, "")


@pytest.fixture
async def storage(tmp_path, monkeypatch):
    async with service(Answer(201, headers=ETAG), tmp_path, monkeypatch) as fake:
        yield fake


def connector_of(fake):
    return build("blob", url=fake.url, ca_file=fake.ca_file)


def test_a_batch_is_a_blob_of_lines_under_its_day():
    request = rendered(count=3).request

    assert request.method == "PUT"
    assert request.url.startswith(
        "https://example.blob.core.windows.net/incidents/incidents/year%3D2026/month%3D11/day%3D23/20261123T220001Z-"
    )
    assert (request.headers["if-none-match"], request.headers["x-ms-blob-type"]) == ("*", "BlockBlob")
    assert request.body.count(b"\n") == 3


def test_a_signature_stands_in_the_address_of_one_attempt_and_no_token_beside_it():
    connector, made = build("blob_sas", url="https://example.blob.core.windows.net/"), rendered("blob_sas")

    sealed = connector.seal(made.request, made.event_ids, START)

    assert (
        sealed.url.partition("?")[0]
        == f"https://example.blob.core.windows.net/incidents/{made.request.about['key']}"
    )
    assert sealed.url.partition("?")[2] == SIGNATURE
    assert sealed.auth is None


def test_a_token_is_for_storage():
    made = rendered()
    sealed = build("blob").seal(made.request, made.event_ids, START)

    assert sealed.auth.options == {"scope": "https://storage.azure.com/.default", "identity": "managed"}


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (409, "BlobAlreadyExists", Duplicate),
        (412, "ConditionNotMet", Duplicate),
        (403, "UnauthorizedBlobOverwrite", Duplicate),  # a signature that may only create
        (409, "ContainerBeingDeleted", Blocked),
        (409, "BlobImmutableDueToPolicy", Blocked),
        (400, "InvalidHeaderValue", Blocked),
        (401, "InvalidAuthenticationInfo", Blocked),
        (403, "AuthenticationFailed", Blocked),
        (403, "AuthorizationPermissionMismatch", Blocked),
        (404, "ContainerNotFound", Blocked),
        (413, "RequestBodyTooLarge", Split),
        (500, "OperationTimedOut", Retry),
        (503, "ServerBusy", Retry),
    ],
)
@pytest.mark.parametrize("place", ["body", "header"])
def test_every_documented_answer_leads_to_its_verdict(status, code, verdict, place):
    in_header = {"x-ms-error-code": code} if place == "header" else {}
    answer = HttpResponse(status=status, headers=in_header, body=error(code) if place == "body" else b"")

    judged = build("blob").judge(rendered(count=3), answer)

    assert {type(each) for each in judged} == {verdict}
    assert len(judged) == 3


def test_a_missing_role_is_named():
    answer = HttpResponse(status=403, headers={}, body=error("AuthorizationPermissionMismatch"))

    assert "Storage Blob Data Contributor" in build("blob").judge(rendered(), answer)[0].reason


def test_one_event_a_blob_is_stored_once():
    assert build("blob", max_events=1).caps.delivery_class == "exactly-once effect"
    assert build("blob", max_events=1).caps.max_events == 1


def test_the_probe_is_a_name_that_readers_skip_and_that_may_be_there():
    connector = build("blob")
    probe = Rendered(request=connector.probe(), event_ids=("x",))

    assert probe.request.url.endswith("/incidents/incidents/_tocsin")
    there = HttpResponse(status=409, headers={}, body=error("BlobAlreadyExists"))
    assert connector.judge(probe, there) == (Delivered(),)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "https://example.blob.core.windows.net?sv=1&sig=x"},
        {"container": "Incidents"},
        {"container": "a"},
        {"container": "a--b"},
        {"sas_token": "not a signature"},
        {"sas_token": "sv=1"},
        {"sas_token": "sv=1&sig=x", "sas_token_file": "/dev/null"},
        {
            "sas_token": "sv=1&sig=x",
            "tenant_id": "t",
            "client_id": "c",
            "client_secret": "s",
            "identity": "default",
        },
        {"path": "{minute}"},
    ],
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ValidationError):
        build("blob", **settings)


def test_a_signature_may_begin_with_its_question_mark(tmp_path):
    (tmp_path / "sas").write_text(f"?{SIGNATURE}\n")
    connector = build("blob_sas", sas_token=None, sas_token_file=str(tmp_path / "sas"))

    assert connector.seal(rendered().request, (), START).url.endswith(f"?{SIGNATURE}")


def test_only_a_token_needs_the_library_of_azure(tmp_path, monkeypatch):
    monkeypatch.setattr("connectors.clouds.azure.find_spec", lambda _name: None)

    assert 'pip install "tocsin[azure]"' in build("blob")._settings.faults(tmp_path)["kind"]
    assert build("blob_sas")._settings.faults(tmp_path) == {}


# ---- a service --------------------------------------------------------------------------------------------


async def test_a_blob_is_put_with_a_token(storage):
    assert await storage.deliver(connector_of(storage), rendered(count=3)) == [Delivered()] * 3

    (request,) = storage.requests
    assert request.path.startswith("/incidents/incidents/year=2026/month=11/day=23/")
    assert (request.headers["x-ms-version"], request.headers["content-type"]) == (
        "2023-11-03",
        "application/x-ndjson",
    )
    assert storage.scopes == ["https://storage.azure.com/.default"]


async def test_a_file_goes_in_the_place_of_lines_before_a_token_is_asked_for(storage):
    made = rendered("blob_parquet", count=3)

    assert await storage.deliver(connector_of(storage), made) == [Delivered()] * 3

    (request,) = storage.requests
    assert request.path.endswith(".parquet")
    assert request.headers["content-type"] == "application/vnd.apache.parquet"
    assert [(body[:4], body[-4:]) for body in storage.bodies] == [(b"PAR1", b"PAR1")]


async def test_what_was_stored_before_the_connection_broke_is_a_duplicate(storage):
    # aiohttp repeats a PUT once by itself when the connection breaks; it may, the name makes that harmless.
    storage.answers = [Answer(201, drops=True)] * 2 + [Answer(409, error("BlobAlreadyExists"))]

    (first,) = await storage.deliver(connector_of(storage), rendered())
    (second,) = await storage.deliver(connector_of(storage), rendered())

    assert isinstance(first, Retry)
    assert first.maybe_sent
    assert second == Duplicate()
    assert len({request.path for request in storage.requests}) == 1


async def test_an_expired_token_is_renewed_within_the_attempt(storage):
    storage.token = "token-2"

    assert await storage.deliver(connector_of(storage), rendered()) == [Delivered()]
    assert len(storage.requests) == 2


async def test_a_busy_storage_is_waited_for_as_long_as_it_says(storage):
    storage.answers = [Answer(503, error("ServerBusy"), {"Retry-After": "5"})]

    (verdict,) = await storage.deliver(connector_of(storage), rendered())

    assert isinstance(verdict, Retry)
    assert (verdict.after_s, verdict.whole_destination) == (5.0, True)
