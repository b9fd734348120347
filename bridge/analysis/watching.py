"""What is watched: series of samples, each known by its query and its labels.

Rules: a series takes in what is newer than all it has; what is late, comes twice or is no number changes nothing and is
counted. Of too many series those stay that were measured last.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from bridge.model import Word

#: Series of one tenant's queries together.
MAX_MEASURED = 2_000
#: The longest name of a series; labels that make a longer one are refused.
LONGEST_NAME = 1_024


class Measured(Word, frozen=True, kw_only=True):
    """One series of samples."""

    query: str  # by its name
    labels: dict[str, str]
    step_s: float
    since: datetime  # when it was first heard of
    heard_at: datetime  # when it was last
    newest_s: float  # of its samples
    values: int = 0  # taken in so far
    newest: float | None = None  # value


def name_of(query: str, labels: Mapping[str, str]) -> str:
    """Return the name of a series as Prometheus writes it: `query{label="value"}`."""
    told = ",".join(f"{name}={msgspec.json.encode(value).decode()}" for name, value in sorted(labels.items()))
    return f"{query}{{{told}}}" if told else query
