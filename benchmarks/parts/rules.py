"""The alert rules of the generated worlds (`rules.yaml`), or public ones in their places.

Nine kinds of fault. Each rule says what it watches (`about`), who fires it when a fault is at work (`role`), and for
how long its expression must hold (`for_s`, capped at ten minutes). `{}` fields are filled from the alert's labels;
`{value}` is drawn. Symptoms of callers are shared by all kinds of fault, as in life: that a checkout is slow does not
say whether a disk, a certificate or a release is to blame.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml

Role = Literal["root", "local", "caller", "callee", "noise"]
About = Literal["node", "pod", "service"]

MAX_FOR_S = 600.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert rule; `kind` is of fault, "" for symptoms that all kinds share and for noise."""

    name: str
    kind: str
    role: Role
    about: About
    for_s: float
    severity: str
    summary: str
    description: str


def _read(path: Path) -> tuple[Rule, ...]:
    """Return the rules in a file of this benchmark."""
    told = yaml.safe_load(path.read_text("utf-8"))
    return tuple(
        Rule(
            name=each["name"], kind=each["is"]["kind"] or "", role=each["is"]["role"], about=each["is"]["about"],
            for_s=min(MAX_FOR_S, each["is"]["minutes"] * 60.0), severity=each["is"]["severity"],
            summary=each["summary"], description=each["description"],
        )
        for each in told
    )  # fmt: skip


OWN = _read(Path(__file__).with_suffix(".yaml"))
KINDS: tuple[str, ...] = tuple(dict.fromkeys(rule.kind for rule in OWN if rule.kind))

_LABEL = re.compile(r"[lL]abels\.(\w+)")
#: What a public rule is about, told by its name. The first that matches.
_ABOUT: tuple[tuple[re.Pattern[str], About], ...] = (
    (re.compile(r"Host|Node|Kubelet|Machine|Disk|Filesystem", re.IGNORECASE), "node"),
    (re.compile(r"Pod|Container|Replica|Job|Member|Instance|Process", re.IGNORECASE), "pod"),
    (re.compile(r""), "service"),
)


def from_public_rules(folder: Path, dice: random.Random) -> tuple[Rule, ...]:
    """Return the same slots filled with texts, names, severities and delays of public rules (JSON lines).

    Which rule plays which part is drawn: a rule is about a machine, a pod or a service by its name, and no more is
    asked of it. So the texts are real and their kinds of fault are not.
    """
    files = sorted(path for path in folder.glob("*.jsonl") if not path.name.startswith("_"))
    told = [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]
    by_about: dict[str, dict[str, dict]] = {"node": {}, "pod": {}, "service": {}}
    for each in told:
        if each.get("alert") and each.get("annotations"):
            by_about[next(about for name, about in _ABOUT if name.search(each["alert"]))][each["alert"]] = (
                each
            )
    pools = {
        about: dice.sample(sorted(named.items()), len(named)) for about, named in sorted(by_about.items())
    }
    return tuple(_worn(slot, pools[slot.about].pop()[1]) for slot in OWN)


def _worn(slot: Rule, told: dict) -> Rule:
    texts = told["annotations"]
    severity = told.get("severity") or slot.severity
    return replace(
        slot,
        name=told["alert"],
        for_s=min(MAX_FOR_S, _seconds(told.get("for") or "0m")),
        severity=severity if severity in {"critical", "warning", "info"} else slot.severity,
        summary=_fields(texts.get("summary") or texts.get("message") or told["alert"]),
        description=_fields(texts.get("description") or ""),
    )


def _fields(text: str) -> str:
    """Return a Prometheus text with our fields: labels we have, and values for all else."""
    ours = {
        "node": "node",
        "instance": "instance",
        "pod": "pod",
        "service": "service",
        "namespace": "namespace",
        "job": "job",
    }
    plain = text.replace("{", "{{").replace("}", "}}")
    escaped = re.compile(r"\{\{\{\{(.*?)\}\}\}\}", re.DOTALL)
    return escaped.sub(lambda match: f"{{{ours.get(_label(match[1]), 'value')}}}", plain)


def _label(expression: str) -> str:
    found = _LABEL.search(expression)
    return found[1] if found else ""


def _seconds(duration: str) -> float:
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+)([smhd])", duration))
