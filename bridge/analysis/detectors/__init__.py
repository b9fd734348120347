"""Detectors: how strange is a value of a series, given what the series was before.

The contract, which `tests/analysis/detectors` holds every detector to (`Bank` is its shape, `slots` its memory):

* A detector is a *bank*: the state of many series in arrays, because the live path asks about thousands of series at
  a tick, one value each, and a loop in Python over objects costs fifty times as much. A series is a slot, an integer
  below `len(bank)`; who owns the slot is the caller's business. Each series stands at most once in a call.
* `score_many(series, times_s, values)` says how strange each value is and changes nothing. A score is the surprise of
  a tail probability p, `surprise.score_of(p)`: 0 is usual, 1 is p <= 1e-12, the same for all detectors, so
  that a wished number of false alarms a week is one threshold for all (`surprise.threshold_for`). NaN while the
  detector warms up on the series, and for a value that is no finite number.
* `learn_many(series, times_s, values, scores)` takes them in, with the scores that `score_many` gave. What was flagged
  (`surprise.is_flagged`) teaches at most as much as the strangest usual value; how a lasting change is accepted after
  a bounded time is said by each. Values that are no number teach nothing.
* Row i of a series depends on its rows up to i and on nothing else: neither on other series nor on how calls are cut.
* Times are epoch seconds. They may stand still or go back (then as much time as before has passed: none), have gaps
  and come in any rhythm. Values may be anything a float is.
* `state()` and `from_state()` bring a bank back equal, byte for byte; `row` and `put` one series of it. Banks pickle.
* Memory is bounded per series: `bytes_per_series()`. `grow` makes room, `drop` makes slots new for another series.

Each detector is a file of its own that says the paper, the cost and the assumptions. Where several views of one series
are combined inside of a detector it is by the smallest tail probability, corrected for their number (Bonferroni), never
by a mean of scores.
"""

from __future__ import annotations

from bridge.analysis.detectors.bank import Bank
from bridge.analysis.detectors.slots import Column, Slots

__all__ = ["Bank", "Column", "Slots"]
