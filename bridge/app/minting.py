"""API tokens that Tocsin makes itself: `tocsin token` mints, lists and revokes, a running front believes.

Rules: a token is a JWT, signed by PyJWT with a key that lies in the directory of the stores, readable to its owner
only, made at first use. It ends, at the latest after a year. What was minted and revoked stands in a file that is only
ever appended to; a token that does not stand there, with its tenant and role, is not believed, whoever signed it. The
token itself is kept nowhere.

Decision: the command works on the files and not through the API, unlike all that changes a running sidecar. The first
token must come from somewhere, and whoever may write this directory may do anything. The front looks at the files every
second: what was revoked is gone then, and what was minted is believed at once.

Decision: HS256, one key for signing and verifying. Nobody else verifies these tokens, so that a public key would only
be one more file.
"""

from __future__ import annotations

import getpass
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec

from bridge import config
from bridge.app.appending import append
from bridge.app.auditing import AuditLog
from bridge.app.beginning import make_folder
from bridge.app.kinds import known_kinds
from bridge.app.marks import mark_of
from bridge.app.own_keys import own_key, read_key
from bridge.auth import Denied, Grant, KeysNeeded, Role, Verified, Verifier
from bridge.errors import RefusedError, StorageError
from bridge.model import Word

KEY, RECORD = "token.key", "tokens.jsonl"
ISSUER = "tocsin"
ROLES: tuple[Role, ...] = get_args(Role)
#: A command does not know how long the audit log is kept, and deletes nothing of it.
LONGEST_S = 10 * 365 * 86_400.0


