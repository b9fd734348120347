"""Kind `apprise`: a short text through Apprise, for the many services that have no kind of their own.

Best effort, and no more than that can be made of it: Apprise says whether it was sent and nothing else, no status and
no wait, gives no id to change a message by, and knows no key to tell a repeat by. Services that Tocsin has a kind for
are better reached by that.

Rules: the URL holds the credentials, so all of it is the secret, and only `seal` writes it. It has one target, which
only Apprise can tell: a probe does. The text is plain; how it is escaped for a service is Apprise's business. But it
escapes no mention (`@everyone`, `<!channel>`), and senders write the texts: what mentions begin with is defused here.

Decision: "not sent" is tried again and never rejected: nobody says whether the text or the service is at fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
import pydantic
from pydantic import AfterValidator
from typing_extensions import override

from bridge.model import Delivered, Event, EventKind, Reject, Retry, Severity, Verdict
from bridge.ports import (
    Caps,
    Connector,
    Memory,
    Notice,
    NoticeResponse,
    Rendered,
    Request,
    Response,
    Unreached,
)
from connectors.common import OVER, clip, judge_unreached, one_line, smallest
from connectors.credentials import KIND, SMALLEST_BYTES, DestinationSettings, FromFile, Secret
from connectors.wording import AHEAD, alert_text, happened, links, suspect

TITLE_CHARACTERS, SUMMARY_CHARACTERS, LINE_CHARACTERS, LINK_CHARACTERS, LISTED = 250, 1500, 220, 1000, 10
BARE_CHARACTERS = 100  # of each text where all else has been left out already
#: Signs that mention nobody: an invisible space behind one, look-alikes of the others.
NO_MENTIONS = {ord("@"): "@\u200b", ord("<"): "\u2039", ord(">"): "\u203a"}
LEVELS: dict[Severity, Literal["failure", "warning", "info"]] = {
    "critical": "failure", "warning": "warning", "info": "info",
}  # fmt: skip


def _check_scheme(url: Secret) -> Secret:
    scheme, found, rest = url.reveal().partition("://")
    if not found or not scheme.isalnum() or not rest or any(each.isspace() for each in rest):
        raise ValueError("expected one URL of Apprise, such as pover://user@token")
    if any(each.lower().startswith("verify=") for each in re.split("[?&]", rest)[1:]):
        raise ValueError("verify: certificates are always checked; leave it out")
    return url


class AppriseSettings(DestinationSettings):
    """Where to, in Apprise's words."""

    kind: Literal["apprise"] = pydantic.Field(default="apprise", description=KIND)
    url: Annotated[Secret, AfterValidator(_check_scheme)] | None = pydantic.Field(
        default=None, description="Apprise's URL of the service; a secret."
    )
    url_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the URL, instead of `url`."
    )
    max_bytes: int = pydantic.Field(
        default=32 * 1024,
        ge=SMALLEST_BYTES,
        description="Longest text in bytes; Apprise shortens it further.",
    )

    @pydantic.model_validator(mode="after")
    def _one_url(self) -> Self:
        _check_scheme(self.needed("url"))
        return self


class Apprise(Connector):
    """Tells what a person should notice, once each."""

    Settings: ClassVar[type[AppriseSettings]] = AppriseSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "phones",
        "kind": "apprise",
        "url": "pover://user-key-example@app-token-example",
    }
    caps = Caps(mode="newest", max_events=1, max_bytes=32 * 1024, delivery_class="best effort", wait_s=30.0)

    def __init__(self, settings: AppriseSettings) -> None:
        self._url = settings.needed("url")
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        # A message cannot be changed, and a new one for every update buries all others.
        return event.kind is not EventKind.UPDATED

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event, view = events[0], events[0].incident
        made = ("\n".join(_lines(event, listed)).encode() for listed in (LISTED, LISTED // 3, 0))
        title = one_line(view.title[:500]).strip() or f"Incident {view.id}"
        request = Notice(
            url="",
            title=_plain(f"{happened(event)}: {title}", TITLE_CHARACTERS),
            text=smallest(made, min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)).decode(),
            level="success" if view.state in OVER else LEVELS[view.severity],
        )
        return Rendered(request=request, event_ids=(event.event_id,), step=step)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        match response:
            case NoticeResponse(taken=True):
                verdict: Verdict = Delivered()
            case NoticeResponse():
                verdict = Retry(reason="Apprise could not send it, and does not say why", maybe_sent=True)
            case Unreached():
                verdict = judge_unreached(response)
            case _:
                verdict = Reject(reason="the answer is of another protocol")
        return (verdict,) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Notice):
            return request
        return msgspec.structs.replace(request, url=self._url.reveal())

    @override
    def probe(self) -> Request:
        return Notice(url="", title="", text="")


def _lines(event: Event, listed: int) -> Iterator[str]:
    view = event.incident
    if event.kind in AHEAD:
        yield f"{view.severity}, of {view.opened_at:%Y-%m-%d %H:%M UTC}"
    else:
        yield f"{view.severity}, {view.state.value}, {view.alerts_firing} of {view.alerts_total} alerts firing"
    if listed:
        summary = clip(view.summary, SUMMARY_CHARACTERS).splitlines()
        yield from (_plain(each, SUMMARY_CHARACTERS) for each in summary)
        for each in view.episodes[:listed]:
            yield _plain(f"- {each.severity}: {alert_text(each)}", LINE_CHARACTERS)
        more = len(view.episodes[listed:]) + view.truncated
        if more:
            yield f"- and {more} more"
        why = suspect(event)
        if why:
            yield _plain(f"First suspect: {why}", LINE_CHARACTERS)
        for link in links(event):
            if len(link.url) <= LINK_CHARACTERS:
                yield f"{link.text}: {link.url.replace('@', '%40')}"
    yield f"Incident {_plain(view.id, BARE_CHARACTERS)}, event {event.event_id}"


def _plain(text: str, characters: int) -> str:
    """Return `text` on one line, without a mention."""
    return clip(one_line(text[: 4 * characters]).translate(NO_MENTIONS), characters)
