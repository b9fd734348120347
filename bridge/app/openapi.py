"""The document of everything that is answered (OpenAPI 3.1), made from the routes and the types that answer.

Rules: a route that nobody has described has no place in the router: the document cannot be made without it, and the
front does not start. Schemas come from the types themselves (`msgspec`), those that read what is said and those that
say what is answered (`bridge.api.shapes`). The document holds no setting and no tenant's name: it is the
same for everybody.

Decision: the descriptions stand in one table here, beside the router, and not with each handler. Half of the routes are
the intake's, half the API's, and neither room knows the other; and a table can be read at one go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from bridge.api import shapes
from bridge.api.answering import EXPORT_FORMATS
from bridge.api.asking import LIMIT, MAX_LIMIT, PROBLEM
from bridge.api.correcting import BODIES, Remark
from bridge.api.erasing import Wish
from bridge.api.reporting import CSV
from bridge.auth import PAGERDUTY_SIGNATURE, SIGNATURE_HEADER, SLACK_SIGNATURE, Role
from bridge.model import SEVERITY_RANK, DeliveryState, IncidentState

JSON, TEXT, FORM = "application/json", "text/plain", "application/x-www-form-urlencoded"
VERSION = "3.1.0"
_REASONS = {
    400: "What was asked or sent can never be good.",
    401: "No credential, or none that is known.",
    403: "This credential may not, or another site's page asks.",
    404: "Nothing of this id.",
    409: "What was asked does not fit where it stands.",
    413: "The body is too large.",
    415: "The body is compressed, or not JSON.",
    503: "Something temporary: try again.",
}
#: What every door may answer besides.
_DOOR = (401, 403, 503)


class Operation(NamedTuple):
    """What is answered at one path to one method."""

    says: str
    answer: Any  # a type that is answered as JSON, or a media type
    role: Role | None = None  # None: open to everybody
    status: int = 200
    asks: tuple[dict[str, Any], ...] = ()
    body: Any = None  # the type of a body that is read
    refuses: tuple[int, ...] = ()
    is_webhook: bool = False
    also: int | None = None  # another status that is good, with the same answer
    other: str = ""  # another media type, for who asks for it
    is_tagged: bool = False  # 304 to who has it already
    signed: str = ""  # which signature the body may have as its credential; a vendor's it must have
    media: str = JSON  # of the body


def _asks(name: str, says: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": says, "required": False, "schema": schema}


def _several(name: str, says: str, values: Iterable[str]) -> dict[str, Any]:
    items = {"type": "string", "enum": [*values]}
    return {**_asks(name, says, type="array", items=items), "style": "form", "explode": True}


_LIMIT = _asks("limit", "How many at most.", type="integer", minimum=1, maximum=MAX_LIMIT, default=LIMIT)
_CURSOR = _asks("cursor", "Where to go on: the `next` of the part before.", type="string", minLength=1)
_SINCE = _asks("since", "Nothing from before this time.", type="string", format="date-time")
_UNTIL = _asks("until", "Nothing from this time on.", type="string", format="date-time")
_SEVERITY = _asks("severity", "Only those of this severity.", type="string", enum=[*SEVERITY_RANK])
_STATES = _several("state", "Only those in one of these states.", IncidentState)


def _sent(says: str) -> Operation:
    return Operation(
        says, shapes.Received, "sender", body=shapes.Webhook, refuses=(400, 413, 415), is_webhook=True,
        signed="signature",
    )  # fmt: skip


def _reads(says: str, answer: Any, *asks: dict[str, Any], role: Role = "viewer") -> Operation:
    return Operation(says, answer, role, asks=asks, refuses=(400,))


def _table(answer: Any) -> Operation:
    says = "Give incidents as a table, those first that opened last."
    return _reads(says, answer, _STATES, _SEVERITY, _SINCE, _UNTIL, _LIMIT, _CURSOR)._replace(is_tagged=True)


def _does(says: str, answer: Any, body: Any, *refuses: int) -> Operation:
    return Operation(says, answer, "responder", 202, body=body, refuses=refuses)


_SAID = {
    "ack": "Say that somebody is at work.",
    "close": "Say that it is over.",
    "note": "Write something down.",
    "merge": "Put an incident into another.",
    "split": "Take episodes out, into an incident of their own or another.",
    "feedback": "Say what an incident was worth, or which alert came first.",
}
_WEBHOOKS = {
    "alertmanager": "Take in a webhook of Alertmanager.",
    "grafana": "Take in a webhook of Grafana Alerting.",
}
#: Everything that is answered, by method and path.
OPERATIONS: dict[tuple[str, str], Operation] = {
    **{
        (method, f"/v1/{kind}{rest}"): _sent(says)
        for kind, says in _WEBHOOKS.items()
        for rest in ("", "/{source}")
        for method in (("POST", "PUT") if kind == "grafana" else ("POST",))
    },
    **{
        ("POST", f"/v1/recorder{rest}"): _sent("Take in what Alertmanager's event recorder sends.")._replace(
            body=shapes.Recorded
        )
        for rest in ("", "/{source}")
    },
    ("GET", "/api/v1/incidents"): _reads(
        "List incidents, those first that opened last.", shapes.Incidents,
        _asks("id", "The beginning of the id.", type="string", minLength=1), _STATES,
        _SEVERITY, _SINCE, _LIMIT, _CURSOR,
    ),
    ("GET", "/api/v1/bi/incidents"): _table(shapes.FlatIncidents)._replace(other=CSV),
    ("GET", "/api/v1/bi/incidents.csv"): _table(CSV),
    ("GET", "/api/v1/incidents/{id}"): Operation(
        "Show one incident whole.", shapes.WholeIncident, "viewer", refuses=(404,)
    ),
    **{
        ("POST", f"/api/v1/incidents/{{id}}/{verb}"): _does(_SAID[verb], shapes.Said, body, 400, 404, 409, 413)
        for verb, body in BODIES.items()
    },
    ("POST", "/api/v1/actions/{id}/undo"): _does(
        "Take back what was said.", shapes.Said, Remark, 400, 404, 409, 413
    ),
    ("POST", "/v1/slack"): Operation(
        "Take in a button that somebody pressed in Slack.", shapes.Pressed, "responder", body=shapes.Button,
        refuses=(400, 404, 409, 413), signed="slack", media=FORM,
    ),
    ("POST", "/v1/pagerduty"): Operation(
        "Take in what somebody did in PagerDuty.", shapes.Pressed, "responder", body=shapes.Page, refuses=(400, 413),
        signed="pagerduty",
    ),
    ("GET", "/api/v1/deliveries"): _reads(
        "List deliveries, newest first.", shapes.ShownDeliveries,
        _several("state", "Only those in one of these states.", DeliveryState),
        _asks("destination", "Only those to this destination.", type="string", minLength=1),
        _asks("incident", "Only those of this incident.", type="string", minLength=1), _LIMIT, _CURSOR,
    ),
    **{
        ("POST", f"/api/v1/deliveries/{{id}}/{verb}"): _does(says, shapes.Said, None, 404)
        for verb, says in (("retry", "Send a dead letter again."), ("drop", "Give a delivery up for good."))
    },
    ("GET", "/api/v1/quarantine"): _reads(
        "List what could not be used, newest first.", shapes.QuarantinedItems, _LIMIT, _CURSOR
    ),
    ("GET", "/api/v1/quarantine/{id}"): Operation(
        "Show one thing that could not be used, with its bytes.", shapes.Quarantined, "viewer", refuses=(404,)
    ),
    ("POST", "/api/v1/quarantine/{id}/replay"): _does("Let it come in once more.", shapes.Replayed, None, 404, 409),
    ("GET", "/api/v1/models"): _reads("Show what was learned, and whether it acts.", shapes.Models),
    ("GET", "/api/v1/forecasts"): _reads("Show how likely incidents begin.", shapes.Forecasts),
    ("GET", "/api/v1/recommendations"): _reads("Show what to do before.", shapes.Recommendations),
    ("GET", "/api/v1/topology"): _reads("Show who calls whom.", shapes.Topology, _LIMIT),
    ("GET", "/api/v1/stats"): _reads("Show how it is doing.", shapes.Stats),
    ("GET", "/api/v1/export"): _reads(
        "Give out the history as JSON lines.", "application/x-ndjson",
        _asks("format", "What the lines are.", type="string", enum=[*EXPORT_FORMATS]), _SINCE,
    ),
    ("GET", "/api/v1/audit"): _reads("List who changed what.", shapes.Entries, _LIMIT, _CURSOR, role="admin"),
    ("GET", "/api/v1/erase"): _reads("List what was erased, newest first.", shapes.Erasures, role="admin"),
    ("POST", "/api/v1/erase"): Operation(
        "Erase what is known of a label, an alert or the tenant.", shapes.ToErase, "admin", 202, body=Wish,
        refuses=(400, 413), also=200,
    ),
    ("POST", "/-/reload"): Operation("Read the configuration anew.", TEXT, "admin", refuses=(400,)),
    ("GET", "/-/healthy"): Operation("Say whether the process answers.", TEXT),
    ("GET", "/-/ready"): Operation("Say whether webhooks can be taken in.", TEXT, refuses=(503,)),
    ("GET", "/metrics"): Operation("Give metrics to Prometheus.", TEXT),
    ("GET", "/openapi.json"): Operation("Give this document.", dict[str, Any]),
    ("GET", "/"): Operation("Say what there is, to somebody with a browser.", "text/html"),
}  # fmt: skip


def document(routes: Iterable[web.RouteDef], version: str) -> bytes:
    """Return the document of these routes as JSON.

    Raises:
        KeyError: Nobody has said what one of them answers.
    """
    told = {(method, path): OPERATIONS[method, path] for method, path in described(routes)}
    types = {each for each in _types(told.values()) if not isinstance(each, str)}
    ordered = sorted(types, key=repr)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in told.items():
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, operation, schema_of)
    return msgspec.json.encode(
        {
            "openapi": VERSION,
            "info": {
                "title": "Tocsin", "version": version, "summary": "Many alerts in, few explained incidents out.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                "description": _ABOUT,
            },
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": {"schemas": components, "securitySchemes": _CREDENTIALS},
        }
    )  # fmt: skip


def described(routes: Iterable[web.RouteDef]) -> Iterator[tuple[str, str]]:
    """Yield method and path of each operation; a path with a choice in it is one operation for each."""
    for route in routes:
        choice = re.search(r"\{\w+:([a-z|_]+)\}", route.path)
        if choice is None:
            yield route.method, route.path
        else:
            yield from ((route.method, route.path.replace(choice[0], each)) for each in choice[1].split("|"))


_ABOUT = (
    "A path that answers GET answers HEAD as well, but for the export. A parameter or a field of a body that does not"
    " exist is an error."
)
_CREDENTIALS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Configured, minted, or signed by an issuer."},
    "basic": {"type": "http", "scheme": "basic"},
    "signature": {"type": "apiKey", "in": "header", "name": SIGNATURE_HEADER, "description": "HMAC of time and body."},
    "slack": {"type": "apiKey", "in": "header", "name": SLACK_SIGNATURE, "description": "As Slack signs."},
    "pagerduty": {"type": "apiKey", "in": "header", "name": PAGERDUTY_SIGNATURE, "description": "As PagerDuty signs."},
    "certificate": {"type": "mutualTLS"},
}  # fmt: skip
#: Whose signature is the only credential where it is one.
_VENDORS = {"slack": "Slack", "pagerduty": "PagerDuty"}


def _types(operations: Iterable[Operation]) -> Iterator[Any]:
    yield from (shapes.Problem, shapes.Refused)
    for each in operations:
        yield each.answer
        if each.body is not None:
            yield each.body


def _operation(method: str, path: str, told: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    parts = re.findall(r"\{(\w+)\}", path)
    answers = {str(told.status): _answer("As asked.", told.answer, schema_of)}
    if told.other:
        answers[str(told.status)]["content"].update(_answer("", told.other, schema_of)["content"])
    if told.is_tagged:
        answers["304"] = {"description": "As it was: the `ETag` of `If-None-Match` still holds."}
    if told.also is not None:
        answers[str(told.also)] = _answer("Counted, and nothing done.", told.answer, schema_of)
    answers["400"] = _answer(
        _REASONS[400], PROBLEM, schema_of
    )  # what is no HTTP, before anybody sees the path
    for status in (*told.refuses, *(_DOOR if told.role else ())):
        media = TEXT if told.role is None else JSON if told.is_webhook else PROBLEM
        refused = _answer(_REASONS[status], shapes.Refused if media == JSON else media, schema_of)
        answers.setdefault(str(status), refused)["content"].update(refused["content"])
    described: dict[str, Any] = {
        "operationId": "_".join((method.lower(), *re.findall(r"\w+", path))),
        "summary": told.says,
        "parameters": [*(_part(name) for name in parts), *told.asks],
        "responses": dict(sorted(answers.items())),
        "security": [{name: []} for name in _good(told)],
    }
    if told.role:
        needed = f"Needs the role `{told.role}`."
        described["description"] = (
            f"Needs {_VENDORS[told.signed]}'s signature." if told.signed in _VENDORS else needed
        )
    if told.body is not None:
        described["requestBody"] = {
            "required": told.signed != "", "content": {told.media: {"schema": schema_of[told.body]}},
        }  # fmt: skip
    return described


def _good(told: Operation) -> Iterator[str]:
    """Yield the credentials of which one is needed."""
    if told.signed in _VENDORS:
        yield told.signed
    elif told.role:
        yield from (
            each for each in _CREDENTIALS if each not in {"signature", *_VENDORS} or each == told.signed
        )


def _part(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if name == "source":
        schema = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _answer(says: str, answer: Any, schema_of: dict[Any, Any]) -> dict[str, Any]:
    if isinstance(answer, str):
        schema = schema_of[shapes.Problem] if answer == PROBLEM else {"type": "string"}
        return {"description": says, "content": {answer: {"schema": schema}}}
    return {"description": says, "content": {JSON: {"schema": schema_of[answer]}}}
