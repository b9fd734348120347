"""Entra's tokens: where they come from, that they are asked for once, and what their lack is called."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from certificates import make_certificate

from bridge.ports import Auth, Http, Unreached
from connectors.transport.vendors import Authorizers
from connectors.transport.vendors.azure import ANEW_S, KEPT_S, AzureAuthorizer

SCOPE = "https://monitor.azure.com/.default"
TENANT = "11111111-0000-4000-8000-000000000000"
CLIENT = "22222222-0000-4000-8000-000000000000"
SECRET = "s3cr3t~client.value"
REQUEST = Http(method="POST", url="https://dce.example.com/x", headers={"content-type": "a/b"}, body=b"[]")
VARIABLES = (
    "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET", "AZURE_TOKEN_CREDENTIALS",
    "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_USERNAME",
)  # fmt: skip


class Entra:
    """A fake of Entra's token endpoint and of App Service's endpoint for managed identities."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.answers: list[web.Response] = []
        self.released = asyncio.Event()
        self.released.set()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", self.described)
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self.token)
        app.router.add_get("/msi/token", self.managed)
        return app

    async def described(self, request: web.Request) -> web.Response:
        base = f"https://{request.host}/{request.match_info['tenant']}"
        return web.json_response(
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
            }
        )

    async def token(self, request: web.Request) -> web.Response:
        sent = {name: values[0] for name, values in parse_qs(await request.text()).items()}
        self.asked.append(sent | {"tenant": request.match_info["tenant"]})
        await self.released.wait()
        if self.answers:
            return self.answers.pop(0)
        return web.json_response(
            {"token_type": "Bearer", "expires_in": 3599, "access_token": f"token-{len(self.asked)}"}
        )

    async def managed(self, request: web.Request) -> web.Response:
        assert request.headers["X-IDENTITY-HEADER"] == "header"
        self.asked.append(dict(request.query))
        return web.json_response(
            {"access_token": f"managed-{len(self.asked)}", "expires_on": "4102444800", "token_type": "Bearer"}
        )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("entra"), host="IP:127.0.0.1")


@pytest.fixture
async def entra(certificate, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    fake = Entra()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*map(str, certificate))
    server = TestServer(fake.app(), scheme="https")
    await server.start_server(ssl=context)
    fake.url = f"https://127.0.0.1:{server.port}"
    yield fake
    fake.released.set()
    await server.close()


@pytest.fixture
def authorizer(certificate):
    return AzureAuthorizer(connection_verify=str(certificate[0]), retry_total=0)


def secret_auth(entra: Entra, **options: str) -> Auth:
    known = {
        "scope": SCOPE, "tenant_id": TENANT, "client_id": CLIENT, "client_secret": SECRET, "authority": entra.url,
    }  # fmt: skip
    return Auth(vendor="azure", options=known | options)


async def token_of(authorizer: AzureAuthorizer, auth: Auth, timeout_s: float = 20.0) -> str:
    signed = await authorizer.authorize(REQUEST, auth, timeout_s=timeout_s)
    assert isinstance(signed, Http), signed
    assert signed.headers["content-type"] == "a/b"
    return signed.headers["authorization"].removeprefix("Bearer ")


async def refused(authorizer: AzureAuthorizer, auth: Auth, timeout_s: float = 20.0) -> Unreached:
    told = await authorizer.authorize(REQUEST, auth, timeout_s=timeout_s)
    assert isinstance(told, Unreached)
    assert not told.maybe_sent
    return told


async def test_a_client_secret_is_exchanged_for_a_token_of_the_scope(entra, authorizer):
    assert await token_of(authorizer, secret_auth(entra)) == "token-1"

    (asked,) = entra.asked
    assert asked["tenant"] == TENANT
    assert (asked["scope"], asked["client_id"], asked["client_secret"]) == (SCOPE, CLIENT, SECRET)


async def test_a_token_is_asked_for_once_by_all_who_wait_for_it_and_then_kept(entra, authorizer):
    entra.released.clear()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(token_of(authorizer, secret_auth(entra))) for _ in range(20)]
        while not entra.asked:
            await asyncio.sleep(0.01)
        entra.released.set()

    assert {each.result() for each in waiting} == {"token-1"}
    assert await token_of(authorizer, secret_auth(entra)) == "token-1"
    assert len(entra.asked) == 1


async def test_another_identity_or_scope_has_a_token_of_its_own(entra, authorizer):
    tokens = [
        await token_of(authorizer, secret_auth(entra, **options))
        for options in ({}, {"scope": "https://storage.azure.com/.default"}, {"client_secret": "another"})
    ]

    assert tokens == ["token-1", "token-2", "token-3"]


