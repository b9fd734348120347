"""Which rows of `state.db`'s history say what is in force: the analyst keeps them, and an export begins with them."""

from __future__ import annotations

#: The newest settings, and of each tenant, and of all together, the newest mode and topology. `before` narrows the
#: history that is looked at.
IN_FORCE = (
    "select max(seq) from history where kind in ('settings', 'mode', 'topology') {before}"
    " group by kind, case when kind <> 'settings' then tenant end"
)
