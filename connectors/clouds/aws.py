"""What the kinds of AWS share: settings, addresses, and the words of its errors.

Every service says what is wrong by a code, in JSON (`__type`), in XML (`<Code>`) or in a header. The status alone tells
little: a throttled request, credentials that have ended and a message that is not valid are all a 400. So only codes
that are known to be about one message reject it; those that pass are waited for; any other refusal blocks.

Decision: only the code and the message of an answer become a reason. The rest of an XML error (`AWSAccessKeyId`,
`StringToSign`) tells nobody what to do.
Source: the models in botocore 1.44; docs.aws.amazon.com, "Common Error Types" of each service.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import pydantic
from pydantic import StringConstraints
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, Reject, Retry, Split, Verdict
from bridge.ports import Auth, HttpResponse, Rendered, Response
from connectors.common import (
    EXCERPT_CHARACTERS,
    RETRIED,
    clip,
    fit,
    json_object,
    judge_http,
    one_line,
    retry_after_s,
)
from connectors.credentials import CA_FILE, CaFile, DestinationSettings, FromFile, OriginUrl, Secret, hidden

#: Codes that ask for patience with all that we send. Source: botocore, `retries/standard.py`.
THROTTLED = frozenset({
    "BandwidthLimitExceeded", "EC2ThrottledException", "KMSThrottlingException", "KmsThrottled",
    "LimitExceededException", "PriorRequestNotComplete", "ProvisionedThroughputExceededException",
    "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "ServiceUnavailable", "SlowDown",
    "ThrottledException", "Throttling", "ThrottlingException", "TooManyRequestsException",
    "TransactionInProgressException",
})  # fmt: skip
#: Codes of faults at AWS that pass.
PASSING = frozenset({
    "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InternalError", "InternalErrorException",
    "InternalException", "InternalFailure", "OperationAborted", "RequestTimeout", "RequestTimeoutException",
})  # fmt: skip
TOO_LARGE = frozenset(
    {"BatchRequestTooLong", "BatchRequestTooLongException", "EntityTooLarge", "RequestEntityTooLarge"}
)
#: What SQS and SNS say of a single message that is too large.
TOO_LONG = ("must be shorter", "message too long", "larger than the maximum")
#: Codes that are about what stands in one message, whatever the settings.
OF_ONE_EVENT = frozenset({"InvalidMessageContents", "MalformedDetail"})
#: Below this, `fit` has nothing left to take.
LEAST_BYTES = 600
CHINA = "cn-"
_CODE, _MESSAGE = (
    re.compile(rb"<Code>([^<]{1,200})</Code>"),
    re.compile(rb"<Message>([^<]{1,2000})</Message>"),
)

Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,}(-[a-z0-9]+)+$")]
AccountId = Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$")]


class AwsSettings(DestinationSettings):
    """Where a service is, and whose credentials are used there."""

    region: Region = pydantic.Field(description="Region of the service, such as eu-west-1.")
    endpoint: OriginUrl | None = pydantic.Field(
        default=None,
        description="Scheme, host and port of a compatible or private service; null for AWS' own.",
    )
    access_key_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$", max_length=128)] | None = (
        pydantic.Field(
            default=None, description="Key to sign with; null: what AWS' own library finds on this machine."
        )
    )
    secret_access_key: Secret | None = pydantic.Field(default=None, description="Secret of that key.")
    secret_access_key_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the secret, instead of `secret_access_key`."
    )
    session_token: Secret | None = pydantic.Field(
        default=None, description="Session token of that key, where it has one."
    )
    session_token_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the session token, instead of `session_token`."
    )
    profile: str | None = pydantic.Field(
        default=None, min_length=1, description="Profile in the shared configuration files of AWS."
    )
    role_arn: (
        Annotated[str, StringConstraints(pattern=r"^arn:[a-z-]+:iam::[0-9]{12}:role/[!-~]+$")] | None
    ) = pydantic.Field(default=None, description="Role to assume with these credentials.")
    external_id: str | None = pydantic.Field(
        default=None, min_length=2, description="External id that the role asks for."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @override
    def required(self) -> frozenset[str]:
        return frozenset()

    @pydantic.model_validator(mode="after")
    def _whole_keys(self) -> AwsSettings:
        has_secret = self.credential("secret_access_key") is not None
        if (self.access_key_id is not None) != has_secret:
            raise ValueError("access_key_id and secret_access_key go together")
        if self.access_key_id is None and self.credential("session_token") is not None:
            raise ValueError("session_token goes with access_key_id")
        if self.access_key_id is not None and self.profile is not None:
            raise ValueError("give access_key_id or profile, not both")
        if self.external_id is not None and self.role_arn is None:
            raise ValueError("external_id goes with role_arn")
        return self

    def address(self, service: str) -> str:
        """Return the address of a service, ending in a slash."""
        end = ".cn" if self.region.startswith(CHINA) else ""
        own = f"https://{service}.{self.region}.amazonaws.com{end}"
        return (self.endpoint or own).rstrip("/") + "/"

    def partition(self) -> str:
        """Return the first part of an ARN of this region."""
        if self.region.startswith(CHINA):
            return "aws-cn"
        return "aws-us-gov" if self.region.startswith("us-gov-") else "aws"

    def secrets(self) -> tuple[Secret | None, ...]:
        """Return what must not stand in a reason."""
        return self.credential("secret_access_key"), self.credential("session_token")

    def auth(self, service: str) -> Auth:
        """Return whose credentials a request to a service goes with; for `seal` alone."""
        secret, token = self.secrets()
        options = {
            "service": service,
            "region": self.region,
            "access_key_id": self.access_key_id or "",
            "secret_access_key": secret.reveal() if secret else "",
            "session_token": token.reveal() if token else "",
            "profile": self.profile or "",
            "role_arn": self.role_arn or "",
            "external_id": self.external_id or "",
        }
        return Auth(vendor="aws", options={key: value for key, value in options.items() if value})


# ---- answers ---------------------------------------------------------------------------------------------


def error_of(response: HttpResponse) -> tuple[str, str]:
    """Return code and message of an error; "" for what it does not say."""
    fields = json_object(response.body)
    code = fields.get("__type") or fields.get("code") or fields.get("Code")
    message = fields.get("message") or fields.get("Message")
    if not isinstance(code, str):
        found = _CODE.search(response.body)
        code = found[1].decode("utf-8", "replace") if found else response.headers.get("x-amzn-errortype", "")
    if not isinstance(message, str):
        found = _MESSAGE.search(response.body)
        message = found[1].decode("utf-8", "replace") if found else ""
    # Written as com.amazonaws.sqs#Some, as Some:http://..., and as AWS.SimpleQueueService.Some.
    return code.rpartition("#")[2].partition(":")[0].rpartition(".")[2].strip(), message


def judge_aws(response: Response, secrets: Sequence[Secret | None]) -> Verdict:
    """Return what status and code say; a 2xx is `Delivered`, and then the body has its say at the caller's."""
    verdict = judge_http(response, secrets)
    if not isinstance(response, HttpResponse) or isinstance(verdict, Delivered):
        return verdict
    code, message = error_of(response)
    if not code:
        return _not_of_an_event(verdict)
    reason = reason_of(f"HTTP {response.status}: {code}", message, secrets)
    if code in THROTTLED:
        return Retry(reason=reason, after_s=retry_after_s(response), whole_destination=True)
    if code in PASSING:
        return Retry(reason=reason, after_s=retry_after_s(response))
    if code in TOO_LARGE:
        return Split(reason=reason)
    if code in OF_ONE_EVENT:
        return Reject(reason=reason)
    return verdict if response.status in RETRIED else Blocked(reason=reason)


