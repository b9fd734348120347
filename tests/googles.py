"""Google's services for tests: the errors they give, a topic, a bucket, and who gives tokens for them."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bridge.model import Blocked, Reject, Retry, Split
from bridge.ports import HttpResponse

SCOPE = "https://www.googleapis.com/auth/pubsub"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
TOPIC = "/v1/projects/example-monitoring/topics/incidents:publish"
BUCKET = "/upload/storage/v1/b/example-incidents/o"


def refused(code: int, status: str, message: str = "", **more: Any) -> HttpResponse:
    """Return the answer of an error."""
    error = {"code": code, "message": message, "status": status} | more
    return HttpResponse(status=code, headers={}, body=json.dumps({"error": error}).encode())


def because(reason: str) -> dict[str, Any]:
    """Return the detail that gives a reason."""
    return {"details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]}


#: Sources: cloud.google.com/apis/design/errors; cloud.google.com/pubsub/docs/reference/error-codes; answers of the
#: Pub/Sub emulator 0.8.20.
ERRORS = [
    (refused(400, "INVALID_ARGUMENT", "Payload isn't valid for request."), Reject),
    (refused(400, "OUT_OF_RANGE", "The value is out of range."), Reject),
    (refused(400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 10485760 bytes."), Split),
    (refused(400, "INVALID_ARGUMENT", "API key not valid.", **because("API_KEY_INVALID")), Blocked),
    (refused(400, "FAILED_PRECONDITION", "Service is disabled."), Blocked),
    (refused(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."), Blocked),
    (refused(403, "PERMISSION_DENIED", "User not authorized to perform this action."), Blocked),
    (
        refused(403, "", "Rate Limit", errors=[{"domain": "usageLimits", "reason": "rateLimitExceeded"}]),
        Retry,
    ),
    (refused(404, "NOT_FOUND", "Resource not found (resource=incidents)."), Blocked),
    (refused(409, "ABORTED", "The operation was aborted."), Retry),
    (refused(413, "", "Request Entity Too Large"), Split),
    (refused(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Regional publisher'."), Retry),
    (refused(499, "CANCELLED", "The operation was cancelled."), Retry),
    (refused(500, "INTERNAL", "Internal error encountered."), Retry),
    (refused(501, "UNIMPLEMENTED", "Operation is not implemented."), Retry),
    (refused(503, "UNAVAILABLE", "The service was unable to fulfill your request."), Retry),
    (refused(504, "DEADLINE_EXCEEDED", "The request did not complete in the time allocated."), Retry),
    (HttpResponse(status=400, headers={}, body=b"<html>Your client has issued a malformed request"), Blocked),
    (HttpResponse(status=502, headers={}, body=b"<html>The server encountered a temporary error"), Retry),
]


def key_of(token_url: str, **changes: str) -> str:
    """Return the key of a service account whose tokens are given there."""
    key = {
        "type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": PEM,
        "client_email": "tocsin@p.iam.gserviceaccount.com", "client_id": "1", "token_uri": token_url,
    }  # fmt: skip
    return json.dumps(key | changes)


#: The answer to an upload of what is there.
THERE = refused(
    412, "", "At least one of the pre-conditions you specified did not hold.",
    errors=[{"domain": "global", "reason": "conditionNotMet", "locationType": "header", "location": "If-Match"}],
)  # fmt: skip


class TokenServer:
    """Gives tokens, numbered; the next answers are queued in `answers`, and `lasts_s` says for how long they hold."""

    def __init__(self) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.answers: list[web.Response] = []
        self.lasts_s = 3600
        self.released = asyncio.Event()
        self.released.set()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/token", self.token)
        app.router.add_get("/", self.ping)
        app.router.add_get("/computeMetadata/v1/{path:.*}", self.metadata)
        return app

    async def token(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(parse_qs(await request.text()))
        await self.released.wait()
        return self.answers.pop(0) if self.answers else self.given()

    def given(self) -> web.Response:
        token = {
            "access_token": f"ya29.{len(self.asked)}",
            "expires_in": self.lasts_s,
            "token_type": "Bearer",
        }
        return web.json_response(
            token | {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}
        )

    async def ping(self, _request: web.Request) -> web.Response:
        return web.Response(headers={"Metadata-Flavor": "Google"})

    async def metadata(self, request: web.Request) -> web.Response:
        assert request.headers["metadata-flavor"] == "Google"
        path = request.match_info["path"]
        if path.endswith("/token"):
            self.asked.append({"scopes": [request.query.get("scopes", "")]})
            return self.given()
        if path.startswith("instance/service-accounts"):
            return web.json_response(
                {"email": "tocsin@p.iam.gserviceaccount.com", "scopes": [SCOPE], "aliases": []}
            )
        return web.Response(text="a-project")


class Topic:
    """A fake of the service with one topic; the next faults are queued in `faults`."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.bearers: set[str] = set()
        self.faults: list[str | HttpResponse] = []

    def app(self) -> web.Application:
        app = web.Application(client_max_size=20_000_000)
        app.router.add_post(TOPIC, self.publish)
        return app

    async def publish(self, request: web.Request) -> web.Response:
        sent = (await request.json())["messages"]
        self.bearers.add(request.headers.get("authorization", ""))
        fault = self.faults.pop(0) if self.faults else ""
        if isinstance(fault, HttpResponse):
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        self.messages += sent
        self.stored += [each["attributes"]["event_id"] for each in sent]
        if fault == "reset after accept":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"messageIds": [str(number) for number, _each in enumerate(sent)]})


class Bucket:
    """A fake of a bucket that honours the precondition; the next faults are queued in `faults`."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.bearers: set[str] = set()
        self.faults: list[str | HttpResponse] = []

    def app(self) -> web.Application:
        app = web.Application(client_max_size=20_000_000)
        app.router.add_post(BUCKET, self.insert)
        return app

    async def insert(self, request: web.Request) -> web.Response:
        assert (request.query["uploadType"], request.query["ifGenerationMatch"]) == ("media", "0")
        self.bearers.add(request.headers.get("authorization", ""))
        name, body = request.query["name"], await request.read()
        fault = self.faults.pop(0) if self.faults else ""
        if isinstance(fault, HttpResponse):
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        if name in self.objects:
            return web.Response(status=THERE.status, body=THERE.body)
        self.objects[name] = body
        if fault == "reset after accept":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"kind": "storage#object", "name": name, "generation": "1766000000000000"})
