"""AWS: credentials as botocore finds and renews them, requests signed by its signer (Signature Version 4).

`Auth.options`: `service` and `region` are what is signed for. Keys from the settings (`access_key_id`,
`secret_access_key`, `session_token`) are taken as they are; without them botocore's own chain looks: environment,
web identity (IRSA), shared files (`profile`), SSO, container, instance metadata. `role_arn` (and `external_id`) is then
assumed with what was found.

Rules: what is found is kept for all requests with the same options but `service`; it is looked for once at a time, in
a daemon thread (a program or a metadata server may hang), and kept even if nobody waits for it any more. Credentials
that renew themselves do so in such a thread before they expire. Those that do not (environment, shared files) are
looked for anew every minute: something else may write them.

Decision: botocore's sessions, credentials and signer, none of its clients (but STS for `role_arn`, which it needs
itself): requests go through the one HTTP sender, with its answers, limits and trust.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    Credentials,
    DeferredRefreshableCredentials,
    ReadOnlyCredentials,
    RefreshableCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 (its name there)
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
)
from botocore.session import Session
from typing_extensions import override

from bridge.ports import Auth, Http, Unreached
from connectors.transport.vendors import Authorizer
from connectors.transport.vendors.threads import in_a_thread

#: How long credentials are used that do not say when they end.
KEPT_S = 60.0
#: What is signed at once; the hash of more takes long enough to be felt by other requests.
AT_ONCE_BYTES = 256 * 1024
#: How S3 is told of a checksum.
ALGORITHM, CHECKSUM = "x-amz-sdk-checksum-algorithm", "x-amz-checksum-crc32"
#: For STS: an attempt of the dispatcher is not much longer.
STS = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
#: Faults that pass.
PASSING = (ConnectionError, HTTPClientError, MetadataRetrievalError, CredentialRetrievalError)
#: From here on a status tells of STS, not of us.
ABOVE_CLIENT = 500
THROTTLED = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "IDPCommunicationError"})

Options = dict[str, str]


class _Renewed(NamedTuple):
    credentials: Credentials | None
    #: Of these credentials. Taken in the thread: those that end within minutes are renewed at every look.
    keys: ReadOnlyCredentials | None


class _Kept:
    """The credentials of one set of options, and until when they are used."""

    def __init__(self) -> None:
        self.credentials: Credentials | None = None
        self._until_s = 0.0
        self._renewal: asyncio.Future[_Renewed] | None = None

    def is_usable(self) -> bool:
        """Return whether what is kept can be used without asking anybody."""
        if isinstance(self.credentials, RefreshableCredentials):
            return not self.credentials.refresh_needed()
        return self.credentials is not None and time.monotonic() < self._until_s

    async def renewed(self, find: Callable[[], Credentials | None]) -> ReadOnlyCredentials | None:
        """Return the keys that are found or renewed now, by one thread for all who wait; raise what it raises."""
        if self._renewal is None:
            known = self.credentials
            self._renewal = in_a_thread(lambda: _renewed(known, find), "aws credentials")
            self._renewal.add_done_callback(self._keep)
        return (await asyncio.shield(self._renewal)).keys

    def _keep(self, renewal: asyncio.Future[_Renewed]) -> None:
        # Whether or not somebody still waits: what was slow need not be slow again.
        self._renewal = None
        if not renewal.cancelled() and renewal.exception() is None:
            self.credentials, self._until_s = renewal.result().credentials, time.monotonic() + KEPT_S


class Aws(Authorizer):
    """Signs requests with credentials that it keeps."""

    def __init__(self, find: Callable[[Options], Credentials | None] | None = None) -> None:
        self._find = find or found
        self._kept: dict[tuple[tuple[str, str], ...], _Kept] = {}

    @override
    async def authorize(self, request: Http, auth: Auth, *, timeout_s: float) -> Http | Unreached:
        try:
            async with asyncio.timeout(timeout_s):
                credentials = await self._credentials(auth)
        except TimeoutError:
            return Unreached(reason="AWS gave no credentials in time", maybe_sent=False, kind="connect")
        except PASSING as error:
            reason = f"AWS could not be asked for credentials: {type(error).__name__}"
            return Unreached(reason=reason, maybe_sent=False, kind="connect")
        except ClientError as error:
            return _refused(error)
        except (BotoCoreError, ValueError) as error:
            reason = f"no AWS credentials: {type(error).__name__}"
            return Unreached(reason=reason, maybe_sent=False, kind="local")
        if credentials is None:
            reason = (
                "no AWS credentials were found; set access_key_id and secret_access_key, profile, or give "
                "the machine a role"
            )
            return Unreached(reason=reason, maybe_sent=False, kind="local")
        if len(request.body) > AT_ONCE_BYTES:
            return await asyncio.to_thread(signed, request, auth.options, credentials)
        return signed(request, auth.options, credentials)

    async def _credentials(self, auth: Auth) -> ReadOnlyCredentials | None:
        """Return frozen credentials; finds or renews them if it must."""
        kept = self._kept.setdefault(_key(auth), _Kept())
        if kept.credentials is not None and kept.is_usable():
            return kept.credentials.get_frozen_credentials()
        return await kept.renewed(lambda: self._find(auth.options))

    @override
    def forget(self, auth: Auth) -> bool:
        known = self._kept.pop(_key(auth), None)
        return known is not None and not (auth.options.get("access_key_id") and not _role(auth.options))


def authorizer() -> Aws:
    """Return the authorizer of this vendor."""
    # At the level of debugging botocore logs what it signs, session tokens included.
    logging.getLogger("botocore").setLevel(logging.INFO)
    return Aws()


def _renewed(known: Credentials | None, find: Callable[[], Credentials | None]) -> _Renewed:
    """Return credentials that were found or renewed just now. Blocks."""
    credentials = known if isinstance(known, RefreshableCredentials) else find()
    return _Renewed(credentials, credentials and credentials.get_frozen_credentials())


def _key(auth: Auth) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in auth.options.items() if key != "service"))


def _role(options: Options) -> str:
    return options.get("role_arn", "")


def found(options: Options) -> Credentials | None:
    """Return the credentials that `options` lead to; None if there are none. Blocks.

    Raises:
        BotoCoreError: A profile is not there or not complete, or nobody answered.
        ClientError: A role may not be assumed.
    """
    session = Session(profile=options.get("profile") or None)
    session.set_config_variable("region", options["region"])
    session.set_default_client_config(STS)
    if options.get("access_key_id"):
        session.set_credentials(
            options["access_key_id"], options["secret_access_key"], options.get("session_token") or None
        )
    own = session.get_credentials()
    return _assumed(session, own, options) if own is not None and _role(options) else own


def _assumed(session: Session, own: Credentials, options: Options) -> Credentials:
    external = {"ExternalId": options["external_id"]} if options.get("external_id") else {}

    def client(service: str, **more: Any) -> Any:
        return session.create_client(service, **({"region_name": options["region"]} | more))

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=client,
        source_credentials=own,
        role_arn=options["role_arn"],
        extra_args={"RoleSessionName": "tocsin", **external},
    )
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


def signed(request: Http, options: Options, credentials: ReadOnlyCredentials) -> Http:
    """Return the request with the headers that sign it now."""
    signer = S3SigV4Auth if options["service"] == "s3" else SigV4Auth
    headers = request.headers | _checksum(request)
    made = AWSRequest(method=request.method, url=request.url, headers=headers, data=request.body)
    signer(credentials, options["service"], options["region"]).add_auth(made)
    return msgspec.structs.replace(request, headers=dict(made.headers.items()), auth=None)


def _checksum(request: Http) -> dict[str, str]:
    """Return the checksum that a request names and does not have, since its body was made just now (`Http.shape`)."""
    if request.headers.get(ALGORITHM) != "CRC32" or CHECKSUM in request.headers:
        return {}
    return {CHECKSUM: base64.b64encode(zlib.crc32(request.body).to_bytes(4, "big")).decode()}


def _refused(error: ClientError) -> Unreached:
    """Return what it means that STS answered with an error. Its message may repeat what it was sent."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    passes = status >= ABOVE_CLIENT or code in THROTTLED
    reason = f"AWS gave no credentials: {error.operation_name} was answered {code or status}"
    return Unreached(reason=reason, maybe_sent=False, kind="connect" if passes else "local")
