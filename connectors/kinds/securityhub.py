"""Kind `securityhub`: one finding per incident in AWS Security Hub (CSPM), in ASFF 2018-10-08.

`BatchImportFindings` updates a finding by its `Id`, so that a repeat changes nothing: each incident is one finding,
kept up to date. When the incident is over its finding is archived. People's own fields (`Workflow`, `Note`) are left
alone.

Rules: 200 is not success, `FailedFindings` names those that were not taken; where the counts do not add up, nothing is
known of the others. Severity and types go where providers put them (`FindingProviderFields`), so that rules and people
can overrule them. Of what has not begun there is no finding.
Decision: no probe. An empty import is refused the same whether the rest is right or not, and to describe the hub needs
a permission that importing does not need.
Source: docs.aws.amazon.com, "AWS Security Finding Format", "BatchImportFindings": 100 findings, 240 KB each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Delivered, Event, EventKind, Retry, Severity, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.clouds.aws import AccountId, AwsSettings, foreign, judge_aws, judge_entry
from connectors.common import OVER, clip, encode, first_that_fit, json_object, one_line, rfc3339, smallest
from connectors.credentials import KIND, SMALLEST_BYTES
from connectors.wording import alert_text, host_of, links, suspect, together

#: What has not begun.
AHEAD = frozenset({EventKind.FORECAST, EventKind.RECOMMENDATION})
#: Of the whole, so many characters; of a resource's id; of the value of a field.
TITLE_CHARACTERS, DESCRIPTION_CHARACTERS, ID_CHARACTERS, VALUE_CHARACTERS = 256, 1024, 512, 1024
RESOURCES, ALERTS, LABELS = 32, 20, 10
LINK_CHARACTERS = 512
FINDING_BYTES = 240_000
LABEL_OF: dict[Severity, str] = {"critical": "CRITICAL", "warning": "MEDIUM", "info": "INFORMATIONAL"}
HEAD, TAIL = b'{"Findings":[', b"]}"


class SecurityHubSettings(AwsSettings):
    """Which account's hub."""

    kind: Literal["securityhub"] = pydantic.Field(default="securityhub", description=KIND)
    account: AccountId = pydantic.Field(
        description="Account that the findings belong to, and that imports them."
    )
    max_bytes: int = pydantic.Field(
        default=FINDING_BYTES, ge=SMALLEST_BYTES, le=2**20, description="Largest request in bytes."
    )


