"""What Google's services share: whose credentials a request goes with, and how they say that something is wrong.

Theory: every one of them answers an error with the JSON of `google.rpc.Status`: `{"error": {"code", "message",
"status", "details": [...]}}`. The canonical word in `status` says more than the HTTP status: ABORTED and CANCELLED
pass by themselves, INVALID_ARGUMENT is about the message, FAILED_PRECONDITION about how something is set up. How long
to wait stands in a `google.rpc.RetryInfo` rather than in `Retry-After`; a quota may be told of with a 403.

Rule: a 400 without these words is not Google's, and rejects nothing.

Rule: credentials go over https only. An address of http:// is an emulator's, and gets none.
Source: cloud.google.com/apis/design/errors; googleapis `google/rpc/error_details.proto`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Annotated, Any, NamedTuple

import msgspec
import pydantic
from pydantic import AfterValidator
from typing_extensions import override

from bridge.model import Blocked, Reject, Retry, Split, Verdict
from bridge.ports import Auth, HttpResponse, Response
from connectors.common import excerpt, json_object, judge_http
from connectors.credentials import DestinationSettings, FromFile, Secret

#: Kinds of credentials that `key` may hold; every other is found by the application default credentials.
KEY_TYPES = frozenset({"service_account", "external_account"})
#: Words that pass by themselves, whatever the HTTP status.
PASSING = frozenset(
    {"ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
)
#: What is about the message itself.
OF_MESSAGE = frozenset({"INVALID_ARGUMENT", "OUT_OF_RANGE"})
#: Reasons of a quota, which the older JSON APIs tell of with a 403.
QUOTAS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RATE_LIMIT_EXCEEDED"})
#: Reasons that are about our credentials although the status says "invalid argument".
OF_KEYS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED"})
#: How the front ends say that a request is too large, with a 400.
TOO_LARGE = ("payload size exceeds", "request is too large", "message size exceeds")
BUSY = frozenset({403, 429, 503})


def _check_key(key: Secret) -> Secret:
    kind = json_object(key.reveal().encode()).get("type")
    if kind not in KEY_TYPES:
        raise ValueError(f"expected the JSON of a key, its type one of: {', '.join(sorted(KEY_TYPES))}")
    return key


GoogleKey = Annotated[Secret, AfterValidator(_check_key)]
GoogleKeyFromFile = Annotated[FromFile, AfterValidator(_check_key)]


class GoogleSettings(DestinationSettings):
    """Whose credentials are used."""

    key: GoogleKey | None = pydantic.Field(
        default=None,
        description="Key of a service account, or configuration of workload identity federation, as JSON; "
        "null for the application default credentials.",
    )
    key_file: GoogleKeyFromFile | None = pydantic.Field(
        default=None, description="File that holds it, instead of `key`."
    )

    @override
    def required(self) -> frozenset[str]:
        return frozenset()


def is_installed() -> bool:
    """Return whether what finds Google's credentials is installed; a kind that always needs it says so in `EXTRAS`."""
    try:
        return find_spec("google.auth") is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def auth(settings: GoogleSettings, url: str, scope: str) -> Auth | None:
    """Return whose credentials a request to `url` goes with; none to an emulator."""
    if not url.startswith("https://"):
        return None
    key = settings.credential("key")
    return Auth(vendor="google", options={"scope": scope} | ({} if key is None else {"key": key.reveal()}))


class Fault(NamedTuple):
    """What Google says is wrong; all empty where it said nothing."""

    status: str = ""  # the canonical word
    message: str = ""
    reasons: frozenset[str] = frozenset()
    retry_after_s: float | None = None


def fault(body: bytes) -> Fault:
    """Return the error in an answer."""
    error = json_object(body).get("error")
    if not isinstance(error, dict):
        return Fault()
    status, message = error.get("status"), error.get("message")
    waits = [_seconds(each.get("retryDelay")) for each in _objects(error.get("details"))]
    return Fault(
        status=status if isinstance(status, str) else "",
        message=message if isinstance(message, str) else "",
        reasons=frozenset(_reasons(error)),
        retry_after_s=next((wait for wait in waits if wait is not None), None),
    )


def _reasons(error: dict[str, Any]) -> Iterator[str]:
    for each in (*_objects(error.get("details")), *_objects(error.get("errors"))):
        if isinstance(each.get("reason"), str):
            yield each["reason"]


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _seconds(duration: object) -> float | None:
    """Return a `google.protobuf.Duration` as JSON ("3.5s") in seconds."""
    if not isinstance(duration, str) or not duration.endswith("s"):
        return None
    number = duration[:-1]
    return float(number) if len(number) <= 20 and number.replace(".", "", 1).isdecimal() else None  # noqa: PLR2004


def judge_google(response: Response, secrets: Sequence[Secret | None] = ()) -> Verdict:
    """Return what the status and Google's error say; 2xx is `Delivered`, and then the body has its say.

    `secrets` are taken out of what becomes the reason.
    """
    verdict = judge_http(response, secrets)
    if not isinstance(response, HttpResponse):
        return verdict
    told = fault(response.body)
    verdict = _by_words(response.status, told, verdict)
    if isinstance(verdict, Reject | Split | Retry) and told.message:
        # A verdict of the table keeps its hint; Google's own words take the place of its raw JSON.
        reason = f"HTTP {response.status} {told.status}{excerpt(told.message.encode(), secrets)}"
        return msgspec.structs.replace(verdict, reason=reason)
    return verdict


def _by_words(status: int, told: Fault, verdict: Verdict) -> Verdict:
    is_refusal = isinstance(verdict, Reject | Blocked | Retry)
    if is_refusal and (told.status in PASSING or told.reasons & QUOTAS):
        asked = verdict.after_s if isinstance(verdict, Retry) else None
        return Retry(
            reason=told.message,
            after_s=told.retry_after_s if asked is None else asked,
            whole_destination=status in BUSY,
        )
    if not isinstance(verdict, Reject):
        return verdict
    if any(words in told.message.lower() for words in TOO_LARGE):
        return Split(reason=verdict.reason)
    if told.status in OF_MESSAGE and not told.reasons & OF_KEYS:
        return verdict
    return Blocked(reason=f"{verdict.reason} (not known to be about an event)")


def of_batch(verdict: Verdict, count: int) -> tuple[Verdict, ...]:
    """Return the verdict on each of `count` events of a request that is taken whole or not at all.

    Which of several was refused is not said: smaller requests find it.
    """
    if count > 1 and isinstance(verdict, Reject):
        return (Split(reason=verdict.reason),) * count
    return (verdict,) * count
