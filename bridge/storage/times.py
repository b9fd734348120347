"""Times as the stores hold them: whole microseconds since the epoch.

Decision: an epoch of its own beside that of the pipeline, which brings numpy along: the front reads stores, too.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Return a moment, with its zone, as microseconds since the epoch, exactly; negative before it."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(since_epoch_us: int) -> datetime:
    """Return the moment, in UTC, of so many microseconds since the epoch.

    Raises:
        OverflowError: It is not in the years 1 to 9999.
    """
    return _EPOCH + timedelta(microseconds=since_epoch_us)
