"""Credentials of AWS: what is found, kept, renewed and forgotten; signatures that a verifier of them accepts."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

import botocore.auth
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    ProfileNotFound,
)
from botocore.session import Session
from builders import event
from destinations import build

from bridge.ports import Auth, Http, HttpResponse, Unreached
from connectors.transport.http import HttpSender
from connectors.transport.vendors import Authorizers
from connectors.transport.vendors.aws import Aws, found, signed

KEYS = {
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
OPTIONS = {"service": "sqs", "region": "eu-west-1"}
AUTH = Auth(vendor="aws", options=OPTIONS)
POST = Http(
    method="POST", url="http://127.0.0.1:1/", headers={"content-type": "application/json"}, body=b"{}"
)
NOW = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def keys(number: int = 1, token: str | None = None) -> Credentials:
    return Credentials(f"AKIA{number}", f"secret-{number}", token)


def renewing(ends: timedelta, renewed: list[int]) -> RefreshableCredentials:
    """Return credentials that end so much later, and that note in `renewed` when they are asked for anew."""

    def refresh() -> dict[str, str]:
        renewed.append(1)
        return {
            "access_key": "AKIANEW", "secret_key": "new", "token": "t",
            "expiry_time": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        }  # fmt: skip

    return RefreshableCredentials("AKIAOLD", "old", "t", datetime.now(UTC) + ends, refresh, "test")


def who(made: Http | Unreached) -> str:
    """Return whose key signed."""
    assert isinstance(made, Http), made
    return made.headers["Authorization"].partition("Credential=")[2].partition("/")[0]


# ---- signatures ------------------------------------------------------------------------------------------


def by_aws_own_client(monkeypatch, service: str, call, token: str | None = None):
    """Return the request that AWS' own client signs at NOW and would send."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW.replace(tzinfo=None))
    session, sent = Session(), []
    session.set_credentials(KEYS["access_key_id"], KEYS["secret_access_key"], token)
    client = session.create_client(
        service, region_name="eu-west-1",
        config=Config(
            parameter_validation=False, retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required", s3={"payload_signing_enabled": True},
        ),
    )  # fmt: skip

    def keep(request, **_):
        sent.append(request)
        raise InterruptedError

    client.meta.events.register("before-send", keep)
    with pytest.raises(InterruptedError):
        call(client)
    return sent[0]


CALLS = [
    ("sqs", lambda client: client.send_message(QueueUrl="https://sqs.eu-west-1.amazonaws.com/1/q", MessageBody="é")),
    ("events", lambda client: client.put_events(Entries=[{"Source": "s", "DetailType": "d", "Detail": "{}"}])),
    ("sns", lambda client: client.publish(TopicArn="arn:aws:sns:eu-west-1:123456789012:t", Message="a b")),
    ("s3", lambda client: client.put_object(Bucket="b", Key="year=2026/day=23/a b+c~é.jsonl", Body=b"{}\n", IfNoneMatch="*")),
    ("securityhub", lambda client: client.batch_import_findings(Findings=[])),
]  # fmt: skip


@pytest.mark.parametrize(("service", "call"), CALLS)
@pytest.mark.parametrize("token", [None, "session/token=="])
def test_a_signature_is_the_one_that_aws_own_client_makes(monkeypatch, service, call, token):
    theirs = by_aws_own_client(monkeypatch, service, call, token)
    names = (
        theirs.headers["Authorization"].decode().partition("SignedHeaders=")[2].partition(",")[0].split(";")
    )
    body = theirs.body.read() if hasattr(theirs.body, "read") else _bytes(theirs.body)
    added = {"host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"}
    headers = {name: _text(theirs.headers[name]) for name in names if name not in added}
    request = Http(method=theirs.method, url=theirs.url, headers=headers, body=body)

    ours = signed(
        request, {"service": service, "region": "eu-west-1"},
        Credentials(KEYS["access_key_id"], KEYS["secret_access_key"], token),
    )  # fmt: skip

    assert ours.headers["Authorization"] == theirs.headers["Authorization"].decode()
    assert ours.auth is None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


