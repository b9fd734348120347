"""Reviews: whose detectors are reviewed, when, and what becomes of the answer.

Rules: a review is asked for at a tick, with the histories as they stand at that tick, and acts from the row on that
brings it (`analysis.reviewing`). It comes once a night for each series of the busiest `MAX_BUSY` of all tenants: a
portion every `SLOT_S` from midnight UTC on for `NIGHT_S`, those first whose last review was asked for longest ago, and
no portion while the one before is being reviewed. So a night is bounded: 72 portions of 32 series for each tenant, an
hour of one processor for 2,000 series, in a niced process.

Decision: the night is that of UTC, as all hours here are: nobody says where people sleep, and nothing waits for it.

Decision: an answer that comes when its series has had `LATE` values more is passed over. What came since has to be
learned by a new champion on the path of alerts, and there is a next night.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.analysis import reviewing
from bridge.analysis.champions import with_words_of
from bridge.analysis.detectors.fitted import ask_of
from bridge.analysis.reviewing import Review, ReviewAsk, SeriesAsk
from bridge.model import Fault, InboxRow
from bridge.pipeline.desk import Desk
from bridge.pipeline.histories import Sample
from bridge.pipeline.series import Series
from bridge.pipeline.state import Tenant, tick_at

#: Series of all tenants together whose history is long and whose detectors are reviewed: 52 KiB each.
MAX_BUSY = 2_000
PORTION, SLOT_S, NIGHT_S = 32, 300.0, 6 * 3600.0
#: A series is reviewed again after so long; less than a day, since the portion it is in may come earlier.
AGAIN_S = 18 * 3600.0
#: Values that a review needs.
LEAST = 200
#: After so long nobody waits for an answer any more.
PATIENCE_S = 3 * 3600.0
LATE = 512
_DAY_S = 86_400.0


class Reviews:
    """Asks for reviews, and takes them in."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._series = Series(desk)

    # ---- whose ----------------------------------------------------------------------------------------------

    def choose(self) -> None:
        """Let the busiest series be those that are reviewed: of those that live, those whose values come most often.

        Tenants take turns: one with many series leaves the others as many places as it has itself.
        """
        desk, since = self._desk, self._desk.now - timedelta(days=1)
        ranked = []
        for tenant in desk.tenants():
            own = sorted(
                (known.heard_at < since, known.step_s, name) for name, known in tenant.measured.items()
            )
            ranked += [
                (asleep, turn, step_s, tenant.name, name) for turn, (asleep, step_s, name) in enumerate(own)
            ]
        for place, (*_, owner, name) in enumerate(sorted(ranked)):
            tenant, is_busy = desk.tenant(owner), place < MAX_BUSY
            if tenant.measured[name].is_busy is not is_busy:
                self._series.make_busy(tenant, name, is_busy=is_busy)

    # ---- when -----------------------------------------------------------------------------------------------

    def plan(self, tenant: Tenant) -> None:
        """Arm the next look at whose detectors are to be reviewed."""
        if tenant.record.review_at is None and tenant.measured:
            self._look_again(tenant, self._midnight())

    def rearm(self, tenant: Tenant) -> None:
        """Arm the look that is due."""
        if tenant.record.review_at is not None:
            self._desk.arm(tenant, "review", (), tenant.record.review_at)

    def _look_again(self, tenant: Tenant, at: datetime) -> None:
        self._desk.keep_record(tenant, replace(tenant.record, review_at=at))
        self.rearm(tenant)

    def _midnight(self) -> datetime:
        now = self._desk.now
        return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)

    def review(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Ask for reviews as things stand at this tick."""
        del key
        desk, record = self._desk, tenant.record
        if record.review_at is None:
            return
        if desk.now < record.review_at:
            self.rearm(tenant)
            return
        due = self._due(tenant)
        is_night = desk.now.timestamp() % _DAY_S < NIGHT_S - SLOT_S
        again = desk.now + timedelta(seconds=SLOT_S) if due and is_night else self._midnight()
        self._look_again(tenant, again)
        if due and not self._is_waiting(tenant):
            self._ask(tenant, due[:PORTION])

    def _due(self, tenant: Tenant) -> list[str]:
        """Return the series whose turn it is, those first that wait longest."""
        if self._desk.free:
            return []
        before = self._desk.now - timedelta(seconds=AGAIN_S)
        found = [
            (known.reviewed_at is not None, known.reviewed_at or known.since, name)
            for name, known in tenant.measured.items()
            if known.is_busy and known.is_settled and known.values >= LEAST
            and (known.reviewed_at is None or known.reviewed_at <= before)
        ]  # fmt: skip
        return [name for _, _, name in sorted(found)]

    def _is_waiting(self, tenant: Tenant) -> bool:
        record = tenant.record
        if record.review_since is None or record.review_done >= record.review_asked:
            return False
        return (self._desk.now - record.review_since).total_seconds() < PATIENCE_S

    def _ask(self, tenant: Tenant, names: list[str]) -> None:
        now, record = self._desk.now, tenant.record
        for name in names:
            self._series.keep(tenant, name, replace(tenant.measured[name], reviewed_at=now))
        self._desk.keep_record(tenant, replace(
            record, review_asked=record.review_asked + 1, review_since=now, reviewing=tuple(names),
        ))  # fmt: skip
        self._desk.out.asks.append(review_ask(tenant))

    # ---- what comes of it -----------------------------------------------------------------------------------

    def take(self, row: InboxRow) -> None:
        """Let detectors speak as a row says, from here on; one that was obeyed before changes nothing."""
        tenant = self._desk.tenant(row.tenant)
        try:
            told = reviewing.read(row.body)
        except ValueError as error:
            self._desk.quarantine(row, "body", Fault(reason=str(error), body=row.body))
            return
        record = tenant.record
        if told.fit <= record.review_done:
            self._desk.out.void.add(row.id)  # it changes nothing, and may name what was erased
            return
        self._desk.keep_record(tenant, replace(record, review_done=told.fit))
        anew: list[tuple[str, str, list[Sample]]] = []
        taken = []
        for review in told.reviews:
            if self._is_of(tenant, review):
                taken.append(review.series)
                anew += self._put(tenant, review)
        tenant.banks.learn_again(anew)
        for name in taken:
            self._series.whole(tenant, name, tenant.measured[name])

    def _is_of(self, tenant: Tenant, review: Review) -> bool:
        """Say whether a review is of a series that is here, and new enough."""
        known = tenant.measured.get(review.series)
        if known is None or review.series not in tenant.histories or known.since.timestamp() > review.tick:
            return False
        return review.lived <= known.values <= review.lived + LATE and (
            bool(review.row) or review.standing.model == known.standing.model
        )

    def _put(self, tenant: Tenant, review: Review) -> list[tuple[str, str, list[Sample]]]:
        """Put what a review says in force; return what a new champion has to learn still."""
        name, model = review.series, review.standing.model
        known = tenant.measured[name]
        standing = with_words_of(review.standing, known.standing)
        tenant.measured[name] = replace(known, standing=standing)
        if not review.row:
            if review.fit:
                tenant.banks.take(name, model, review.fit)
            return []
        tenant.banks.put(name, model, review.row)
        since = known.values - review.lived
        times_s, values, marks = (
            part[len(part) - since :].tolist() for part in tenant.histories[name].read()
        )
        return [(name, model, list(zip(times_s, values, marks, strict=True)))]


def review_ask(tenant: Tenant) -> ReviewAsk:
    """Return what a review of the series must know that are being reviewed."""
    tick = tick_at(tenant.record.review_since) if tenant.record.review_since is not None else 0
    series = []
    for name in tenant.record.reviewing:
        known, past = tenant.measured.get(name), tenant.histories.get(name)
        if known is None or past is None:
            continue
        times_s, values, marks = past.read()
        snapshot = ask_of(tenant.name, name, tick, (times_s, values), marks)
        series.append(SeriesAsk(snapshot=snapshot, standing=known.standing, lived=known.values))
    return ReviewAsk(tenant=tenant.name, fit=tenant.record.review_asked, series=tuple(series))
