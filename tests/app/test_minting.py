"""Tokens that Tocsin mints: who believes them, until when, and what is left of them on the disk."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner
from sidecars import NO_MODELS, Sidecar, until, webhook

from bridge.app import minting
from bridge.auth import Denied, Grant, Keyring, Shown
from bridge.cli import tocsin
from bridge.errors import RefusedError, StorageError

NOW = minting.now()


def made(
    folder: Path, *, tenant: str = "acme", role: minting.Role = "viewer", lasts_s: float = 600
) -> tuple[str, str]:
    text, found = minting.mint(
        folder, tenant=tenant, role=role, now=NOW, until=minting.now() + timedelta(seconds=lasts_s)
    )
    return text, found.id


class Believer:
    """A keyring beside the files, as a front has it."""

    def __init__(self, folder: Path, *tenants: str) -> None:
        self.tokens = minting.MintedTokens(folder, lambda: tenants or ("acme",), self.forget)
        self.ring = Keyring(
            [("a-configured-token-01", Grant(tenant="acme", role="admin"))], minted=self.tokens
        )

    def forget(self) -> None:
        self.ring.forget()

    def admit(self, text: str) -> Grant | None:
        answer = self.ring.admit(Shown(peer="192.0.2.1", authorization=f"Bearer {text}"), time.time())
        assert isinstance(answer, Grant | Denied)
        return answer if isinstance(answer, Grant) else None


def test_a_minted_token_is_believed_at_once_and_says_who_it_is(tmp_path: Path):
    believer = Believer(tmp_path)
    assert believer.admit("a.b.c") is None
    text, token = made(tmp_path)
    assert believer.admit(text) == Grant(tenant="acme", role="viewer", shape="jwt", actor=f"token {token}")


def test_a_revoked_token_is_believed_no_more_and_the_others_are(tmp_path: Path):
    believer = Believer(tmp_path)
    (one, first), (two, _) = made(tmp_path), made(tmp_path)
    assert believer.admit(one)
    minting.revoke(tmp_path, first, now=NOW)
    believer.tokens.look()
    assert believer.admit(one) is None
    assert believer.admit(two)
    assert [each.revoked_at for each in minting.minted(tmp_path)] == [NOW, None]
    with pytest.raises(RefusedError, match="revoked already"):
        minting.revoke(tmp_path, first, now=NOW)
    with pytest.raises(RefusedError, match="no token has the id"):
        minting.revoke(tmp_path, "nobody", now=NOW)


def test_an_expired_token_is_believed_no_more(tmp_path: Path):
    text, _ = made(tmp_path, lasts_s=-1)
    assert Believer(tmp_path).admit(text) is None


def test_a_token_of_a_tenant_that_is_gone_is_believed_no_more(tmp_path: Path):
    text, _ = made(tmp_path)
    assert Believer(tmp_path, "other").admit(text) is None


def test_a_token_that_was_never_minted_is_not_believed_even_with_the_key(tmp_path: Path):
    _, token = made(tmp_path)
    key = (tmp_path / minting.KEY).read_text()
    claims = {"iss": "tocsin", "aud": "tocsin", "exp": int(time.time()) + 600, "jti": token, "tenant": "acme"}
    for role, jti in (("admin", token), ("viewer", "0" * 16), ("viewer", 7)):
        forged = jwt.encode(claims | {"role": role, "jti": jti}, key, "HS256")
        assert Believer(tmp_path).admit(forged) is None
    for other in ("x" * 64, key[::-1]):
        assert Believer(tmp_path).admit(jwt.encode(claims | {"role": "viewer"}, other, "HS256")) is None
    assert Believer(tmp_path).admit(jwt.encode(claims | {"role": "viewer"}, key, "HS256"))
    assert Believer(tmp_path).admit(jwt.encode(claims | {"role": "viewer"}, key, "HS512")) is None


def test_without_the_key_or_the_record_nobody_is_believed(tmp_path: Path):
    text, _ = made(tmp_path)
    believer = Believer(tmp_path)
    assert believer.admit(text)
    (tmp_path / minting.RECORD).rename(tmp_path / "elsewhere")
    believer.tokens.look()
    assert believer.admit(text) is None
    (tmp_path / "elsewhere").rename(tmp_path / minting.RECORD)
    (tmp_path / minting.KEY).write_text("short")
    believer.tokens.look()
    assert believer.admit(text) is None
    with pytest.raises(StorageError, match="holds no key"):
        made(tmp_path)


def test_the_files_are_their_owners_only_and_hold_no_token(tmp_path: Path):
    text, _ = made(tmp_path)
    for name in (minting.KEY, minting.RECORD):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert text.rpartition(".")[2] not in (tmp_path / minting.RECORD).read_text()
    audit, *others = sorted(path.name for path in tmp_path.iterdir())
    assert audit.startswith("audit-")
    assert others == [minting.KEY, minting.RECORD]


def test_half_a_line_of_a_killed_command_costs_nothing_else(tmp_path: Path):
    (one, _), record = made(tmp_path), tmp_path / minting.RECORD
    record.write_bytes(record.read_bytes() + b'{"at":"2026-')
    two, _ = made(tmp_path)
    believer = Believer(tmp_path)
    assert believer.admit(one)
    assert believer.admit(two)


def _mint(folder: Path) -> str:
    return made(folder)[0]


def test_commands_at_once_make_one_key_and_lose_no_token(tmp_path: Path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        tokens = pool.map_async(_mint, [tmp_path] * 8).get(40)
    believer = Believer(tmp_path)
    assert all(believer.admit(text) for text in tokens)
    assert len(minting.minted(tmp_path)) == 8


def test_a_running_sidecar_believes_a_minted_token_until_it_is_revoked(make: Callable[..., Sidecar]):
    tenants = "tenants: [{name: acme, tokens: [{token: acme-admin-0123456789}]}, {name: other, tokens: [{token: other-admin-0123456789}]}]\n"
    sidecar = make(configuration=NO_MODELS + tenants)
    sidecar.start()

    def command(*words: str, good: bool = True) -> str:
        result = CliRunner().invoke(tocsin, ["token", *words, "--data", str(sidecar.data)])
        assert (result.exit_code == 0) is good, result.output
        return result.stdout

    minted = json.loads(
        CliRunner().invoke(
            tocsin,
            ["token", "--tenant", "acme", "--role", "viewer", "--config", str(sidecar.file), "--data", str(sidecar.data),
             "--json"],
        ).stdout
    )  # fmt: skip
    until_ = datetime.fromisoformat(minted["expires_at"]) - datetime.fromisoformat(minted["minted_at"])
    assert (until_, minted["role"], minted["state"]) == (timedelta(days=30), "viewer", "good")
    reader = {"Authorization": f"Bearer {minted['token']}"}
    assert sidecar.ask("GET", "/api/v1/incidents", headers=reader)[0] == 200
    assert sidecar.ask("POST", "/-/reload", b"", reader)[0] == 403
    assert sidecar.ask("POST", "/v1/alertmanager", webhook("Here"), reader)[0] == 403
    plain = command("--tenant", "acme", "--role", "admin").strip()
    assert sidecar.ask("POST", "/-/reload", b"", {"Authorization": f"Bearer {plain}"})[0] == 200
    assert minted["id"] in command("list")
    assert [each["state"] for each in json.loads(command("list", "--json"))] == ["good", "good"]
    command("revoke", minted["id"])
    until(lambda: sidecar.ask("GET", "/api/v1/incidents", headers=reader)[0] == 401, "it is revoked", 5)
    assert "revoked" in command("list")
    command("revoke", minted["id"], good=False)
    assert minted["token"] not in sidecar.log.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "code"),
    [([], 2), (["--tenant", "a"], 2), (["--tenant", "a", "--role", "boss"], 2),
     (["--tenant", "a", "--role", "viewer", "--expires", "2y"], 2), (["revoke", "nobody"], 1)],
)  # fmt: skip
def test_a_wrong_command_mints_nothing(tmp_path: Path, words: list[str], code: int):
    result = CliRunner().invoke(tocsin, ["token", *words, "--data", str(tmp_path)])
    assert result.exit_code == code, result.output
    assert not (tmp_path / minting.KEY).exists()
