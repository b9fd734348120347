"""Google's credentials against a token endpoint, a security token service and a metadata server of our own."""

from __future__ import annotations

import asyncio
import json
import time

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from google.auth import environment_vars
from google.auth.compute_engine import _metadata
from googles import KEY, SCOPE, TokenServer, key_of

from bridge.ports import Auth, Http, HttpResponse, Unreached
from connectors.transport.http import HttpSender
from connectors.transport.vendors import Authorizers
from connectors.transport.vendors.google import GoogleAuthorizer

AUDIENCE = "https://oauth2.googleapis.com/token"
REQUEST = Http(method="POST", url="https://pubsub.example.com/", headers={"content-type": "x"}, body=b"{}")


@pytest.fixture
async def tokens():
    fake = TokenServer()
    async with TestServer(fake.app()) as server:
        fake.url, fake.address = str(server.make_url("/token")), f"127.0.0.1:{server.port}"
        yield fake
        fake.released.set()


def auth_of(tokens: TokenServer, **changes: str) -> Auth:
    return Auth(
        vendor="google",
        options={"scope": SCOPE, "key": key_of(changes.pop("token_uri", tokens.url), **changes)},
    )


async def bearer(authorizer: GoogleAuthorizer, auth: Auth) -> str:
    signed = await authorizer.authorize(REQUEST, auth, timeout_s=10.0)
    assert isinstance(signed, Http), signed
    assert signed.headers["content-type"] == "x"
    return signed.headers["authorization"]


async def refusal(auth: Auth, timeout_s: float = 10.0) -> Unreached:
    answer = await GoogleAuthorizer().authorize(REQUEST, auth, timeout_s=timeout_s)
    assert isinstance(answer, Unreached)
    assert not answer.maybe_sent
    assert "PRIVATE" not in answer.reason
    return answer


async def test_a_key_signs_for_a_token_of_the_scope_and_no_more(tokens):
    assert await bearer(GoogleAuthorizer(), auth_of(tokens)) == "Bearer ya29.1"

    (asked,) = tokens.asked
    claims = jwt.decode(asked["assertion"][0], KEY.public_key(), algorithms=["RS256"], audience=AUDIENCE)
    assert (claims["iss"], claims["scope"]) == ("tocsin@p.iam.gserviceaccount.com", SCOPE)


async def test_a_token_is_asked_for_once_however_many_wait_for_it(tokens):
    authorizer, auth = GoogleAuthorizer(), auth_of(tokens)
    tokens.released.clear()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(bearer(authorizer, auth)) for _each in range(20)]
        while not tokens.asked:
            await asyncio.sleep(0)
        tokens.released.set()

    assert {each.result() for each in waiting} == {"Bearer ya29.1"} == {await bearer(authorizer, auth)}
    assert len(tokens.asked) == 1


async def test_each_scope_and_key_has_a_token_of_its_own(tokens):
    authorizer = GoogleAuthorizer()
    one, other = auth_of(tokens), auth_of(tokens, client_email="other@p.iam.gserviceaccount.com")

    assert [await bearer(authorizer, each) for each in (one, other, one)] == [
        "Bearer ya29.1", "Bearer ya29.2", "Bearer ya29.1",
    ]  # fmt: skip


async def test_a_token_that_is_about_to_end_is_renewed(tokens):
    authorizer, auth = GoogleAuthorizer(), auth_of(tokens)
    tokens.lasts_s = 60
    await bearer(authorizer, auth)

    assert await bearer(authorizer, auth) == "Bearer ya29.2"


async def test_a_token_that_has_a_minute_left_is_used_where_no_new_one_can_be_had(tokens):
    authorizer, auth = GoogleAuthorizer(), auth_of(tokens)
    tokens.lasts_s = 60
    await bearer(authorizer, auth)
    tokens.answers = [web.json_response({"error": "invalid_grant"}, status=400)]

    assert await bearer(authorizer, auth) == "Bearer ya29.1"


async def test_a_refused_key_is_for_a_person(tokens):
    told = {"error": "invalid_grant", "error_description": "Invalid JWT Signature. eyJhbGciOiJ.eyJpc3M.c2ln"}
    tokens.answers = [web.json_response(told, status=400)]

    answer = await refusal(auth_of(tokens))

    assert answer.kind == "local"
    assert answer.reason == "no token from Google: invalid_grant: Invalid JWT Signature. ********"


