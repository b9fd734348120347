"""Tokens of Microsoft Entra, by azure-identity: with a client secret, a workload identity, a managed identity, or any.

What `Auth.options` may hold: `scope`; `identity` ("default", "workload", "managed"); `tenant_id`, `client_id`,
`client_secret`; `authority` (of a sovereign cloud). What is not there azure-identity takes from its own environment
variables (`AZURE_CLIENT_ID`, `AZURE_FEDERATED_TOKEN_FILE`, `IDENTITY_ENDPOINT`, ...).

Theory: azure-identity keeps tokens itself, in memory, and renews them when half of their life or all but five minutes
of it is over; one that is still good serves while none can be had. So what it gave is used for `KEPT_S` without
asking, and it alone decides when it is time. A token that a service refuses is got rid of with the credential that
keeps it.

Rule: the libraries log nothing. They write answers of the token endpoint into the log as they are; what is wrong is
told by the reason.

Rules: to ask blocks, so it happens in a daemon thread, for one request at a time; the others wait for the same answer.
No request for a token goes through a proxy of the environment, as none of a destination does.

Decision: of DefaultAzureCredential's chain what belongs to developers (Azure CLI, PowerShell, editors, ...) is left
out: it starts programs that it finds in PATH, and nobody is logged in where a sidecar runs.
Decision: an authority that the settings name is believed. azure-identity would ask the public cloud about one that it
does not know, which a private cloud cannot reach.
"""

from __future__ import annotations

import asyncio
import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from typing_extensions import override

from bridge.ports import Auth, Http, Unreached
from connectors.common import clip, one_line
from connectors.credentials import STARS
from connectors.transport.vendors import Authorizer
from connectors.transport.vendors.threads import in_a_thread

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

KEPT_S = 60.0  # how long a token is used without asking azure-identity
ANEW_S = 60.0  # a credential that is younger than this is not made anew: its token would be the same
REASON_CHARACTERS = 400
TOO_MANY, SERVER_ERROR = 429, 500
#: How azure-identity asks: tries beside the first, seconds for a connection and for an answer, and no connection kept
#: for the hour until the next token.
ASKING: dict[str, Any] = {
    "retry_total": 2, "connection_timeout": 5, "read_timeout": 10, "use_env_settings": False,
    "headers": {"Connection": "close"},
}  # fmt: skip
LIBRARIES = ("azure.core", "azure.identity", "msal")
#: What of DefaultAzureCredential's chain is a developer's.
DEVELOPERS = ("broker", "cli", "developer_cli", "powershell", "shared_token_cache", "visual_studio_code")

Key = tuple[tuple[str, str], ...]


def authorizer() -> Authorizer:
    """Return what adds Entra's tokens.

    Raises:
        ImportError: azure-identity is not installed.
    """
    if find_spec("azure") is None or find_spec("azure.identity") is None:
        raise ImportError("azure-identity is not installed")
    return AzureAuthorizer()


def _hush() -> None:
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class _Kept(NamedTuple):
    token: str
    until_s: float  # of the loop's clock


