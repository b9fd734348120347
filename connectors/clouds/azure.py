"""What Azure's services share: whose credentials a request goes with, and how their errors are read.

Theory: Microsoft Entra hands out tokens for a scope, a service each. The roles of the identity behind a token say what
it may do there. Where a service takes a shared access signature (SAS) instead, that is a ready-made text with an end
of its own; Tocsin signs nothing. A destination with a signature needs no library of Azure's.

Rule: a token goes over https only. An address of http:// is an emulator's, and gets none.

Rule: Azure answers 400 for what the settings caused as well as for what the message did, and words change. So no
status alone rejects an event: what is not known to be about it blocks, and the dispatcher finds out.
Source: learn.microsoft.com, "Azure Identity client library for Python"; "Authorize with Microsoft Entra ID".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

import pydantic
from pydantic import AfterValidator
from typing_extensions import override

from bridge.model import Blocked, Delivered, Reject, Verdict
from bridge.ports import Auth, HttpResponse, Response
from connectors.common import excerpt, judge_http
from connectors.credentials import DestinationSettings, FromFile, Secret

FORBIDDEN = 403
_SIGNED = re.compile(r"sig=([^&\s]+)")

_Name = Annotated[str, pydantic.Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]


def _check_authority(authority: str) -> str:
    parts = urlsplit(authority)
    if authority and (
        parts.scheme != "https"
        or not parts.hostname
        or "@" in parts.netloc
        or parts.path not in {"", "/"}
        or parts.query
        or parts.fragment
    ):
        raise ValueError("expected https and a host, such as https://login.microsoftonline.us")
    return authority.rstrip("/")


def _has_library() -> bool:
    return find_spec("azure") is not None and find_spec("azure.identity") is not None


class AzureSettings(DestinationSettings):
    """Which identity is used."""

    identity: Literal["default", "workload", "managed"] = pydantic.Field(
        default="default",
        description="Where the identity comes from without client_secret: `workload` (federated token of a pod), "
        "`managed` (of the machine), or `default`: the environment, then either of these.",
    )
    tenant_id: _Name | None = pydantic.Field(
        default=None, description="Microsoft Entra tenant of the application; null for AZURE_TENANT_ID."
    )
    client_id: _Name | None = pydantic.Field(
        default=None,
        description="Application, or user-assigned managed identity; null for AZURE_CLIENT_ID or the machine's own.",
    )
    client_secret: Secret | None = pydantic.Field(
        default=None, description="Client secret of the application; needs tenant_id and client_id."
    )
    client_secret_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the client secret, instead of `client_secret`."
    )
    authority: Annotated[str, AfterValidator(_check_authority)] = pydantic.Field(
        default="",
        description="Where tokens come from, in a sovereign cloud; empty for AZURE_AUTHORITY_HOST or the public cloud.",
    )

    @override
    def required(self) -> frozenset[str]:
        return frozenset()

    def signature(self) -> Secret | None:
        """Return the shared access signature that takes the place of a token, where a service has such."""
        return None

    @override
    def faults(self, data_dir: Path) -> dict[str, str]:
        if self.signature() is None and not _has_library():
            return {"kind": 'needs more for a token of Microsoft Entra: pip install "tocsin[azure]"'}
        return super().faults(data_dir)

    def secrets(self) -> tuple[Secret, ...]:
        """Return what an answer may echo and no reason may hold."""
        signature = self.signature()
        found = [each for each in (self.credential("client_secret"), signature) if each]
        # A service that says what it was asked takes a signature apart.
        for part in _SIGNED.findall(signature.reveal()) if signature else ():
            found += [Secret(each) for each in (part, unquote(part)) if each.isascii() and each.isprintable()]
        return tuple(found)

    @pydantic.model_validator(mode="after")
    def _whole_identity(self) -> Self:
        if self.credential("client_secret") is None:
            return self
        if self.signature() is not None:
            raise ValueError("give either a shared access signature or client_secret")
        if self.tenant_id is None or self.client_id is None or self.identity != "default":
            raise ValueError("client_secret needs tenant_id and client_id, and no other identity")
        return self


def auth(settings: AzureSettings, url: str, scope: str) -> Auth | None:
    """Return whose token a request to `url` goes with; none beside a signature, and none to an emulator."""
    if settings.signature() is not None or not url.startswith("https://"):
        return None
    secret = settings.credential("client_secret")
    options = {
        "scope": scope,
        "identity": settings.identity,
        "tenant_id": settings.tenant_id or "",
        "client_id": settings.client_id or "",
        "client_secret": secret.reveal() if secret else "",
        "authority": settings.authority,
    }
    return Auth(vendor="azure", options={key: value for key, value in options.items() if value})


def judge_azure(response: Response, good: int, role: str, secrets: Iterable[Secret | None] = ()) -> Verdict:
    """Return what the status says of a service whose one success is `good`.

    `role` is what the identity needs there, for a 403.
    """
    secrets = tuple(secrets)
    verdict = judge_http(response, secrets)
    if not isinstance(response, HttpResponse):
        return verdict
    reason = f"HTTP {response.status}{excerpt(response.body, secrets)}"
    if isinstance(verdict, Delivered) and response.status != good:
        return Blocked(reason=f"{reason} (expected {good}; is a proxy in between?)")
    if isinstance(verdict, Reject):
        return Blocked(reason=f"{reason} (not known to be about an event)")
    if response.status == FORBIDDEN:
        return Blocked(reason=f"{reason} (the identity needs {role}; a new role takes some minutes)")
    return verdict