class SecurityHub(Connector):
    """Imports a finding per incident."""

    Settings: ClassVar[type[SecurityHubSettings]] = SecurityHubSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "hub",
        "kind": "securityhub",
        "region": "eu-west-1",
        "account": "123456789012",
    }
    caps = Caps(
        mode="newest",
        max_events=100,
        max_bytes=FINDING_BYTES,
        delivery_class="exactly-once effect",
        updates=True,
    )

    def __init__(self, settings: SecurityHubSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        return event.kind not in AHEAD

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        around = len(HEAD) + len(TAIL)
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes, FINDING_BYTES) - around
        findings = [smallest(self._findings(event), room) for event in events]
        count = first_that_fit(findings, self.caps.max_bytes - around, joint_bytes=1)
        ids = {self._id(event.incident.id): event.event_id for event in events[:count]}
        request = Http(
            method="POST",
            url=self._address(),
            headers={"content-type": "application/json"},
            body=HEAD + b",".join(findings[:count]) + TAIL,
            about=ids,
        )
        return Rendered(
            request=request, event_ids=tuple(event.event_id for event in events[:count]), step=step
        )

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        count, secrets = len(rendered.event_ids), self._settings.secrets()
        verdict = judge_aws(response, secrets)
        if not isinstance(response, HttpResponse) or not isinstance(verdict, Delivered):
            return (verdict,) * count
        answer = json_object(response.body)
        failed = answer.get("FailedFindings") or []
        taken = answer.get("SuccessCount")
        if type(taken) is not int or not isinstance(failed, list):
            return (foreign(response.status),) * count
        about = rendered.request.about if isinstance(rendered.request, Http) else {}
        refused = {
            about[each.id]: judge_entry(each.code, each.message, secrets=secrets)
            for each in _named(failed)
            if each.id in about
        }
        others: Verdict = verdict
        if taken + len(refused) != count:  # some failed that the answer does not name, or not as we do
            others = Retry(reason="the answer does not say what became of it", maybe_sent=True)
        return tuple(refused.get(each, others) for each in rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        return msgspec.structs.replace(
            request,
            url=self._address(),
            ca_file=self._settings.ca_file,
            auth=self._settings.auth("securityhub"),
        )

    def _address(self) -> str:
        return f"{self._settings.address('securityhub')}findings/import"

    def _id(self, incident: str) -> str:
        return f"tocsin/{clip(incident, ID_CHARACTERS - 20)}"

    def _findings(self, event: Event) -> Iterator[bytes]:
        """Yield the finding, the longest first; the last has ids, counts and a short title."""
        for listed, characters in ((ALERTS, VALUE_CHARACTERS), (ALERTS // 4, 200), (1, 60), (0, 40)):
            yield encode(self._finding(event, listed, characters))

    def _finding(self, event: Event, listed: int, characters: int) -> dict[str, Any]:
        view, own = event.incident, self._settings
        account, region = own.account, own.region
        title = " ".join(one_line(view.title).split()) or f"Incident {view.id}"
        description = one_line(view.summary).strip() or title
        finding: dict[str, Any] = {
            "SchemaVersion": "2018-10-08",
            "Id": self._id(view.id),
            "ProductArn": f"arn:{own.partition()}:securityhub:{region}:{account}:product/{account}/default",
            "ProductName": "Tocsin",
            "CompanyName": "Tocsin",
            "GeneratorId": f"tocsin/{view.origin}",
            "AwsAccountId": account,
            "CreatedAt": rfc3339(view.opened_at),
            "FirstObservedAt": rfc3339(view.opened_at),
            "LastObservedAt": rfc3339(event.at),
            "UpdatedAt": rfc3339(event.at),
            "Title": clip(title, min(TITLE_CHARACTERS, characters)),
            "Description": clip(description, min(DESCRIPTION_CHARACTERS, characters)),
            "RecordState": "ARCHIVED" if view.state in OVER else "ACTIVE",
            "FindingProviderFields": {
                "Severity": {"Label": LABEL_OF[view.severity], "Original": view.severity},
                "Types": ["Unusual Behaviors"],
            },
            "ProductFields": _fields(event, listed, characters),
            "Resources": list(_resources(event, listed, min(characters, ID_CHARACTERS), region)),
        }
        found = [each.url for each in links(event) if len(each.url) <= LINK_CHARACTERS] if listed else []
        if found:
            finding["SourceUrl"] = found[0]
            finding["Remediation"] = {
                "Recommendation": {"Text": "What to do, or where to look.", "Url": found[0]}
            }
        return finding


class _Refused(msgspec.Struct, frozen=True):
    """One of `FailedFindings`."""

    id: str
    code: str
    message: str


def _named(failed: Sequence[object]) -> Iterator[_Refused]:
    for each in failed:
        fields = each if isinstance(each, dict) else {}
        texts = [fields.get(key, "") for key in ("Id", "ErrorCode", "ErrorMessage")]
        if all(isinstance(text, str) for text in texts):
            yield _Refused(*texts)


def _fields(event: Event, listed: int, characters: int) -> dict[str, str]:
    """Return what people search by, and why it is one incident; at most 50 fields."""
    view = event.incident
    fields = {
        "event_id": event.event_id,
        "incident": clip(view.id, 100),
        "tenant": clip(event.tenant, min(characters, 100)),
        "kind": event.kind.value,
        "state": view.state.value,
        "alerts": f"{view.alerts_firing} of {view.alerts_total} firing",
        "alerts_total": str(view.alerts_total),
        "anomaly": "unknown" if view.anomaly is None else f"{view.anomaly:.2f}",
        "degraded": str(event.degraded).lower(),
    }
    if not listed:
        return {f"tocsin/{name}": one_line(text) for name, text in fields.items()}
    fields |= {"first_suspect": suspect(event), "one_incident_because": together(event)}
    fields |= {
        f"label/{clip(name, 60)}": value for name, value in sorted(view.common_labels.items())[:LABELS]
    }
    fields |= {
        f"alert/{number:02}": f"{each.severity}: {alert_text(each)}"
        for number, each in enumerate(view.episodes[:listed], start=1)
    }
    return {
        f"tocsin/{one_line(name)}": clip(one_line(text), characters) for name, text in fields.items() if text
    }


def _resources(event: Event, listed: int, characters: int, region: str) -> Iterator[dict[str, str]]:
    """Yield the machines of the alerts that are listed, or the incident itself: one there must be."""
    hosts = dict.fromkeys(host_of(each.labels) for each in event.incident.episodes if listed)
    found = [one_line(each).strip() for each in hosts if each.strip()][
        : RESOURCES if listed == ALERTS else listed
    ]
    for each in found or [f"tocsin/{event.incident.id}"]:
        yield {"Type": "Other", "Id": clip(each, characters), "Region": region}