class AzureAuthorizer(Authorizer):
    """Keeps a credential and a token for each identity and scope. Use it in one event loop."""

    def __init__(self, **asking: Any) -> None:
        _hush()
        self._asking = ASKING | asking
        self._asked: dict[Key, asyncio.Future[str | Unreached]] = {}
        self._kept: dict[Key, _Kept] = {}
        self._credentials: dict[Key, TokenCredential] = {}
        self._made_s: dict[Key, float] = {}

    @override
    async def authorize(self, request: Http, auth: Auth, *, timeout_s: float) -> Http | Unreached:
        key = _key(auth)
        kept = self._kept.get(key)
        token: str | Unreached
        if kept is not None and asyncio.get_running_loop().time() < kept.until_s:
            token = kept.token
        else:
            token = await self._ask(key, auth, timeout_s)
        if isinstance(token, Unreached):
            return token
        return msgspec.structs.replace(
            request, headers=request.headers | {"authorization": f"Bearer {token}"}
        )

    @override
    def forget(self, auth: Auth) -> bool:
        key = _key(auth)
        now_s = asyncio.get_running_loop().time()
        if key in self._asked or now_s < self._made_s.get(key, now_s) + ANEW_S:
            return False
        self._kept.pop(key, None)
        self._credentials.pop(key, None)
        return True

    async def _ask(self, key: Key, auth: Auth, timeout_s: float) -> str | Unreached:
        if key not in self._asked:
            is_new = key not in self._credentials
            asked = self._asked[key] = in_a_thread(lambda: self._told(key, auth), "azure token")
            asked.add_done_callback(lambda asked: self._keep(key, asked, is_new=is_new))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._asked[key])
        except TimeoutError:
            reason = f"no token from Microsoft Entra within {timeout_s:g} s"
            return Unreached(reason=reason, maybe_sent=False, kind="connect")

    def _told(self, key: Key, auth: Auth) -> str | Unreached:
        """Return a token, or why there is none. Blocks."""
        try:
            if key not in self._credentials:
                self._credentials[key] = _credential(auth.options, self._asking)
            return self._credentials[key].get_token(auth.options["scope"]).token
        except Exception as error:  # noqa: BLE001 (azure-identity raises what its parts raise)
            return _unreached(error, auth.options)

    def _keep(self, key: Key, asked: asyncio.Future[str | Unreached], *, is_new: bool) -> None:
        now_s = asyncio.get_running_loop().time()
        del self._asked[key]
        told = asked.result()
        if is_new:
            self._made_s[key] = now_s
        if isinstance(told, str):
            self._kept[key] = _Kept(told, now_s + KEPT_S)


def _key(auth: Auth) -> Key:
    return tuple(sorted(auth.options.items()))


def _credential(options: dict[str, str], asking: dict[str, Any]) -> TokenCredential:
    from azure import identity  # noqa: PLC0415 - in the thread: it takes a third of a second

    wanted = asking | {key: options[key] for key in ("tenant_id", "client_id") if key in options}
    if "authority" in options:
        wanted |= {"authority": options["authority"], "disable_instance_discovery": True}
    if "client_secret" in options:
        return identity.ClientSecretCredential(client_secret=options["client_secret"], **wanted)
    kind = options.get("identity", "default")
    if kind == "workload":
        return identity.WorkloadIdentityCredential(**wanted)
    tenant_id, client_id = wanted.pop("tenant_id", None), wanted.pop("client_id", None)
    if kind == "managed":
        return identity.ManagedIdentityCredential(client_id=client_id, **wanted)
    if client_id is not None:  # None would mean "none", not "look for it"
        wanted["managed_identity_client_id"] = client_id
    if tenant_id is not None:
        wanted["workload_identity_tenant_id"] = tenant_id
    developers = {f"exclude_{each}_credential": True for each in DEVELOPERS}
    return identity.DefaultAzureCredential(**developers, **wanted)


def _unreached(error: Exception, options: dict[str, str]) -> Unreached:
    """Return why there is no token: what passes is tried again, everything else is for a person."""
    words = str(getattr(error, "message", "") or error)
    if "client_secret" in options:
        words = words.replace(options["client_secret"], STARS)
    words = clip(" ".join(one_line(words).split()), REASON_CHARACTERS)
    reason = f"no token from Microsoft Entra: {words}"
    return Unreached(reason=reason, maybe_sent=False, kind="connect" if _passes(error) else "local")


def _passes(error: BaseException) -> bool:
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError  # noqa: PLC0415 - as above
    from msal.exceptions import MsalServiceError  # noqa: PLC0415 - it says "HTTP Error: 5xx", and nothing else

    seen: BaseException | None = error
    while seen is not None:  # azure-identity wraps what its parts raise
        if isinstance(seen, ServiceRequestError | ServiceResponseError | MsalServiceError):
            return True
        status = getattr(seen, "status_code", None)
        if isinstance(status, int) and (status == TOO_MANY or status >= SERVER_ERROR):
            return True
        seen = seen.__cause__
    return False