async def verified(request: web.Request, service: str) -> bool:
    """Return whether a signature is that of what arrived, as AWS computes it: from the decoded path, encoded anew."""
    given = request.headers["Authorization"]
    names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    path = quote(unquote(request.raw_path), safe="/~")
    again = AWSRequest(
        method=request.method, url=f"http://{request.headers['Host']}{path}",
        headers={name: request.headers[name] for name in names if name != "host"}, data=await request.read(),
    )  # fmt: skip
    signer = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth
    made = signer(Credentials(KEYS["access_key_id"], KEYS["secret_access_key"]), service, "eu-west-1")
    again.context["timestamp"] = request.headers["X-Amz-Date"]
    return given.endswith(made.signature(made.string_to_sign(again, made.canonical_request(again)), again))


@pytest.mark.parametrize(
    ("case", "service"),
    [("s3", "s3"), ("sqs", "sqs"), ("sns", "sns"), ("eventbridge", "events"), ("securityhub", "securityhub")],
)
async def test_what_arrives_is_what_was_signed(case, service):
    seen = []

    async def verify(request: web.Request) -> web.Response:
        seen.append(await verified(request, service))
        return web.Response(status=500)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", verify)
    async with TestServer(app) as server:
        connector = build(case, **KEYS, region="eu-west-1", endpoint=str(server.make_url("/")))
        rendered = connector.render([event()], None, "")
        sender = HttpSender()
        await sender.send(connector.seal(rendered.request, rendered.event_ids, NOW), timeout_s=10)
        await sender.close()

    assert seen == [True]


# ---- what is found ---------------------------------------------------------------------------------------


