"""What the analyst's loop thinks with: the pipeline and its store, and the models, which may join later.

Rules: the mode is told by rows of the analyst's own. A start is without models until they have said that they work,
and so is the time after they died; whoever reads the history sees where each began. A state that is begun anew, while
the inbox has more behind it, begins with the settings and topologies that were told last, or the alerts of that time
would be thought under none.
"""

from __future__ import annotations

import logging
import resource
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from bridge import pipeline
from bridge.analysis.families import EncodeAsk, FitAsk
from bridge.analysis.gate import LinkAsk
from bridge.analysis.quotas import Quotas, figures
from bridge.analysis.reviewing import ReviewAsk
from bridge.analysis.settings import WAYS, AnalysisSettings
from bridge.analysis.verdicts import in_force
from bridge.app.models import GaveUp, ModelRow, ModelsProcess
from bridge.errors import DamagedError, MisplacedError, StorageError
from bridge.model import OWN_SOURCE, InboxRow, IncidentState, RowKind
from bridge.pipeline.state import EPOCH
from bridge.redaction import NO_KEY
from bridge.storage.state import StateStore

logger = logging.getLogger(__name__)

#: What is due later can wait for the row with which an idle front tells the time once a minute.
SOON_S = 65.0
#: How long an erase rests that could not go on: the disk is full, or somebody reads for long.
ERASE_AGAIN_S = 10.0


class Mind:
    """The real pipeline and its store, as `bridge.analyst.Thinking`."""

    def __init__(
        self,
        store: StateStore,
        models: LateModels,
        newest_settings: Callable[[], bytes | None],
        newest_topologies: Callable[[], Sequence[InboxRow]] = tuple,
        key: bytes = NO_KEY,
    ) -> None:
        """Prepare.

        Args:
            store: Where the state lives.
            models: Which may join later.
            newest_settings: The settings that the inbox holds last; asked only by a state that is begun anew.
            newest_topologies: The same for topologies: the newest of each tenant and of all together.
            key: With which hashes are made in place of what is to be taken out.
        """
        self._store = store
        self._models = models
        self._newest_settings = newest_settings
        self._newest_topologies = newest_topologies
        self._erase_at = 0.0
        self._redacting = pipeline.Redacting(key)
        self._settings = AnalysisSettings()  # as last seen in force
        self._first: list[InboxRow] = []  # what a state begun anew begins with besides the settings

    def advance(
        self,
        state: pipeline.State,
        rows: Sequence[InboxRow],
        *,
        behind: Collection[str] | None = None,
        progress: Callable[[], None],
    ) -> pipeline.Outcome:
        """Think."""
        self._settings = state.common.settings
        outcome = pipeline.advance(state, rows, behind=behind, progress=progress, redacting=self._redacting)
        self._models.wanted = state.common.settings.models
        return outcome

    def outstanding(self, state: pipeline.State) -> list[pipeline.Ask]:
        """Return what the models still owe."""
        self._models.wanted = state.common.settings.models
        return pipeline.outstanding(state)

    def gauges(self, state: pipeline.State) -> dict[str, float]:
        """Count. Costs 5 ms with 20,000 open incidents."""
        tenants = list(state.tenants.values())
        groups = [group for tenant in tenants for group in tenant.groups.values()]
        beats = [beat for tenant in tenants for beat in tenant.beats.values()]
        return {
            "due": float(_is_due(state)),
            "behind": sum(tenant.record.behind_at is not None for tenant in tenants),
            "incidents_open": sum(group.head.state is IncidentState.OPEN for group in groups),
            "disputed": float(
                any(watch.disputed_at for tenant in tenants for watch in tenant.watches.values())
            ),
            "heartbeat_missing": sum(beat.missing for beat in beats),
            "degraded": float(state.common.model_free or not state.common.settings.models),
            "resident_bytes": resident_bytes(),
            "models_up": float(self._models.up),
            "watched:samples": sum(len(tenant.measured) for tenant in tenants),
            "watched:counts": sum(len(tenant.counted) for tenant in tenants),
            **_grouping(state),
            **_quotas(state),
        }

    def own_row(
        self, state: pipeline.State, following: InboxRow | None, *, models_up: bool
    ) -> InboxRow | None:
        """Return the row of our own that has to be thought before `following`."""
        self._settings = state.common.settings
        is_new = state.common.clock == EPOCH
        if is_new and following is None:
            return None
        at = following.received_at if is_new and following is not None else state.common.clock
        if is_new and following is not None and following.kind is not RowKind.SETTINGS:
            settings = self._newest_settings()
            self._first = [
                _own(at, RowKind.TOPOLOGY, row.body, tenant=row.tenant) for row in self._newest_topologies()
            ]
            if settings is not None:
                return _own(at, RowKind.SETTINGS, settings)
        if self._first:
            return self._first.pop(0)
        return mode_row(state, at, free=not models_up)

    def unread(self, row: InboxRow) -> InboxRow:
        """Return a row as it may be kept that could not be understood; it is not parsed again."""
        return self._redacting.unread(row, self._settings)

    def tellable(self, text: str, tenant: str) -> str:
        """Return what is said of a tenant's row without what may not be told of it."""
        return self._redacting.of(self._settings, tenant).raw(text)

    def prune(self, state: pipeline.State, now: datetime) -> bool:
        """Delete what is too old; return whether there may be more."""
        return self._store.prune(now, state.common).more

    def erase(self, state: pipeline.State, *, progress: Callable[[], None]) -> bool:
        """Go on with what people asked to be erased; return whether to come back at once.

        What does not work now is tried again later: thinking never waits for it.
        """
        if time.monotonic() < self._erase_at:
            return False
        try:
            more = self._store.erase_some(
                lambda tenant, incident: tenant in state.tenants and incident in state.tenants[tenant].groups,
                progress,
            )
        except (DamagedError, MisplacedError):
            raise
        except StorageError as error:
            more = False
            logger.warning(
                "An erasure is not done yet, since a store does not work now: %s.", error,
                extra={"event": "erase_waits"},
            )  # fmt: skip
        if not more:
            self._erase_at = time.monotonic() + ERASE_AGAIN_S if self._store.erases else 0.0
        return more


