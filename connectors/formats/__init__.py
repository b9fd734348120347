"""Forms of an event that several kinds speak, one module each: what others defined, as they defined it.

Rule: pure; a format knows the words, `common` and `wording`, and no kind. A format says which version of its standard
it follows and where that is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from bridge.model import Event
from connectors.common import fit
from connectors.formats.ocsf import detection_finding, incident_finding

#: What `format` of a destination that carries whole events can be.
Format = Literal["event", "ocsf-incident", "ocsf-detection"]
#: What each of them is called in a setting's description.
FORMAT = (
    "What an event is written as: `event` (tocsin.event/1), `ocsf-incident`, `ocsf-detection` (OCSF 1.8.0)."
)
#: Writes an event as JSON of at most so many bytes, shortened as little as it takes.
Encoder = Callable[[Event, int], bytes]


def encoder_of(form: Format) -> Encoder:
    """Return what writes events in a format: one JSON object each, without a line end."""
    return _ENCODERS[form]


_ENCODERS: dict[Format, Encoder] = {
    "event": fit,
    "ocsf-incident": incident_finding,
    "ocsf-detection": detection_finding,
}