async def test_an_endpoint_that_does_not_answer_is_asked_again_later(tokens):
    answer = await refusal(auth_of(tokens, token_uri="http://127.0.0.1:9/token"))

    assert answer.kind == "connect"


async def test_an_endpoint_that_hangs_is_not_waited_for_longer_than_an_attempt_and_another_destination_not_at_all(
    tokens,
):
    tokens.released.clear()
    began = time.monotonic()

    answer = await refusal(auth_of(tokens), timeout_s=0.2)

    assert (answer.kind, time.monotonic() - began < 5) == ("connect", True)
    tokens.released.set()


@pytest.mark.parametrize("key", [{"type": "service_account"}, {"type": "external_account"}])
async def test_a_key_that_lacks_something_is_for_a_person(key):
    answer = await refusal(Auth(vendor="google", options={"scope": SCOPE, "key": json.dumps(key)}))

    assert answer.kind == "local"


@pytest.fixture
def federation(tokens, tmp_path):
    """Return the configuration of a federation whose token a file holds."""
    (tmp_path / "token").write_text("the-token-of-the-pod")
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": tokens.url,
        "credential_source": {"file": str(tmp_path / "token")},
    }


async def test_a_federated_workload_changes_its_own_token_for_one_of_google(tokens, federation):
    auth = Auth(vendor="google", options={"scope": SCOPE, "key": json.dumps(federation)})

    assert await bearer(GoogleAuthorizer(), auth) == "Bearer ya29.1"
    assert tokens.asked[0]["subject_token"] == ["the-token-of-the-pod"]
    assert tokens.asked[0]["scope"] == [SCOPE]


async def test_a_federations_configuration_that_names_a_program_runs_none(federation, tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    ran = tmp_path / "ran"
    source = {"executable": {"command": f"/usr/bin/touch {ran}", "timeout_millis": 5000}}
    options = {"scope": SCOPE, "key": json.dumps(federation | {"credential_source": source})}

    answer = await refusal(Auth(vendor="google", options=options))

    assert (answer.kind, ran.exists()) == ("local", False)


async def test_the_application_default_credentials_are_those_of_the_environment(
    tokens, federation, tmp_path, monkeypatch
):
    (tmp_path / "adc.json").write_text(json.dumps(federation))
    monkeypatch.setenv(environment_vars.CREDENTIALS, str(tmp_path / "adc.json"))

    assert (
        await bearer(GoogleAuthorizer(), Auth(vendor="google", options={"scope": SCOPE})) == "Bearer ya29.1"
    )
    assert tokens.asked[0]["scope"] == [SCOPE]


@pytest.fixture
def nothing_else(tmp_path, monkeypatch):
    """Leave no credentials but the metadata server's."""
    monkeypatch.delenv(environment_vars.CREDENTIALS, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))


@pytest.mark.usefixtures("nothing_else")
async def test_on_a_machine_of_google_its_metadata_server_gives_the_token(tokens, monkeypatch):
    monkeypatch.setenv(environment_vars.GCE_METADATA_IP, tokens.address)
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", tokens.address)

    assert (
        await bearer(GoogleAuthorizer(), Auth(vendor="google", options={"scope": SCOPE})) == "Bearer ya29.1"
    )


@pytest.mark.usefixtures("nothing_else")
async def test_no_credentials_at_all_are_for_a_person(monkeypatch):
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True)

    answer = await refusal(Auth(vendor="google", options={"scope": SCOPE}))

    assert (answer.kind, "default credentials were not found" in answer.reason) == ("local", True)


async def test_a_token_that_the_service_refuses_is_renewed_once(tokens):
    async def publish(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.headers["authorization"] == "Bearer ya29.2" else 401)

    app = web.Application()
    app.router.add_post("/", publish)
    sender = HttpSender(authorizers=Authorizers())
    async with TestServer(app) as server:
        request = Http(
            method="POST", url=str(server.make_url("/")), headers={}, body=b"x", auth=auth_of(tokens)
        )
        response = await sender.send(request, timeout_s=10.0)
        await sender.close()

    assert isinstance(response, HttpResponse)
    assert (response.status, len(tokens.asked)) == (200, 2)