class LateModels:
    """The models' process, which joins some time after the work has begun.

    Before that asks are forgotten: what is wanted then is asked anew when it joins. Templates that the models
    gave up on are not asked about again by this analyst, nor is a fit; the next fit, which has more templates, is.
    """

    def __init__(
        self, make: Callable[[], ModelsProcess], say: Callable[[Mapping[str, Any]], None], join_at_s: float
    ) -> None:
        self._make = make
        self._say = say
        self._join_at_s = join_at_s
        self._process: ModelsProcess | None = None
        self._given_up: set[str] = set()  # ids of templates
        self._given_up_fits: dict[str, int] = {}  # the newest of each tenant
        self._given_up_links: dict[str, int] = {}
        self._given_up_reviews: dict[str, int] = {}
        self._up = False
        self.wanted = False

    @property
    def up(self) -> bool:
        """Whether the models answer."""
        return self._process is not None and self._process.ready

    @property
    def idle(self) -> bool:
        """Whether they have joined and owe nothing that they know of."""
        return self._process is not None and self._process.waiting == 0

    def joins(self, now_s: float) -> bool:
        """Let the process join if its time has come; return whether it did so just now. End one that nobody wants."""
        if not self.wanted:
            self.close()
            return False
        if self._process is not None or now_s < self._join_at_s:
            return False
        self._process = self._make()
        return True

    def ask(self, ask: pipeline.Ask) -> None:
        """Hand work over. Too much at once is forgotten, and asked again later."""
        if self._process is None:
            return
        match ask:
            case EncodeAsk():
                wanted = [template for template in ask.templates if template.id not in self._given_up]
                self._process.submit_encode(ask.tenant, wanted)
            case FitAsk() if ask.fit == self._given_up_fits.get(ask.tenant):
                pass
            case FitAsk():
                self._process.submit_fit(ask)
            case LinkAsk() if ask.fit == self._given_up_links.get(ask.tenant):
                pass
            case LinkAsk():
                self._process.submit_link(ask)
            case ReviewAsk() if ask.fit == self._given_up_reviews.get(ask.tenant):
                pass
            case ReviewAsk():
                self._process.submit_review(ask)

    def answers(self) -> Iterator[ModelRow]:
        """Return what is finished; say when the models come up, die, or cannot be loaded."""
        for result in self._process.poll() if self._process is not None else ():
            if isinstance(result, ModelRow):
                yield result
            else:
                self._gave_up(result)
        if self.up is not self._up:
            self._up = self.up
            self._say({"say": "models", "up": self._up})

    def close(self) -> None:
        """End the process, and forget what it was asked."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _gave_up(self, result: GaveUp) -> None:
        self._given_up.update(result.templates)
        if result.fit is not None:
            others = {"link": self._given_up_links, "review": self._given_up_reviews}
            others.get(result.asked, self._given_up_fits)[result.tenant] = result.fit
        logger.warning(
            "The models gave something up: %s.",
            result.reason,
            extra={"event": "models_lost", "asked": result.asked, "templates": len(result.templates)},
        )
        if result.asked == "load":
            self._say({"say": "models", "up": False})


def _is_due(state: pipeline.State) -> bool:
    """Return whether time must be told more often than an idle front does it anyway.

    A forecast is always due at the next hour: until shortly before that nobody has to be woken for it.
    """
    tick = state.next_tick()
    return tick is not None and tick - state.common.clock.timestamp() <= SOON_S


def _grouping(state: pipeline.State) -> dict[str, float]:
    """Return how many tenants are grouped in which way, how each did in the exams, and how old the oldest is."""
    tenants = list(state.tenants.values())
    fits = [tenant.link_fit for tenant in tenants if tenant.link_fit is not None]
    ways = Counter(
        in_force(state.common.settings.grouping, tenant.link_fit.verdict if tenant.link_fit else None)
        for tenant in tenants
    )
    since = [tenant.record.link_since for tenant in tenants if tenant.record.link_since is not None]
    exams = [each for fit in fits for each in fit.verdict.evidence]
    scores = {way: [each.f1 for each in exams if each.way == way] for way in WAYS}
    return {
        "verdict_age_s": max(((state.common.clock - each).total_seconds() for each in since), default=0.0),
        **{f"grouping:{way}": float(ways[way]) for way in WAYS},
        **{f"exam_f1:{way}": fmean(f1) for way, f1 in scores.items() if f1},
    }


def _quotas(state: pipeline.State) -> dict[str, float]:
    """Return how much of its quotas each tenant uses, 1 for all of one, and which it exceeds."""
    given = {quotas.tenant: quotas for quotas in state.common.settings.quotas}
    told: dict[str, float] = {}
    for name, tenant in state.tenants.items():
        usage = tenant.record.usage
        for quota, used in figures(usage, tenant.held(), given.get(name, Quotas())).items():
            told[f"quota:{quota}:{name}"] = used
            if quota in usage.over:
                told[f"over:{quota}:{name}"] = 1.0
    return told


def mode_row(state: pipeline.State, at: datetime, *, free: bool) -> InboxRow | None:
    """Return the row by which thinking goes on with models or without: first one for each tenant that is behind.

    Each mode begins at a tenant's own present, so that a replay, which has all rows in their order, finds it there.
    """
    behind = {
        name: tenant.record.behind_at
        for name, tenant in sorted(state.tenants.items())
        if tenant.record.behind_at is not None
    }
    for name, its_at in behind.items():
        own = state.tenants[name].record.model_free
        if (state.common.model_free if own is None else own) != free:
            told = {"model_free": free, "alone": True}
            return _own(its_at, RowKind.MODE, msgspec.json.encode(told), tenant=name)
    if state.common.model_free == free:
        return None
    others = {"model_free": free, "except": list(behind)} if behind else {"model_free": free}
    return _own(at, RowKind.MODE, msgspec.json.encode(others))


def _own(at: datetime, kind: RowKind, body: bytes, *, tenant: str = "") -> InboxRow:
    return InboxRow(id=0, received_at=at, tenant=tenant, source=OWN_SOURCE, kind=kind, body=body)


def resident_bytes() -> int:
    """Return the memory of this process, as far as the platform tells."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return 0
