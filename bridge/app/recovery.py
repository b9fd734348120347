"""What the front does about its analyst: when it is overdue, how it starts anew, which row is to blame.

Rules: pure. Time is `now`, seconds of a monotonic clock; durable counts come in as arguments; what shall
happen comes out as values. `bridge.app.supervision` carries it out.

Theory of operation. A batch that the analyst began and did not commit is under suspicion when the analyst
dies. The next analyst starts model-free, since models are the likeliest cause, and takes the suspected rows
one at a time, each in its own commit. So a second death names a single row, and a row that was alone in
enough deaths is set aside with its bytes. What came behind it is understood within a minute of the first
death (promise 3): 15 s of silence, then 5 s for each death of a single row, and the starts in between.

What a batch may take grows with it: a webhook of 60,000 alerts is legal, and its longest step is silent for seconds.
While an outcome is being saved only the disk can be silent; an analyst that is killed then does not blame its rows.

A row can take the front along (the pod has no memory left, and everything in it is killed): nobody is there to count.
So a front whose predecessor ended uncleanly is careful with the rows that were being worked on, and counts each as a
death beforehand, until it is committed.

Decision: one row at a time at once, rather than halving again and again. 256 commits cost half a second;
eight halvings of a batch that hangs cost eight times the silence. An analyst that somebody else killed (the
kernel for memory, an operator) says less about the row, so it takes more deaths to blame it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from bridge.model import Word


class End(StrEnum):
    """How an analyst ended that nobody asked to."""

    SILENT = "silent"  # it said nothing for too long, so the front killed it
    STALLED = "stalled"  # the same while it saved what it had thought: the disk's fault
    CRASHED = "crashed"  # it ended by itself: an exit code, or a signal of its own making
    KILLED = "killed"  # SIGKILL from elsewhere: an operator, or the kernel for want of memory


#: Deaths with this row alone in its batch, after which the row is set aside.
BLAME_AFTER: dict[End, int] = {End.SILENT: 2, End.CRASHED: 2, End.KILLED: 3}
#: After an unclean end so many rows behind the cursor may have been to blame: one batch of the analyst.
SUSPECTED_ROWS = 256
#: So many restarts are immediate: an analyst that stands still must not cost a critical alert more time.
QUICK_RESTARTS = 4


class Patience(Word, frozen=True, kw_only=True):
    """How long the front waits for what."""

    silence_s: float = 15.0
    row_silence_s: float = 5.0  # while rows go one at a time: a healthy row takes milliseconds
    alert_s: float = 0.0002  # more for each alert of the batch: 2.4 s of silence were measured with 60,000
    mib_s: float = 0.25  # more for each MiB of the batch
    save_s: float = 60.0  # while an outcome is saved: a disk that hangs is not helped by a new analyst
    start_s: float = 45.0  # loading the state says nothing; doubled after every start that failed
    start_limit_s: float = 720.0
    models_after_s: float = 20.0  # after a model-free start; doubled with each further death
    models_limit_s: float = 3600.0
    restart_limit_s: float = 10.0
    stall_s: float = 3.0  # the front itself did not run for so long: the analyst is not to blame


class Launch(Word, frozen=True, kw_only=True):
    """How the analyst is to be started."""

    model_free: bool = False  # for a while: models join after `models_after_s`, at once otherwise
    models_after_s: float = 0.0
    careful_through: int = 0  # rows up to this id go one at a time
    delay_s: float = 0.0
    set_aside: int | None = None  # this row is to blame: never again


class Recovery:
    """The memory of one front about its analyst. `silence` and `died` never look at anything else."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self.ready = False
        self.batch: tuple[int, int] | None = None  # begun, not committed
        self.deaths_in_a_row = 0  # without a commit in between
        self._deaths = 0  # since the models last worked for an hour
        self._failed_starts = 0
        self._careful_through = 0
        self._heard_at = 0.0
        self._looked_at = 0.0
        self._died_at = 0.0
        self._size_s = 0.0  # how much longer this batch may be silent for its size
        self._failed_launches = 0
        self.saving = False  # the batch was thought and is being saved
        self.counts_ahead = False  # each row counts as a death until it is committed

    @property
    def careful(self) -> bool:
        """Whether rows go one at a time."""
        return self._careful_through > 0

    def first(self) -> Launch:
        """Return how the first analyst of this front starts."""
        return Launch(careful_through=self._careful_through)

    def distrust(self, cursor: int, newest: int) -> None:
        """Note that the front before this one ended uncleanly: a row behind `cursor` may have taken it along."""
        self._careful_through = min(newest, cursor + SUSPECTED_ROWS)
        self.counts_ahead = self._careful_through > cursor

    def launched(self, now: float) -> None:
        """Note that a process was started."""
        self.ready = self.saving = False
        self.batch = None
        self._failed_launches = 0
        self._heard_at = self._looked_at = now

    def not_launched(self, launch: Launch) -> Launch:
        """Return how to try again what could not be started: no file, no memory or no process was left."""
        self._failed_launches += 1
        self.deaths_in_a_row += 1
        delay_s = _doubled(0.5, self._failed_launches, self.patience.restart_limit_s)
        return msgspec.structs.replace(launch, delay_s=delay_s)

    def heard(self, now: float) -> None:
        """Note any sign of life."""
        self._heard_at = now

    def became_ready(self) -> None:
        """Note that the state is loaded."""
        self.ready = True
        self._failed_starts = 0

    def began(self, low: int, high: int, size_bytes: int = 0, alerts: int = 0) -> None:
        """Note that the rows `low` to `high` are being worked on, so much together."""
        self.batch = (low, high)
        self.saving = False
        self._size_s = alerts * self.patience.alert_s + size_bytes / (1 << 20) * self.patience.mib_s

    def saves(self) -> None:
        """Note that the batch was thought and is being saved."""
        self.saving = True

    def committed(self, cursor: int) -> None:
        """Note that everything up to `cursor` is safe."""
        self.batch = None
        self.saving = False
        self.deaths_in_a_row = 0
        if cursor >= self._careful_through:
            self._careful_through = 0
            self.counts_ahead = False

    def silence(self, now: float) -> float | None:
        """Return for how long the analyst was silent if that is too long, else None.

        Time in which the front itself stood still (a stopped process, a suspended machine) does not count:
        what the analyst said meanwhile lies unread in the pipe.
        """
        stalled = now - self._looked_at > self.patience.stall_s
        self._looked_at = now
        if stalled:
            self._heard_at = now
        silent_s = now - self._heard_at
        return silent_s if silent_s > self._limit_s() else None

    def died(self, now: float, end: End, deaths: int) -> Launch:
        """Return how to start anew after an end that nobody asked for.

        Args:
            now: Seconds.
            end: What ended it.
            deaths: How many died with exactly `self.batch`, this one included; 0 without a batch.
        """
        if now - self._died_at > self.patience.models_limit_s:
            self._deaths = 0
        self._died_at = now
        self._deaths += 1
        self.deaths_in_a_row += 1
        if not self.ready:
            self._failed_starts += 1
        blamed = self._blamed(end, deaths)
        if self.batch is not None:
            self._careful_through = max(self._careful_through, self.batch[1])
        self.ready = self.saving = False
        return Launch(
            model_free=True,
            models_after_s=_doubled(
                self.patience.models_after_s, self._deaths - 1, self.patience.models_limit_s
            ),
            careful_through=self._careful_through,
            delay_s=self._delay_s(),
            set_aside=blamed,
        )

    def _limit_s(self) -> float:
        if not self.ready:
            return _doubled(self.patience.start_s, self._failed_starts, self.patience.start_limit_s)
        if self.saving:
            return self.patience.save_s + self._size_s
        alone = self.batch is not None and self.batch[0] == self.batch[1]
        if alone and self._careful_through:
            return self.patience.row_silence_s + self._size_s
        return self.patience.silence_s + (self._size_s if self.batch else 0.0)

    def _blamed(self, end: End, deaths: int) -> int | None:
        if self.batch is None or self.batch[0] != self.batch[1] or end is End.STALLED:
            return None
        return self.batch[0] if deaths >= BLAME_AFTER[end] else None

    def _delay_s(self) -> float:
        further = self.deaths_in_a_row - QUICK_RESTARTS
        return 0.0 if further <= 0 else _doubled(0.5, further - 1, self.patience.restart_limit_s)


def clock_row_due(idle_s: float, *, timers: bool) -> bool:
    """Return whether an idle front has to tell the time by a row.

    Args:
        idle_s: Seconds since the newest row of any kind.
        timers: Whether anything waits for time to pass: an open incident, a heartbeat, a held notification.
    """
    return idle_s >= (5.0 if timers else 60.0)


def _doubled(first_s: float, times: int, limit_s: float) -> float:
    return float(min(first_s * 2 ** min(times, 20), limit_s))
