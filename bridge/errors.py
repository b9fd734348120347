"""The exception tree. Expected outcomes are values (`Verdict`, `Change`, `Fault`); these mean "cannot go on".

TocsinError
├── PayloadError      a request body that can never be good (HTTP 400); the message is safe to send back
├── ListenError       the address to listen on cannot be had; the message says what to do
├── RefusedError      what a person wishes cannot be done; the message says why
├── UndecidedError    who asks cannot be said for now (HTTP 503); the message is safe to send back
├── ConfigError       a configuration that cannot be used; carries every fault found, each with its place
└── StorageError      a store that cannot be opened, is of a newer schema, or failed to commit
    ├── StoreFullError    there is no room on the disk (temporary: HTTP 503)
    ├── MisplacedError    its file was moved or deleted while it was open
    ├── DamagedError      its file is no database any more, or a broken one
    └── DamagedInboxError the same of the inbox, for those who only read it

Rule: no secret and no URL query ever enters a message.
"""

from __future__ import annotations


class TocsinError(Exception):
    """Anything Tocsin raises on purpose."""


class PayloadError(TocsinError):
    """The body of a request can never be used; the message says why in a few words."""


class ListenError(TocsinError):
    """The address cannot be listened on; the message says why and what to do instead."""


class RefusedError(TocsinError):
    """What a person wishes to be done to an incident cannot be done; the message says why."""


class UndecidedError(TocsinError):
    """Whether a credential is good cannot be said for now; the message says why in a few words."""


class ConfigError(TocsinError):
    """The configuration cannot be used; `faults` has one line per fault, with file, line and key."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class StorageError(TocsinError):
    """A store cannot be opened or did not commit; nothing of the failed batch was kept."""


class StoreFullError(StorageError):
    """The disk has no room; the same write may succeed later."""


class MisplacedError(StorageError):
    """The file that is open is not the one that its path names any more."""


class DamagedError(StorageError):
    """What is in the file cannot be a store of ours; trying again will not help."""


class DamagedInboxError(StorageError):
    """The inbox is broken, and whoever says so only reads it: its writer has to know."""