class MintedToken(Word, frozen=True, kw_only=True):
    """A token as it stands in the record."""

    id: str
    tenant: str
    role: Role
    minted_at: datetime
    expires_at: datetime
    by: str  # who minted it, as the operating system calls them
    revoked_at: datetime | None = None


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of the record: a token that was minted, or the id of one that was revoked."""

    at: datetime
    by: str
    minted: MintedToken | None = None
    revoked: str | None = None


_line_decoder = msgspec.json.Decoder(_Line)


def mint(folder: Path, *, tenant: str, role: Role, now: datetime, until: datetime) -> tuple[str, MintedToken]:
    """Return a new token and what the record says of it.

    Raises:
        StorageError: Key or record cannot be read or written.
    """
    import jwt  # noqa: PLC0415 - with `cryptography` behind it, dear

    found = MintedToken(
        id=secrets.token_hex(8),
        tenant=tenant,
        role=role,
        minted_at=now,
        expires_at=until,
        by=_who(),
    )
    claims = {
        "iss": ISSUER, "aud": ISSUER, "jti": found.id, "tenant": tenant, "role": role,
        "iat": int(now.timestamp()), "exp": int(until.timestamp()),
    }  # fmt: skip
    token = jwt.encode(claims, own_key(folder / KEY), "HS256")
    _append(folder, _Line(at=now, by=found.by, minted=found), "token_minted", found)
    return token, found


def revoke(folder: Path, token: str, *, now: datetime) -> MintedToken:
    """Revoke the token of this id and return it.

    Raises:
        RefusedError: There is none, or it is revoked already.
        StorageError: The record cannot be read or written.
    """
    known = {each.id: each for each in minted(folder)}
    if token not in known:
        raise RefusedError(f"no token has the id {token}; `tocsin token list` lists them")
    if known[token].revoked_at is not None:
        raise RefusedError(f"the token {token} is revoked already")
    _append(folder, _Line(at=now, by=_who(), revoked=token), "token_revoked", known[token])
    return msgspec.structs.replace(known[token], revoked_at=now)


def minted(folder: Path) -> list[MintedToken]:
    """Return every token that was minted, oldest first.

    Raises:
        StorageError: The record cannot be read.
    """
    try:
        lines = (folder / RECORD).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{folder / RECORD} cannot be read: {error.strerror}") from error
    found: dict[str, MintedToken] = {}
    for text in filter(None, lines):
        try:
            line = _line_decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue  # half a line: its writer was killed, and never said that it was done
        if line.minted is not None:
            found[line.minted.id] = line.minted
        elif line.revoked in found:
            found[line.revoked] = msgspec.structs.replace(found[line.revoked], revoked_at=line.at)
    return list(found.values())


class MintedTokens:
    """A `Verifier` of these tokens, for a front that runs."""

    def __init__(
        self, folder: Path, tenants: Callable[[], Collection[str]], changed: Callable[[], None]
    ) -> None:
        """Take the directory, the tenants that there are, and whom to tell when a token was minted or revoked."""
        self._folder = folder
        self._tenants = tenants
        self._changed = changed
        self._state: object = None
        self._good: dict[str, MintedToken] = {}
        self._issuer: Verifier | None = None

    def look(self) -> None:
        """Take over what was minted and revoked. Costs two looks at the file system where nothing has changed."""
        state = tuple(mark_of(self._folder / name) for name in (KEY, RECORD))
        if state == self._state:
            return
        self._state, self._issuer = state, None
        try:
            self._good = {each.id: each for each in minted(self._folder) if each.revoked_at is None}
        except StorageError:  # what cannot be read is believed by nobody
            self._good = {}
        self._changed()

    def verify(self, token: str) -> Verified | Denied | KeysNeeded:
        """Return what a token grants."""
        self.look()
        if self._issuer is None and self._good:
            self._issuer = self._made()
        if self._issuer is None:
            return Denied(shape="jwt", why="no token was minted here, or its key cannot be read")
        return self._issuer.verify(token)

    def _made(self) -> Verifier | None:
        # With `cryptography` behind it this is dear, and many mint no tokens.
        from bridge.auth.jwts import Issuer  # noqa: PLC0415

        try:
            key = read_key(self._folder / KEY)
        except (OSError, StorageError):
            return None
        return Issuer(
            issuer=ISSUER, audience=ISSUER, algorithms=("HS256",), keys=None, secret=key, leeway_s=0.0,
            grant_of=self._grant_of,
        )  # fmt: skip

    def _grant_of(self, claims: Mapping[str, Any]) -> Grant | None:
        token = claims.get("jti")
        known = self._good.get(token) if isinstance(token, str) else None
        if known is None or (known.tenant, known.role) != (claims.get("tenant"), claims.get("role")):
            return None
        if known.tenant not in self._tenants():
            return None
        return Grant(tenant=known.tenant, role=known.role, shape="jwt", actor=f"token {known.id}")


def _append(folder: Path, line: _Line, action: str, token: MintedToken) -> None:
    """Write a line of the record, and before that what is done in the audit log."""
    log = AuditLog(folder, wall=time.time, keep_s=lambda: LONGEST_S)
    after = {"role": token.role, "expires_at": token.expires_at}
    log.write(
        {"tenant": token.tenant, "actor": f"user {line.by}", "role": None, "peer": None, "action": action,
         "target": token.id, "asked": None, "before": None, "done": True, "after": after}
    )  # fmt: skip
    try:
        append(folder / RECORD, msgspec.json.encode(line))
    except OSError as error:
        raise StorageError(f"{folder / RECORD} cannot be written: {error.strerror}") from error


def now() -> datetime:
    """Return the time, in whole seconds as tokens have it."""
    return datetime.now(UTC).replace(microsecond=0)


def role_of(name: str) -> Role:
    """Return the role of this name; ValueError if there is none."""
    return ROLES[ROLES.index(name)]


def record(token: MintedToken) -> dict[str, Any]:
    """Return a token for a machine: times as RFC 3339, `state` is good, expired or revoked."""
    state = "revoked" if token.revoked_at is not None else "expired" if token.expires_at <= now() else "good"
    return {**msgspec.to_builtins(token), "state": state}


def folder_of(path: Path | None, data: Path | None, tenant: str | None) -> Path:
    """Return the directory of the stores, made if it is not there.

    Raises:
        ConfigError: The configuration at `path` has faults.
        RefusedError: It has no such tenant.
        StorageError: The directory cannot be made.
    """
    settings = config.load(path, known_kinds(), os.environ, data_dir=data)
    if path is not None and tenant is not None and tenant not in settings.tenants:
        raise RefusedError(f"there is no tenant {tenant}; there are: {', '.join(settings.tenants)}")
    make_folder(settings.data_dir)
    return settings.data_dir


def _who() -> str:
    """Return who runs this."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
