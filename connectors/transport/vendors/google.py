"""Google's credentials, by google-auth: application default credentials, a key, workload identity federation.

What `Auth.options` may hold: `scope` (the OAuth scope), `key` (the JSON of a service account's key or of a federation's
configuration; without it the application default credentials are looked for: `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's
own file, the metadata server).

Rules: to find credentials and to renew a token blocks, so it happens in a thread, for one request at a time; the others
wait for the same. A token that has minutes left is used where a new one cannot be had. No request for a token goes
through a proxy of the environment or with a netrc, as none of a destination does.

Decision: a key is loaded by its type and not by google-auth's generic loader: that one would also run a program that
the configuration names.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import google.auth
import msgspec
import requests
from google.auth import aws, environment_vars, exceptions, identity_pool
from google.auth.credentials import TokenState
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from typing_extensions import override

from bridge.ports import Auth, Http, Unreached
from connectors.common import excerpt
from connectors.transport.vendors import Authorizer
from connectors.transport.vendors.threads import in_a_thread

#: Types of a key that are loaded here.
LOADED = frozenset({"service_account", "external_account"})
ASK_S = 10.0  # the longest that one request for a token may be silent
AWS_TOKEN = "urn:ietf:params:aws:token-type:aws4_request"  # noqa: S105 (a type, no token)


def authorizer() -> Authorizer:
    """Return what adds Google's credentials."""
    return GoogleAuthorizer()


class GoogleAuthorizer(Authorizer):
    """Keeps one token for each scope and key. Use it in one event loop."""

    def __init__(self) -> None:
        self._kept: dict[tuple[tuple[str, str], ...], _Kept] = {}

    @override
    async def authorize(self, request: Http, auth: Auth, *, timeout_s: float) -> Http | Unreached:
        kept = self._kept.setdefault(_name(auth), _Kept(auth.options))
        try:
            async with asyncio.timeout(timeout_s):
                headers = await kept.headers()
        except TimeoutError:
            reason = f"Google gave no token within {timeout_s:g} s"
            return Unreached(reason=reason, maybe_sent=False, kind="connect")
        if isinstance(headers, Unreached):
            return headers
        return msgspec.structs.replace(request, headers=request.headers | headers)

    @override
    def forget(self, auth: Auth) -> bool:
        # All of it: the file behind it may have been changed since.
        return self._kept.pop(_name(auth), None) is not None


def _name(auth: Auth) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(auth.options.items()))


class _Kept:
    """Credentials and the token that they gave last."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options
        self._found: Any = None  # google-auth's credentials
        self._renewal: asyncio.Future[Any] | None = None

    async def headers(self) -> dict[str, str] | Unreached:
        """Return the headers that carry the token, renewed if it is time."""
        if self._state() is not TokenState.FRESH:
            answer = await self._renewed()
            if not isinstance(answer, Unreached):
                self._found = answer
            elif self._state() is not TokenState.STALE:
                return answer
        headers: dict[str, str] = {}
        self._found.apply(headers)
        return headers

    def _state(self) -> TokenState:
        return TokenState.INVALID if self._found is None else self._found.token_state

    async def _renewed(self) -> Any:
        """Return the credentials with a new token, or why there is none."""
        if self._renewal is None or self._renewal.done():
            found, options = self._found, self._options
            self._renewal = in_a_thread(lambda: _renew(found, options), "google-auth")
        return await asyncio.shield(self._renewal)


def _renew(found: Any, options: Mapping[str, str]) -> Any:
    try:
        return _refreshed(found, options)
    except (exceptions.GoogleAuthError, requests.RequestException, OSError, ValueError) as error:
        return _unreached(error)


def _refreshed(found: Any, options: Mapping[str, str]) -> Any:
    """Return the credentials with a new token; looks for them if there are none yet."""
    with requests.Session() as session:
        session.trust_env = False
        request = _bounded(Request(session))
        request.session = session  # where google-auth puts a metadata server's certificates
        if found is None:
            found = _look_for(options, request)
        found.refresh(request)
        return found


def _bounded(ask: Callable[..., Any]) -> Any:
    """Return google-auth's way to ask, with a limit on how long it is waited."""

    def bounded(
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Any = None,
        timeout: float | None = None,
        **others: Any,
    ) -> Any:
        return ask(url, method, body, headers, min(timeout or ASK_S, ASK_S), **others)

    return bounded


def _look_for(options: Mapping[str, str], request: Any) -> Any:
    scopes = [options["scope"]]
    if "key" in options:
        return _loaded(json.loads(options["key"]), scopes)
    named = os.environ.get(environment_vars.CREDENTIALS)
    if named:
        key = json.loads(Path(named).read_text(encoding="utf-8"))
        if isinstance(key, dict) and key.get("type") in LOADED and not _names_a_program(key):
            return _loaded(key, scopes)  # google-auth would ask for the name of its project as well
    found, _project = google.auth.default(scopes=scopes, request=request)
    return found


def _names_a_program(key: dict[str, Any]) -> bool:
    source = key.get("credential_source")
    return isinstance(source, dict) and "executable" in source


def _loaded(key: dict[str, Any], scopes: list[str]) -> Any:
    kind: Any = identity_pool.Credentials
    if key["type"] == "service_account":
        return service_account.Credentials.from_service_account_info(key, scopes=scopes)  # type: ignore[no-untyped-call]
    if key.get("subject_token_type") == AWS_TOKEN:
        kind = aws.Credentials
    return kind.from_info(key, scopes=scopes)


def _unreached(error: Exception) -> Unreached:
    """Return why there is no token: what passes is tried again, everything else is for a person."""
    passes = isinstance(error, exceptions.TransportError | requests.RequestException)
    # The metadata server's answers come wrapped.
    passes = passes or isinstance(error.__cause__, exceptions.TransportError)
    passes = passes or bool(getattr(error, "retryable", False))
    words = excerpt(str(error.args[0] if error.args else error).encode("utf-8", "replace"))
    reason = f"no token from Google{words}"
    return Unreached(reason=reason, maybe_sent=False, kind="connect" if passes else "local")
