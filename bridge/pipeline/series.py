"""Series of samples: how what is known of one is kept and let go, and what people say of its alarms.

Rules: whatever changes of a series goes through here, so that its detector, its past and its row stay in step: what is
open of a past is what was learned since the detector was stored.
"""

from __future__ import annotations

from msgspec.structs import replace

from bridge.analysis.champions import heard
from bridge.analysis.incidents import Group
from bridge.analysis.watching import Measured, alarm_of, alert_key
from bridge.model import Opinion
from bridge.pipeline.desk import Desk
from bridge.pipeline.histories import History
from bridge.pipeline.state import Tenant


class Series:
    """Keeps series of samples."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def keep(self, tenant: Tenant, name: str, known: Measured) -> None:
        """Keep what is known of a series."""
        tenant.measured[name] = self._desk.out.measured[tenant.name, name] = known

    def whole(self, tenant: Tenant, name: str, known: Measured) -> None:
        """Keep what is known of a series, and store all that its detector knows and its past."""
        self._desk.out.bank_rows[tenant.name, name] = tenant.banks.row(name, known.standing.model)
        past = tenant.histories.get(name)
        if past is not None:
            for first, block in past.close(known.values).items():
                self._desk.out.histories[tenant.name, name, first] = block
            if not known.has_history:
                self._drop_history(tenant, name)
        self.keep(tenant, name, replace(known, learned=()))

    def drop(self, tenant: Tenant, name: str) -> None:
        """Forget a series."""
        del tenant.measured[name]
        tenant.banks.drop(name)
        self._drop_history(tenant, name)
        self._desk.out.measured[tenant.name, name] = None
        self._desk.out.bank_rows[tenant.name, name] = None

    def make_busy(self, tenant: Tenant, name: str, *, is_busy: bool) -> None:
        """Remember a long past of a series from here on, or none."""
        known = replace(tenant.measured[name], is_busy=is_busy)
        self.keep(tenant, name, known)
        if not known.has_history:
            self._drop_history(tenant, name)
        elif name not in tenant.histories:
            tenant.histories[name] = History(learned=known.learned)

    def _drop_history(self, tenant: Tenant, name: str) -> None:
        past = tenant.histories.pop(name, None)
        for first in past.blocks if past is not None else ():
            self._desk.out.histories[tenant.name, name, first] = None

    # ---- what people say ------------------------------------------------------------------------------------

    def hear(self, tenant: Tenant, group: Group, before: Opinion, after: Opinion) -> None:
        """Let what people think of an anomaly's incident now count for the series that opened it, in place of before.

        Only if the detector that speaks for it now is the one that spoke then.
        """
        if group.head.origin != "anomaly" or before == after:
            return
        alerts = {key[:2] for key in group.episodes}
        for name, known in tenant.measured.items():
            if alert_key(alarm_of(name)) in alerts:
                standing = known.standing
                if standing.since_tick > group.head.opened_at.timestamp():
                    return
                if before:
                    standing = heard(standing, useful=before == "useful", words=-1)
                if after:
                    standing = heard(standing, useful=after == "useful")
                self.keep(tenant, name, replace(known, standing=standing))
                return
