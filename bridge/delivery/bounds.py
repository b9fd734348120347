"""How much may wait for a destination, so that a backlog never fills the disk that the intake writes to.

Rule: what waits for all destinations together takes at most a quarter of the room there is (what is free and what
it takes already), shared equally, and no destination has more than a fixed number of events. Beyond that the
oldest are given up, of the tenants that have most waiting there: they become dead letters, counted and told of. Where
only the newest state of an incident goes, older states go first, which loses nothing.

Decision: a count of events instead of a measured size. A row that is deleted gives its page back to the file, not
to the disk, so a size would not fall by what is given up; what waits takes some 400 bytes a row, and 1 KiB is
counted for reasons, journals and dead letters. The events themselves lie in the state until `retention.incidents`,
waiting or not.
"""

from __future__ import annotations

from collections.abc import Mapping

ROW_BYTES = 1024
SHARE = 0.25  # of the room, for all destinations together


def may_wait(free_bytes: int, waiting: int, destinations: int, most: int) -> int:
    """Return how many events may wait for one destination.

    Args:
        free_bytes: Of the disk that the stores are on.
        waiting: How many events wait for all destinations; what they take counts as room.
        destinations: How many there are.
        most: More than this never.
    """
    room_bytes = free_bytes + waiting * ROW_BYTES
    return min(most, int(room_bytes * SHARE) // ROW_BYTES // max(1, destinations))


def shed_of(waiting: Mapping[str, int], count: int) -> dict[str, int]:
    """Return how many events of each tenant are given up to make room for `count`: those who have most come to a level.

    Args:
        waiting: Events by tenant.
        count: How many are given up together; fewer if fewer wait.
    """
    ordered = sorted(waiting.items(), key=lambda item: (-item[1], item[0]))
    shares: list[tuple[str, int]] = []
    total = 0
    for place, (name, number) in enumerate(ordered, 1):
        shares.append((name, number))
        total += number
        following = ordered[place][1] if place < len(ordered) else 0
        if total - place * following >= count:
            break
    if not shares:
        return {}
    level, rest = divmod(max(0, total - count), len(shares))
    shed = {name: number - level - (place < rest) for place, (name, number) in enumerate(shares)}
    return {name: number for name, number in shed.items() if number > 0}
