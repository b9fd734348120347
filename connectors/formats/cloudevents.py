"""Format `cloudevents`: CloudEvents 1.0, structured as one JSON object, or as attributes beside the data.

`id` is the event id and `source` the tenant: both together are the same in every repeat, which is what CloudEvents asks
of producers. `subject` and `correlationid` are the incident, `sequence` the event's number in it, padded with zeros so
that it sorts as text; `severitytext` and `severitynumber` are those of OpenTelemetry. `data` is `tocsin.event/1`.

Source: https://github.com/cloudevents/spec, version 1.0.2: spec.md, formats/json-format.md, extensions sequence,
severity and correlation.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from bridge.model import Event, Severity
from connectors.common import encode, fit, rfc3339

CONTENT_TYPE = "application/cloudevents+json"
#: OpenTelemetry's numbers; its mapping of syslog gives critical 18 (ERROR2).
SEVERITY_NUMBERS: dict[Severity, int] = {"critical": 18, "warning": 13, "info": 9}
SEQUENCE_DIGITS = 10


def attributes(event: Event) -> dict[str, str]:
    """Return the attributes of an event, except for the type of its data; all texts, the severity's number apart."""
    return {
        "specversion": "1.0",
        "id": event.event_id,
        "source": f"/tocsin/{quote(event.tenant, safe='')}",
        "type": f"tocsin.incident.{event.kind.value}",
        "subject": event.incident.id,
        "time": rfc3339(event.at),
        "correlationid": event.incident.id,
        "sequence": f"{event.seq:0{SEQUENCE_DIGITS}d}",
        "severitytext": event.incident.severity,
    }


def structured(event: Event, size_bytes: int) -> bytes:
    """Return the event in its envelope, JSON of at most `size_bytes`; see `common.fit` for what is cut."""
    envelope = attributes(event) | {
        "datacontenttype": "application/json",
        "severitynumber": SEVERITY_NUMBERS[event.incident.severity],
    }
    room = size_bytes - len(encode(envelope)) - len(b',"data":')
    return encode(envelope | {"data": msgspec.Raw(fit(event, room))})
