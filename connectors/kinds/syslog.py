"""Kind `syslog`: RFC 5424 messages over TCP, TLS or RELP; the message is JSON, CEF or LEEF.

Rules: one event is one line: a control character in a name or label never begins another line. There is no
byte-order mark, although RFC 5424 asks for one: rsyslog keeps it in the message, and then neither `^CEF:` nor
a JSON parser matches. A message never exceeds `max_message_bytes`; the list of alerts gives way first.

LEEF goes with the short header that QRadar expects (priority, version, milliseconds, host), and with `^`
between the attributes, because rsyslog turns the tab of LEEF 1.0 into `#011`.
In CEF and LEEF `cat` is what opened the incident (alerts, anomaly, heartbeat, tocsin), the event id in the header
is what happened to it, and an incident that is over is a notice of low severity, whatever it was before: a rule on
severity must not fire at its end.
Sources: RFC 5424 and 6587; "Common Event Format" v25; IBM, "LEEF event components".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from pydantic import AfterValidator
from typing_extensions import override

from bridge.model import Delivered, Event, Reject, Retry, Verdict
from bridge.ports import (
    Caps,
    Connector,
    Frames,
    FramesResponse,
    Memory,
    Rendered,
    Request,
    Response,
    Unreached,
)
from connectors.common import (
    clip,
    clip_escaped,
    first_that_fit,
    fit,
    judge_unreached,
    milliseconds,
    one_line,
    rfc3339,
    syslog_severity,
    ten_severity,
    utf8_size,
)
from connectors.credentials import CA_FILE, KIND, CaFile, DestinationSettings
from connectors.wording import alert_line, host, suspect

DOCUMENTATION_NUMBER = 32473  # RFC 5612: for those without a private enterprise number
MAX_PORT = 65535
CEF_MESSAGE, CEF_NAME, CEF_STRING = 1023, 512, 4000  # characters; a value beyond them is cut by the receiver
TEXT_SHARE = 4  # no single text takes more than this part of a message


def _check_address(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= MAX_PORT:
        raise ValueError("expected host:port")
    return address


class SyslogSettings(DestinationSettings):
    """Where the receiver is and what it reads."""

    kind: Literal["syslog"] = pydantic.Field(default="syslog", description=KIND)
    address: Annotated[str, AfterValidator(_check_address)] = pydantic.Field(
        description="Receiver as host:port."
    )
    transport: Literal["tcp", "tls", "relp", "relp+tls"] = pydantic.Field(
        description="tcp, tls, relp or relp+tls; only relp is acknowledged."
    )
    format: Literal["json", "cef", "leef"] = pydantic.Field(default="json", description="json, cef or leef.")
    facility: int = pydantic.Field(
        default=16, ge=0, le=23, description="Syslog facility, 0 to 23; 16 is local0."
    )
    hostname: str = pydantic.Field(
        default="tocsin", pattern=r"^[!-~]{1,255}$", description="HOSTNAME of each message's header."
    )
    enterprise_number: int = pydantic.Field(
        default=DOCUMENTATION_NUMBER,
        ge=1,
        description="Of the structured data; 32473 is reserved for documentation.",
    )
    max_message_bytes: int = pydantic.Field(
        default=8096,
        ge=2048,
        le=1_000_000,
        description="Longest message in bytes; rsyslog takes 8096 unless told otherwise.",
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)


class Syslog(Connector):
    """Sends events as syslog messages."""

    Settings: ClassVar[type[SyslogSettings]] = SyslogSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "qradar",
        "kind": "syslog",
        "address": "qradar.example.com:6514",
        "transport": "tls",
        "format": "leef",
    }
    caps = Caps(
        mode="every",
        max_events=100,
        max_bytes=2**20,
        delivery_class="best effort",
    )

    def __init__(self, settings: SyslogSettings) -> None:
        self._settings = settings
        if settings.transport.startswith("relp"):
            self.caps = msgspec.structs.replace(
                self.caps, delivery_class="at least once, deduplicate on event_id"
            )

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        largest = self._settings.max_message_bytes
        frames = [self._message(event, min(max_bytes or largest, largest)) for event in events]
        count = first_that_fit(frames, self.caps.max_bytes)
        event_ids = tuple(event.event_id for event in events[:count])
        return Rendered(request=self._frames(tuple(frames[:count])), event_ids=event_ids, step=step)

    def _frames(self, frames: tuple[bytes, ...]) -> Frames:
        settings = self._settings
        return Frames(
            address=settings.address, transport=settings.transport, frames=frames, ca_file=settings.ca_file
        )

    def _message(self, event: Event, size_bytes: int) -> bytes:
        head = self._header(event).encode()
        room = size_bytes - len(head)
        match self._settings.format:
            case "json":
                return head + fit(event, room)
            case "cef":
                return head + _cef(event, room, self._settings.hostname)
            case "leef":
                return head + _leef(event, room)

    def _header(self, event: Event) -> str:
        priority = self._settings.facility * 8 + syslog_severity(event.incident)
        name = self._settings.hostname
        if self._settings.format == "leef":
            at = event.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            return f"<{priority}>1 {at} {name} "
        data = structured_data(event, self._settings.enterprise_number)
        return f"<{priority}>1 {rfc3339(event.at)} {name} tocsin - {event.kind.value} {data} "

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        count = len(rendered.event_ids)
        match response:
            case FramesResponse():
                return _judge_frames(response, count, is_probe=rendered.request == self._frames(()))
            case Unreached():
                return (judge_unreached(response),) * count
            case _:
                return (Reject(reason="the answer is of another protocol"),) * count

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        return self._frames(request.frames) if isinstance(request, Frames) else request

    @override
    def probe(self) -> Request:
        return self._frames(())


def _judge_frames(response: FramesResponse, count: int, *, is_probe: bool) -> tuple[Verdict, ...]:
    """Return the verdicts: accepted ones, the one that was refused, and those after it, which go again."""
    if is_probe and not response.refused:
        return (Delivered(),) * count
    accepted = max(0, min(response.accepted, count))
    verdicts: list[Verdict] = [Delivered()] * accepted
    if accepted < count and response.answered:
        # RELP has one word for "too large" and for "my disk is full": the second passes.
        verdicts.append(Reject(reason=response.refused, final=False))
    again = Retry(reason=response.refused or "not all messages were taken", maybe_sent=True)
    return (*verdicts, *(again,) * (count - len(verdicts)))


# ---- RFC 5424 structured data ----------------------------------------------------------------------------


def escape_data(text: str) -> str:
    r"""Return `text` as a PARAM-VALUE: `"`, `\` and `]` escaped (RFC 5424 section 6.3.3), on one line."""
    return one_line(text).replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def structured_data(event: Event, enterprise_number: int) -> str:
    """Return the one element that names the event and its incident, for filters that read no message."""
    view = event.incident
    pairs = {
        "event_id": event.event_id,
        "incident": view.id,
        "seq": str(event.seq),
        "kind": event.kind.value,
        "state": view.state.value,
        "severity": view.severity,
        "tenant": event.tenant,
        "alerts": str(view.alerts_total),
        "firing": str(view.alerts_firing),
        "anomaly": _score(view.anomaly),
    }
    params = "".join(f' {key}="{escape_data(clip(value, 100))}"' for key, value in pairs.items() if value)
    return f"[tocsin@{enterprise_number}{params}]"


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


# ---- CEF and LEEF ----------------------------------------------------------------------------------------


def escape_cef_header(text: str) -> str:
    r"""Return `text` for a field of the CEF header: `\` and `|` escaped, on one line."""
    return one_line(text).replace("\\", "\\\\").replace("|", "\\|")


def escape_cef(text: str) -> str:
    r"""Return `text` for a CEF extension: `\` and `=` escaped, line ends as `\n`, no control character."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\\n".join(one_line(line).replace("\\", "\\\\").replace("=", "\\=") for line in lines)


def escape_leef(text: str) -> str:
    """Return `text` for a LEEF attribute. LEEF has no escape for the delimiter: `^` becomes a space."""
    return one_line(text).replace("^", " ")


def _cef(event: Event, room_bytes: int, hostname: str) -> bytes:
    view = event.incident
    title = clip(view.title, CEF_NAME)
    title = clip_escaped(title, room_bytes // TEXT_SHARE, escape_cef_header, utf8_size)
    head = f"CEF:0|Tocsin|Tocsin|1|incident.{event.kind.value}|{title}|{ten_severity(view)}|"
    pairs = [
        ("externalId", event.event_id),
        ("rt", str(milliseconds(event.at))),
        ("act", event.kind.value),
        ("cat", view.origin),
        ("start", str(milliseconds(view.opened_at))),
        ("end", "" if view.closed_at is None else str(milliseconds(view.closed_at))),
        ("dvchost", hostname),
        *_machine(event, address="dst", name="dhost", versions=(4,)),
        *_labelled("cs1", "incident", view.id),
        *_labelled("cs2", "tenant", event.tenant),
        *_labelled("cs3", "state", view.state.value),
        *_labelled("cn1", "alertsTotal", str(view.alerts_total)),
        *_labelled("cn2", "alertsFiring", str(view.alerts_firing)),
        *_labelled("cn3", "sequence", str(event.seq)),
        *_labelled("cfp1", "anomaly", _score(view.anomaly)),
        ("request", view.url),
        ("msg", clip(view.summary, CEF_MESSAGE)),
        *_labelled("cs4", "commonLabels", clip(_labels(event), CEF_STRING)),
        *_labelled("cs5", "rootSuspect", clip(suspect(event), CEF_STRING)),
        *_labelled("cs6", "alerts", clip(_alerts(event), CEF_STRING)),
    ]
    return (head + _joined(pairs, room_bytes - utf8_size(head), " ", escape_cef)).encode()


def _leef(event: Event, room_bytes: int) -> bytes:
    view = event.incident
    head = f"LEEF:2.0|Tocsin|Tocsin|1|incident.{event.kind.value}|^|"
    pairs = [
        ("devTime", str(milliseconds(event.at))),
        ("sev", str(ten_severity(view))),
        ("cat", view.origin),
        ("kind", event.kind.value),
        *_machine(event, address="dst", name="identHostName", versions=(4, 6)),
        ("eventId", event.event_id),
        ("incident", view.id),
        ("sequence", str(event.seq)),
        ("tenant", event.tenant),
        ("state", view.state.value),
        ("alertsTotal", str(view.alerts_total)),
        ("alertsFiring", str(view.alerts_firing)),
        ("anomaly", _score(view.anomaly)),
        ("url", view.url),
        ("title", view.title),
        ("msg", view.summary),
        ("commonLabels", _labels(event)),
        ("rootSuspect", suspect(event)),
        ("alerts", _alerts(event)),
    ]
    return (head + _joined(pairs, room_bytes - utf8_size(head), "^", escape_leef)).encode()


def _labelled(key: str, label: str, value: str) -> tuple[tuple[str, str], ...]:
    # A label without its value would make the receiver show an empty column.
    return ((f"{key}Label", label), (key, value)) if value else ()


def _labels(event: Event) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(event.incident.common_labels.items()))


def _machine(
    event: Event, *, address: str, name: str, versions: tuple[int, ...]
) -> tuple[tuple[str, str], ...]:
    """Return the machine that it is about, under the key for addresses of these IP versions or for names."""
    found = host(event)
    try:
        key = address if ipaddress.ip_address(found).version in versions else name
    except ValueError:
        key = name
    return ((key, found),) if found else ()


def _alerts(event: Event) -> str:
    return ", ".join(alert_line(episode) for episode in event.incident.episodes)


def _joined(
    pairs: Sequence[tuple[str, str]], room_bytes: int, delimiter: str, escape: Callable[[str], str]
) -> str:
    """Return `key=value` of all pairs in order; a value is cut to its share of the room or what is left."""
    parts: list[str] = []
    share_bytes = room_bytes // TEXT_SHARE
    for key, value in pairs:
        taken = len(key) + 1 + (len(delimiter) if parts else 0)
        escaped = clip_escaped(value, min(share_bytes, room_bytes - taken), escape, utf8_size)
        if not escaped:
            continue
        parts.append(f"{key}={escaped}")
        room_bytes -= taken + utf8_size(escaped)
    return delimiter.join(parts)