async def test_the_library_keeps_a_token_that_is_still_good(entra, authorizer):
    await token_of(authorizer, secret_auth(entra))
    later(authorizer, KEPT_S)

    assert await token_of(authorizer, secret_auth(entra)) == "token-1"
    assert len(entra.asked) == 1


async def test_a_refused_token_is_asked_for_anew_but_not_again_and_again(entra, authorizer):
    auth = secret_auth(entra)
    assert not authorizer.forget(auth)  # there is none yet
    await token_of(authorizer, auth)
    assert not authorizer.forget(auth)  # it is new: another would be the same

    later(authorizer, ANEW_S)

    assert authorizer.forget(auth)
    assert await token_of(authorizer, auth) == "token-2"
    assert not authorizer.forget(auth)


def later(authorizer: AzureAuthorizer, seconds: float) -> None:
    """Make everything that the authorizer keeps so much older."""
    authorizer._kept = {
        key: kept._replace(until_s=kept.until_s - seconds) for key, kept in authorizer._kept.items()
    }
    authorizer._made_s = {key: made_s - seconds for key, made_s in authorizer._made_s.items()}


async def test_a_wrong_secret_is_told_of_without_it_and_blocks(entra, authorizer, caplog):
    entra.answers = [
        web.json_response(
            {
                "error": "invalid_client",
                "error_description": f"AADSTS7000215: Invalid client secret provided: {SECRET}\r\nTrace ID: 1",
            },
            status=401,
        )
    ]

    told = await refused(authorizer, secret_auth(entra))

    assert told.kind == "local"
    assert "AADSTS7000215: Invalid client secret provided: ********" in told.reason
    assert SECRET not in told.reason
    assert caplog.text == ""
    assert "\n" not in told.reason


@pytest.mark.parametrize("status", [500, 503])
async def test_an_endpoint_that_fails_is_tried_again(entra, authorizer, status):
    entra.answers = [web.json_response({"error": "temporarily_unavailable"}, status=status)]

    assert (await refused(authorizer, secret_auth(entra))).kind == "connect"


async def test_an_endpoint_that_is_not_there_is_tried_again(entra, authorizer):
    gone = secret_auth(entra, authority="https://127.0.0.1:9")

    assert (await refused(authorizer, gone)).kind == "connect"


async def test_an_endpoint_that_hangs_is_not_waited_for_and_its_late_answer_serves(entra, authorizer):
    entra.released.clear()

    told = await refused(authorizer, secret_auth(entra), timeout_s=0.5)
    entra.released.set()

    assert told.kind == "connect"
    assert await token_of(authorizer, secret_auth(entra)) == "token-1"
    assert len(entra.asked) == 1


async def test_a_pod_exchanges_its_federated_token(entra, authorizer, tmp_path):
    federated = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "none"}, {"sub": "system:serviceaccount:tocsin"}, {})
    )
    (tmp_path / "token").write_text(federated)
    options = {
        "scope": SCOPE, "identity": "workload", "tenant_id": TENANT, "client_id": CLIENT, "authority": entra.url,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
        assert await token_of(authorizer, Auth(vendor="azure", options=options)) == "token-1"

    assert entra.asked[0]["client_assertion"] == federated


@pytest.mark.parametrize("identity", ["managed", "default"])
async def test_a_managed_identity_is_asked_of_the_machine(entra, authorizer, monkeypatch, identity):
    app = web.Application()
    app.router.add_get("/msi/token", entra.managed)
    async with TestServer(app) as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", str(server.make_url("/msi/token")))
        monkeypatch.setenv("IDENTITY_HEADER", "header")
        auth = Auth(vendor="azure", options={"scope": SCOPE, "identity": identity, "client_id": CLIENT})

        assert await token_of(authorizer, auth) == "managed-1"

    assert entra.asked[0]["resource"] == SCOPE.removesuffix("/.default")
    assert entra.asked[0]["client_id"] == CLIENT


async def test_the_default_is_the_environment_first(entra, authorizer, monkeypatch):
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", SECRET)
    auth = Auth(vendor="azure", options={"scope": SCOPE, "identity": "default", "authority": entra.url})

    assert await token_of(authorizer, auth) == "token-1"


@pytest.mark.usefixtures("entra")
async def test_an_identity_that_is_not_there_blocks_and_says_what_is_missing(authorizer):
    told = await refused(authorizer, Auth(vendor="azure", options={"scope": SCOPE, "identity": "workload"}))

    assert told.kind == "local"
    assert "tenant_id" in told.reason


def test_the_vendor_is_found_by_its_name():
    assert isinstance(Authorizers().of("azure"), AzureAuthorizer)