def test_keys_of_the_settings_are_taken_as_they_are(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")

    assert found(OPTIONS | KEYS).access_key == KEYS["access_key_id"]
    assert found(OPTIONS).access_key == "AKIAOTHER"


def test_a_profile_is_looked_for_in_the_shared_files(tmp_path):
    (tmp_path / "credentials").write_text(
        "[writer]\naws_access_key_id = AKIAFILE\naws_secret_access_key = s\n"
    )

    assert found(OPTIONS | {"profile": "writer"}).access_key == "AKIAFILE"
    with pytest.raises(ProfileNotFound):
        found(OPTIONS | {"profile": "nobody"})


def test_where_nothing_is_there_nothing_is_found():
    assert found(OPTIONS) is None


# ---- what is kept ----------------------------------------------------------------------------------------


class Finder:
    """Finds what is next in a list, in a thread."""

    def __init__(self, *results) -> None:
        self.results, self.asked = list(results), []

    def __call__(self, options):
        self.asked.append(options)
        assert threading.current_thread() is not threading.main_thread()
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


async def test_credentials_are_looked_for_once_for_requests_at_the_same_time():
    finder = Finder(keys())
    aws = Aws(finder)

    made = await asyncio.gather(*(aws.authorize(POST, AUTH, timeout_s=5) for _ in range(10)))

    assert {who(each) for each in made} == {"AKIA1"}
    assert len(finder.asked) == 1


async def test_services_share_credentials_and_other_settings_have_their_own():
    finder = Finder(keys(1), keys(2))
    aws = Aws(finder)

    made = [
        await aws.authorize(POST, Auth(vendor="aws", options=OPTIONS | more), timeout_s=5)
        for more in ({}, {"service": "s3"}, {"profile": "other"})
    ]

    assert [who(each) for each in made] == ["AKIA1", "AKIA1", "AKIA2"]
    assert "X-Amz-Content-SHA256" in made[1].headers


async def test_credentials_that_do_not_say_when_they_end_are_looked_for_anew(monkeypatch):
    monkeypatch.setattr("connectors.transport.vendors.aws.KEPT_S", 0.0)
    aws = Aws(Finder(keys(1), keys(2)))

    assert who(await aws.authorize(POST, AUTH, timeout_s=5)) == "AKIA1"
    assert who(await aws.authorize(POST, AUTH, timeout_s=5)) == "AKIA2"


async def test_credentials_that_end_are_renewed_before_they_do():
    renewed: list[int] = []
    aws = Aws(Finder(renewing(timedelta(minutes=5), renewed)))

    assert who(await aws.authorize(POST, AUTH, timeout_s=5)) == "AKIANEW"
    assert who(await aws.authorize(POST, AUTH, timeout_s=5)) == "AKIANEW"
    assert renewed == [1]


async def test_credentials_that_last_are_not_asked_for_anew():
    renewed: list[int] = []
    aws = Aws(Finder(renewing(timedelta(hours=1), renewed)))

    for _ in range(3):
        assert who(await aws.authorize(POST, AUTH, timeout_s=5)) == "AKIAOLD"
    assert renewed == []


async def test_what_is_forgotten_is_looked_for_again():
    aws = Aws(Finder(keys(1), keys(2)))

    assert not aws.forget(AUTH)
    assert who(await aws.authorize(POST, AUTH, timeout_s=5)) == "AKIA1"
    assert aws.forget(AUTH)
    assert who(await aws.authorize(POST, AUTH, timeout_s=5)) == "AKIA2"


async def test_keys_of_the_settings_are_no_others_however_often_they_are_refused():
    fixed = Auth(vendor="aws", options=OPTIONS | KEYS)
    aws = Aws(Finder(keys()))
    await aws.authorize(POST, fixed, timeout_s=5)

    assert not aws.forget(fixed)


async def test_a_large_body_is_signed_in_a_thread_alike():
    large = msgspec.structs.replace(POST, body=b"x" * 300_000)
    aws = Aws(Finder(keys()))

    made = await aws.authorize(large, AUTH, timeout_s=5)

    assert who(made) == "AKIA1"
    assert made.body == large.body


# ---- what goes wrong -------------------------------------------------------------------------------------


def refused(code: str, status: int) -> ClientError:
    response = {"Error": {"Code": code, "Message": "secret"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "AssumeRole")


@pytest.mark.parametrize(
    ("result", "kind", "words"),
    [
        (None, "local", "no AWS credentials were found; set access_key_id"),
        (ProfileNotFound(profile="x"), "local", "ProfileNotFound"),
        (refused("AccessDenied", 403), "local", "AssumeRole was answered AccessDenied"),
        (refused("ExpiredTokenException", 400), "local", "ExpiredTokenException"),
        (refused("Throttling", 400), "connect", "Throttling"),
        (refused("", 503), "connect", "503"),
        (ConnectTimeoutError(endpoint_url="http://secret"), "connect", "ConnectTimeoutError"),
        (CredentialRetrievalError(provider="x", error_msg="secret"), "connect", "CredentialRetrievalError"),
    ],
)
async def test_a_fault_says_what_it_is_and_whether_it_passes(result, kind, words):
    made = await Aws(Finder(result)).authorize(POST, AUTH, timeout_s=5)

    assert isinstance(made, Unreached)
    assert (made.kind, made.maybe_sent) == (kind, False)
    assert words in made.reason
    assert "secret" not in made.reason.replace("secret_access_key", "")


async def test_after_a_fault_it_is_tried_anew():
    aws = Aws(Finder(None, refused("", 500), keys(3)))

    made = [await aws.authorize(POST, AUTH, timeout_s=5) for _ in range(3)]

    assert [type(each) for each in made] == [Unreached, Unreached, Http]


async def test_credentials_that_do_not_come_in_time_are_not_waited_for():
    let_go = threading.Event()
    aws = Aws(lambda _options: let_go.wait(5) and None)

    made = await aws.authorize(POST, AUTH, timeout_s=0.05)
    let_go.set()

    assert isinstance(made, Unreached)
    assert made.reason == "AWS gave no credentials in time"


async def test_a_finder_that_hangs_is_one_thread_and_takes_no_place_from_others():
    let_go, finder = threading.Event(), Finder(keys())
    asked = []

    def hang(options):
        asked.append(options)
        let_go.wait(20)
        return finder(options)

    aws = Aws(hang)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as shared:
        loop.set_default_executor(shared)
        try:
            made = [await aws.authorize(POST, AUTH, timeout_s=0.02) for _ in range(5)]
            async with asyncio.timeout(5):
                assert await asyncio.to_thread(lambda: True)
        finally:
            let_go.set()
        found_late = await aws.authorize(POST, AUTH, timeout_s=5)

    assert {type(each) for each in made} == {Unreached}
    assert who(found_late) == "AKIA1"
    assert len(asked) == 1


async def test_what_comes_after_everybody_has_left_is_kept():
    let_go, finder = threading.Event(), Finder(keys())
    aws = Aws(lambda options: let_go.wait(5) and finder(options))
    await aws.authorize(POST, AUTH, timeout_s=0.02)
    let_go.set()

    async with asyncio.timeout(5):
        while not next(iter(aws._kept.values())).is_usable():
            await asyncio.sleep(0)

    assert who(await aws.authorize(POST, AUTH, timeout_s=5)) == "AKIA1"
    assert len(finder.asked) == 1


async def test_credentials_that_end_within_minutes_are_renewed_beside_the_loop_only():
    threads = []

    def refresh() -> dict[str, str]:
        threads.append(threading.current_thread())
        ends = (datetime.now(UTC) + timedelta(minutes=12)).isoformat()
        return {"access_key": "AKIASHORT", "secret_key": "s", "token": "t", "expiry_time": ends}

    soon = datetime.now(UTC) + timedelta(minutes=5)
    aws = Aws(Finder(RefreshableCredentials("AKIAOLD", "old", "t", soon, refresh, "test")))

    assert [who(await aws.authorize(POST, AUTH, timeout_s=5)) for _ in range(2)] == ["AKIASHORT"] * 2
    assert threading.main_thread() not in threads


class OnlyAws(Authorizers):
    def __init__(self, aws: Aws) -> None:
        super().__init__()
        self._made["aws"] = aws


@pytest.mark.parametrize(
    ("status", "body", "tried"),
    [
        (403, b"<Error><Code>ExpiredToken</Code></Error>", 2),
        (400, b'{"__type":"com.amazon.coral.service#ExpiredTokenException"}', 2),
        (403, b"<Error><Code>InvalidClientTokenId</Code></Error>", 2),
        (403, b"<Error><Code>AccessDenied</Code></Error>", 1),
        (400, b'{"__type":"ThrottlingException"}', 1),
        (500, b"ExpiredToken", 1),
    ],
)
async def test_credentials_that_aws_takes_no_more_are_renewed_once(status, body, tried):
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"].partition("Credential=")[2][:5])
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app) as server:
        request = msgspec.structs.replace(POST, url=str(server.make_url("/")), auth=AUTH)
        sender = HttpSender(authorizers=OnlyAws(Aws(Finder(keys(1), keys(2)))))
        response = await sender.send(request, timeout_s=5)
        await sender.close()

    assert isinstance(response, HttpResponse)
    assert seen == ["AKIA1", "AKIA2"][:tried]


async def test_the_library_is_imported_beside_the_loop():
    threads = []

    class Watched(Authorizers):
        def of(self, vendor: str):
            threads.append(threading.current_thread())
            return super().of(vendor)

    request = msgspec.structs.replace(POST, url="http://127.0.0.1:9/", auth=AUTH)
    sender = HttpSender(authorizers=Watched())
    for _ in range(2):
        await sender.send(request, timeout_s=5)
    await sender.close()

    assert [each is threading.main_thread() for each in threads] == [False, True]