def _not_of_an_event(verdict: Verdict) -> Verdict:
    if isinstance(verdict, Reject):
        return Blocked(reason=f"{verdict.reason} (not known to be about an event)")
    return verdict


def judge_entry(
    code: str, message: str, *, is_ours: bool = True, secrets: Sequence[Secret | None] = ()
) -> Verdict:
    """Return what the code of one entry of a batch says; `is_ours`: the service does not take the blame."""
    reason = reason_of(code or "it failed", message, secrets)
    if code in THROTTLED:
        return Retry(reason=reason, whole_destination=True)
    if code in PASSING or not is_ours:
        return Retry(reason=reason)
    if code in TOO_LARGE or any(words in message.lower() for words in TOO_LONG):
        return Split(reason=reason)
    return Reject(reason=reason) if code in OF_ONE_EVENT else Blocked(reason=reason)


def judge_batch(
    rendered: Rendered, taken: frozenset[str], failed: Mapping[str, Verdict], status: int
) -> tuple[Verdict, ...]:
    """Return the verdicts on a batch whose entries are named by event ids.

    An answer that names none of them is somebody else's; of an entry that it does not name nothing is known.
    """
    if not any(each in taken or each in failed for each in rendered.event_ids):
        return (foreign(status),) * len(rendered.event_ids)
    unknown = Retry(reason="the answer does not say what became of it", maybe_sent=True)
    return tuple(Delivered() if each in taken else failed.get(each, unknown) for each in rendered.event_ids)


def foreign(status: int) -> Blocked:
    """Return the verdict on a good status with the words of something else."""
    return Blocked(reason=f"HTTP {status}: not the answer of this service; is a proxy in between?")


def reason_of(code: str, message: str, secrets: Sequence[Secret | None]) -> str:
    """Return a code and a message as a reason: printable, short, without secrets."""
    text = " ".join(one_line(hidden(f"{code}: {message}" if message else code, secrets)).split())
    return clip(text, EXCERPT_CHARACTERS)


# ---- messages --------------------------------------------------------------------------------------------


def message_of(event: Event, size_bytes: int) -> str:
    """Return the event as JSON text of at most `size_bytes`, of characters that SQS and SNS take.

    They refuse U+FFFE and U+FFFF; escaped they are the same to whoever reads the JSON.
    """
    return fit(event, size_bytes).decode().replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


def wrapped(event: Event, size_bytes: int, wrap: Callable[[str], bytes]) -> bytes:
    """Return `wrap` of the event as JSON, shortened until what is wrapped is at most `size_bytes`.

    To escape JSON makes it longer, the more the stranger its texts are. Cost: once, if the event is ordinary.
    """
    room = size_bytes
    while True:
        made = wrap(message_of(event, room))
        if len(made) <= size_bytes or room <= LEAST_BYTES:
            return made
        room = max(LEAST_BYTES, min(room - 1, room * size_bytes // len(made)))


def attributes(event: Event) -> tuple[tuple[str, str], ...]:
    """Return what subscribers choose messages by: names and values of message attributes, never empty."""
    view = event.incident
    return (
        ("kind", event.kind.value),
        ("severity", view.severity),
        ("state", view.state.value),
        ("tenant", clip(one_line(event.tenant).strip(), 100) or "default"),
    )
