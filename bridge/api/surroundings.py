"""What the API asks of the front that it runs in, and of the stores that it reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from aiohttp import web

from bridge.analysis.erasing import Erase
from bridge.analysis.feedback import EpisodeRef, FeedbackKind
from bridge.auth import Scheme
from bridge.model import DeliveryState, IncidentState, RowKind, Word


class Credential(Protocol):
    """Who asks."""

    @property
    def tenant(self) -> str:
        """The tenant whose data this credential reaches."""

    @property
    def role(self) -> str:
        """One of `bridge.auth.ROLE_RANK`."""

    @property
    def actor(self) -> str:
        """Who that is: the credential's name, never the credential."""


class Audit(Protocol):
    """The log of who changed what."""

    async def begin(self, entry: dict[str, Any]) -> str:
        """Write down a change that is about to be made; StorageError if it must not be."""

    async def end(self, entry: str, *, tenant: str, done: bool, after: object) -> None:
        """Write down what came of it."""

    def page(self, tenant: str, *, limit: int, cursor: str | None) -> Listed:
        """Return part of a tenant's entries, newest first; blocks. ValueError for a foreign cursor."""


class Listed(Protocol):
    """Part of a list and where the next part begins."""

    @property
    def items(self) -> tuple[Mapping[str, Any], ...]:
        """The items as they are shown."""

    @property
    def next(self) -> str | None:
        """The cursor of the next part; None at the end."""


class Entry(Protocol):
    """One quarantined thing with its bytes."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def source(self) -> str:
        """The source it came from."""

    @property
    def what(self) -> str:
        """One of "alert", "body", "row"."""

    @property
    def body(self) -> bytes:
        """The bytes as they came."""


class Part(Protocol):
    """Part of an export."""

    @property
    def lines(self) -> tuple[bytes, ...]:
        """JSON lines."""

    @property
    def next(self) -> Any:
        """What to ask the next part with; None at the end."""


class Standing(Protocol):
    """Where an incident stands, as far as it decides what can be said of it."""

    @property
    def state(self) -> IncidentState:
        """Its state."""

    @property
    def merged_into(self) -> str | None:
        """Where its episodes are."""

    @property
    def episodes(self) -> Collection[EpisodeRef]:
        """Its episodes, each with its source."""


class ActionStanding(Protocol):
    """Where an action stands."""

    @property
    def kind(self) -> FeedbackKind:
        """What was said."""

    @property
    def state(self) -> str:
        """One of applied, undone, refused."""


class Kept(Protocol):
    """What is asked of the analyst's state. All of it blocks and may raise StorageError."""

    def standing(self, tenant: str, incident: str) -> Standing | None:
        """Return where an incident stands; None if there is none."""

    def action(self, tenant: str, action: str) -> ActionStanding | None:
        """Return where an action stands; None if there is none."""


class Found(Protocol):
    """What an erase would find."""

    @property
    def incidents(self) -> int:
        """Incidents that hold an alert which is meant."""

    @property
    def emptied(self) -> int:
        """Of those, which would hold none any more."""

    @property
    def episodes(self) -> int:
        """Episodes."""

    @property
    def alerts(self) -> int:
        """Different alerts."""

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Theirs."""


class Erasures(Protocol):
    """What is asked of the analyst's state about what is erased. All of it blocks and may raise StorageError."""

    def erasures(self, tenant: str) -> list[dict[str, Any]]:
        """Return what was erased, newest first."""

    def meant(self, tenant: str, erase: Erase, now: datetime) -> Found:
        """Return what an erase would find."""


class Reading(Kept, Erasures, Protocol):
    """What is asked of the analyst's state. All of it blocks and may raise StorageError."""

    def incidents(
        self,
        tenant: str | None,
        *,
        beginning: str | None,
        states: Sequence[IncidentState],
        severity: str | None,
        since: datetime | None,
        limit: int,
        cursor: str | None,
    ) -> Listed:
        """Return part of the incidents, newest first, by the beginning of their id; ValueError for a foreign cursor."""

    def flat_incidents(
        self,
        tenant: str | None,
        *,
        states: Sequence[IncidentState],
        severity: str | None,
        since: datetime | None,
        until: datetime | None,
        limit: int,
        cursor: str | None,
    ) -> Listed:
        """Return part of the incidents as rows of a table, newest first; ValueError for a foreign cursor."""

    def incident(self, tenant: str, incident: str) -> dict[str, Any] | None:
        """Return one whole incident."""

    def quarantine(self, tenant: str | None, *, limit: int, cursor: str | None) -> Listed:
        """Return part of the quarantine, newest first; ValueError for a foreign cursor."""

    def quarantined(self, tenant: str | None, number: int) -> Entry | None:
        """Return one quarantined thing."""

    def models(self, tenant: str) -> list[dict[str, Any]]:
        """Return which models a tenant has, the linker first."""

    def forecasts(self, tenant: str) -> dict[str, Any]:
        """Return what is forecast: `items`, `next` and what is `lacking`."""

    def recommendations(self, tenant: str) -> list[dict[str, Any]]:
        """Return what to do about what is forecast."""

    def topology(self, tenant: str, *, limit: int) -> dict[str, Any]:
        """Return who calls whom, at most so many services and edges."""

    def stats(self, tenant: str | None) -> dict[str, Any]:
        """Return counts and how far the analyst is."""

    def incident_lines(self, tenant: str | None, *, since: datetime | None, after: Any) -> Part:
        """Return part of the export of incidents."""

    def history_lines(self, tenant: str | None, *, since: datetime | None, after: Any) -> Part:
        """Return part of the export of what was received."""


