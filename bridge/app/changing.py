"""What a running front takes over from a changed configuration, and what waits for the next start."""

from __future__ import annotations

import dataclasses

from bridge.auth import Grant, Keyring
from bridge.config import Settings

#: Settings that a running front cannot change, and what they are called in the file.
FIXED = {
    "host": "listen",
    "port": "listen",
    "data_dir": "storage.path",
    "max_body_bytes": "limits.max_body",
    "budget_bytes": "limits.budget",
}


def in_force(old: Settings, new: Settings) -> Settings:
    """Return `new` with what only a restart can change as it was."""
    return dataclasses.replace(new, **{name: getattr(old, name) for name in FIXED})


def later(old: Settings, new: Settings) -> tuple[str, ...]:
    """Return what changed and acts from the next start on, as the file names it."""
    changed = (key for name, key in FIXED.items() if getattr(new, name) != getattr(old, name))
    return tuple(dict.fromkeys(changed))


def keyring_of(settings: Settings) -> Keyring:
    """Return the tokens that are accepted."""
    return Keyring(
        (token.secret.get_secret_value(), Grant(tenant=token.tenant, role=token.role))
        for token in settings.tokens
    )
