"""Errors as Google's services word them, and what each leads to here."""

from __future__ import annotations

import json
from typing import Any

from bridge.model import Blocked, Reject, Retry, Split
from bridge.ports import HttpResponse


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