class Deliveries(Protocol):
    """What is asked of the dispatcher's store. All of it blocks and may raise StorageError."""

    def listed(
        self,
        tenant: str,
        *,
        states: Sequence[DeliveryState],
        destination: str | None,
        incident: str | None,
        limit: int,
        cursor: str | None,
    ) -> Listed:
        """Return part of the deliveries, newest first; ValueError for a foreign cursor."""

    def of_incident(self, tenant: str, incident: str) -> list[dict[str, Any]]:
        """Return every delivery of one incident."""

    def destinations(self, tenant: str) -> tuple[str, ...]:
        """Return the destinations that a tenant has deliveries for."""

    def counts(self, tenant: str) -> dict[str, int]:
        """Return how many deliveries are in each state."""

    async def retry(self, tenant: str, delivery: str) -> bool:
        """Let a dead delivery go again; False if there is no such dead delivery."""

    async def drop(self, tenant: str, delivery: str) -> bool:
        """Give a waiting or dead delivery up for good; False if there is none."""


class DestinationHealth(Word, frozen=True, kw_only=True):
    """How one destination is doing."""

    name: str
    state: Literal["working", "blocked", "unreachable"]
    reason: str = ""
    since: str | None = None  # RFC 3339, None while it works


class AnalystHealth(Word, frozen=True, kw_only=True):
    """How the thinking is doing."""

    up: bool
    models: Literal["work", "missing", "off"]  # missing: not loaded yet, or lost; off: by the configuration
    degraded: bool  # incidents are decided without models


class QuotaHealth(Word, frozen=True, kw_only=True):
    """How much of one quota a tenant uses."""

    name: str
    limit: float | None  # as it is configured; None: a share that depends on the others
    used: float | None  # 1.0 for all of it; None: nobody has looked yet
    exceeded: bool


class Health(Word, frozen=True, kw_only=True):
    """What the front knows of its other parts; a tenant is told of the destinations it has a route to."""

    analyst: AnalystHealth
    destinations: tuple[DestinationHealth, ...]
    quotas: tuple[QuotaHealth, ...] = ()


class Reloaded(Word, frozen=True, kw_only=True):
    """What came of reading the configuration anew."""

    faults: tuple[str, ...] = ()  # for which the old one stays
    later: tuple[str, ...] = ()  # settings that changed and act from the next start on
    notes: tuple[str, ...] = ()  # allowed, and easily a mistake


class Surroundings(Word, frozen=True, kw_only=True):
    """What the API is told by the front that it runs in."""

    #: None: no credential, or not one of ours. Raises UndecidedError where that cannot be said for now.
    authenticate: Callable[[web.Request], Awaitable[Credential | None]]
    #: Who signed the body, and the body, of at most so many bytes, which the last argument reads; no other credential
    #: counts. Raises UndecidedError where too many are being read.
    authenticate_whole: Callable[
        [web.Request, Scheme, int, Callable[[web.Request, int], Awaitable[bytes]]],
        Awaitable[tuple[Credential, bytes] | None],
    ]
    put: Callable[[str, str, RowKind, bytes], Awaitable[int]]  # into the inbox; returns the row's id
    check: Callable[
        [bytes], object
    ]  # raises PayloadError if no alert of a body can be used; may take seconds
    newest_row: Callable[[], int]  # of the inbox, from memory
    ready: Callable[[], Awaitable[str]]  # "" when intake can commit, else why not
    audit: Audit
    operator: Callable[[], str]  # the tenant of those who run this sidecar: the configuration is theirs
    reload: Callable[[], Awaitable[Reloaded]]
    health: Callable[[str], Health]  # as a tenant may see it
    metrics: Callable[[], bytes]  # in Prometheus' text format
    #: Erasures of a tenant that are not done in the front's own stores.
    erasing: Callable[[str], Collection[str]] = lambda _tenant: ()
