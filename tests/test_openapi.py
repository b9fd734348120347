"""The document of the API: whole, valid, and true of a front that answers, asked with whatever it allows and forbids."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from neighbours import TENANTS, Neighbours, lived, signed
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from bridge.app.openapi import OPERATIONS
from bridge.auth import ROLE_RANK

#: Of each operation; TOCSIN_EXAMPLES multiplies it for a long search.
EXAMPLES = 6 * int(os.environ.get("TOCSIN_EXAMPLES", "1"))
CHECKS = (
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance, ignored_auth,
    unsupported_method,
)  # fmt: skip
#: Whose signature is the only credential of a path.
VENDORS = {"/v1/slack": "Slack", "/v1/pagerduty": "PagerDuty"}
HEADERS = {"Authorization": f"Bearer token-of-{TENANTS[0]}"}


class Front:
    """A front that answers in a thread of its own, and the ids of what it holds."""

    def __init__(self) -> None:
        self.url = ""
        self.document: dict[str, Any] = {}
        self.routes: set[tuple[str, str]] = set()
        self.ids: dict[str, list[str]] = {}

    async def answer(
        self, neighbours: Neighbours, entries: Any, ready: Future[None], end: asyncio.Event
    ) -> None:
        await neighbours.begin(entries)
        async with neighbours.answering():
            self.url = str(neighbours.client._base_url)
            self.document = await neighbours.json("nobody", "/openapi.json")
            for name, key in (("incidents", "incident"), ("deliveries", "id"), ("quarantine", "id")):
                listed = await neighbours.json(TENANTS[0], f"/api/v1/{name}")
                self.ids[name] = [str(each[key]) for each in listed["items"]]
            self.ids["actions"] = [f"act-of-{TENANTS[0]}"]
            router = neighbours.listening._runner.app.router
            for route in router.routes():
                where = route.resource.get_info()
                pattern = where["pattern"].pattern if "pattern" in where else re.escape(where["path"])
                if route.method != "HEAD":  # answered wherever GET is
                    self.routes.add((route.method, pattern))
            ready.set_result(None)
            await end.wait()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("openapi")
    front, ready = Front(), Future[None]()
    with lived(folder) as (_, entries):
        loop, end = asyncio.new_event_loop(), asyncio.Event()

        def run() -> None:
            try:
                loop.run_until_complete(front.answer(Neighbours(folder), entries, ready, end))
            except BaseException as error:
                ready.set_exception(error)
                raise

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            ready.result(30)
            yield front
        finally:
            loop.call_soon_threadsafe(end.set)
            thread.join(30)
            loop.close()


def test_the_document_is_valid(front: Front) -> None:
    validate(front.document)
    assert front.document["openapi"] == "3.1.0"
    assert front.document["info"]["version"] == "1.2.3"


def test_every_route_is_in_the_document_and_the_other_way_round(front: Front) -> None:
    said = {(method.upper(), path) for path, each in front.document["paths"].items() for method in each}
    assert said == set(OPERATIONS)
    served = {
        (method, path): [route for route in front.routes if route[0] == method and is_at(route[1], path)]
        for method, path in said
    }
    assert all(len(found) == 1 for found in served.values()), served
    assert {each for found in served.values() for each in found} == front.routes


@pytest.mark.parametrize(
    ("method", "path", "role"), [(*key, told.role) for key, told in sorted(OPERATIONS.items())]
)
def test_the_role_that_the_document_names_is_the_one_that_is_needed(
    front: Front, method: str, path: str, role: str | None
) -> None:
    said = front.document["paths"][path][method.lower()]
    assert (role is None) == (said["security"] == [])
    vendor = VENDORS.get(path)
    if vendor is not None:
        assert said["description"] == f"Needs {vendor}'s signature."
        assert said["security"] == [{vendor.lower(): []}]
        for other in ROLE_RANK:
            assert status_of(front, method, path, f"token-of-a-{other}") == 401
        return
    assert said.get("description", "") == (f"Needs the role `{role}`." if role else "")
    without = {
        None: [],
        "sender": ["viewer"],
        "viewer": ["sender"],
        "responder": ["viewer"],
        "admin": ["responder"],
    }
    for other in without[role]:
        assert status_of(front, method, path, f"token-of-a-{other}") == 403
    assert (status_of(front, method, path, "nobodys") == 401) == (role is not None)
    assert status_of(front, method, path, f"token-of-a-{role or 'sender'}") not in {
        401,
        *(() if role == "admin" else (403,)),
    }


def status_of(front: Front, method: str, path: str, token: str) -> int:
    address = f"{front.url}{re.sub(r'{.*?}', '1', path)}"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        address, method=method, data=b"{}" if method != "GET" else None, headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def is_at(pattern: str, path: str) -> bool:
    """Return whether a path of the document is what a route's pattern matches."""
    return re.fullmatch(pattern, re.sub(r"\{\w+\}", "x", path)) is not None


def body_of(case: Any) -> bytes:
    """Return the body that a case is sent with."""
    kept = ("method", "url", "headers", "params", "cookies", "data", "json", "files")
    given = case.as_transport_kwargs(base_url="http://localhost")
    body = requests.Request(**{name: given[name] for name in kept if name in given}).prepare().body or b""
    return body.encode() if isinstance(body, str) else bytes(body)


@pytest.mark.parametrize(("method", "path"), sorted(OPERATIONS))
def test_a_front_answers_as_the_document_says(front: Front, method: str, path: str) -> None:
    schema = schemathesis.openapi.from_dict(front.document)
    operation = schema[path][method]
    strategies = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
    )
    @given(case=st.one_of(strategies), number=st.integers(0, 50), known=st.booleans())
    def ask(case: Any, number: int, known: bool) -> None:
        if known and "id" in case.path_parameters:
            ids = front.ids[path.split("/")[3]]
            case.path_parameters["id"] = ids[number % len(ids)]
        headers = HEADERS | signed(path, TENANTS[0], body_of(case))
        case.call_and_validate(base_url=front.url, headers=headers, checks=CHECKS, timeout=20)

    ask()
