"""Recorded alerts with known incidents, made into streams. Nothing of the files is kept in the project.

`ops-alerts` holds two CSV files (`ts,entity,host_or_caller,kind,text,incident,rc_level,rc_entity,rc_type`) of alerts
inside of faults only, one fault at a time. So incidents are cut at 15 minutes and their starts set anew, 120, 300 or
600 s apart, in the order of the file; the first half may teach, the second is reported, more than an hour after it.

How a row becomes an alert (decided once, before anything was measured):

* alertname: the kind and what is left of the text when ids and numbers, and in a trace the operation and the caller,
  are taken out: `metric container_threads is up`, `trace PD`, `log DB saved on disk`.
* `operation` of a trace is a label; so is what the file calls host or caller: `node` of a metric, `caller` of a trace.
* the entity: a machine is `instance`; anything that ends in a number is a `pod` of the `service` that is left without
  it (`cartservice2-0` is of cartservice); anything else is a `service`.
* `cluster` is the file's name, severity is warning: the files have neither.

Rows of one label set less than 60 s apart are one episode; it ends 29 s after its last row. The truth of an episode is
the incident of its first row. What that costs is told by the oracle, which knows the incidents and may still only
choose one per episode: row by row it cannot be perfect.

`soc-alerts` (three `csv.zst`) holds Wazuh, Suricata and AMiner alerts of three simulated companies, days of noise and
one attack each. An attack phase (`event_label`) is an incident; in `santos` the alert `S-Dns-Qry3` marked `dnsteal` is
noise. Which noise belongs together nobody knows, so pairs of two noise episodes are not judged: precision is of the
pairs that touch the attack. Parameters are chosen on the other two companies. It is three attacks of 20 to 35 episodes
(thousands of rows): one episode more or less moves every figure. The phases come seconds to minutes apart and overlap
little, and whether they are one incident or several is a matter of taste. The table says whether an attack's episodes
stay together and how much noise is drawn in, and no more than that.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.parts.streams import Firing, Stream

START = datetime(2026, 3, 2, 0, 0, 37, tzinfo=UTC)  # no grid of windows begins here
CUT_S, TOGETHER_S, LAST_S = 900.0, 60.0, 29.0
BETWEEN_S = 3900.0  # with the cut a multiple of every spacing
ALL = -1.0  # every episode is an item

_ID = re.compile(
    r"\b(?:[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]*[0-9][0-9a-f]{7,}|\d+(?:\.\d+){1,3}(?::\d+)?|\d+)\b"
)
_TRACE = re.compile(r"(?P<what>.*?) on (?P<operation>.*?) called by .*", re.DOTALL)
_MACHINE = re.compile(r"node-\d+|\d+(?:\.\d+){3}|system")
_POD = re.compile(r"(?P<service>.*?[a-z])(?:\d?-)?\d+")


@dataclass(frozen=True, slots=True)
class _Row:
    at: datetime
    labels: dict[str, str]
    text: str
    incident: str


def ops_files(folder: Path) -> list[Path]:
    """Return the recorded streams in a folder."""
    return sorted(folder.glob("*.csv"))


def ops(path: Path, spacing_s: float, *, noise_an_hour: float = 0.0, seed: int = 0) -> Stream:
    """Return a file with its incidents `spacing_s` apart."""
    with path.open(newline="", encoding="utf-8") as file:
        told = sorted(csv.DictReader(file), key=lambda row: float(row["ts"]))
    began: dict[str, float] = {}
    for row in told:
        began.setdefault(row["incident"], float(row["ts"]))
    numbers = {incident: number for number, incident in enumerate(began)}
    half = len(numbers) // 2
    rows = []
    for row in told:
        after_s = float(row["ts"]) - began[row["incident"]]
        if after_s <= CUT_S:
            number = numbers[row["incident"]]
            pause_s = CUT_S + BETWEEN_S if number >= half else 0.0
            at = START + timedelta(milliseconds=round(1000 * (number * spacing_s + pause_s + after_s)))
            rows.append(_Row(at, ops_labels(row, path.stem), row["text"], row["incident"]))
    split_at = START + timedelta(seconds=half * spacing_s + CUT_S + BETWEEN_S)
    roots = {row["incident"]: row["rc_entity"] for row in told}
    stream = _stream(f"{path.stem} {spacing_s:.0f} s", rows, split_at)
    stream.root_entity = roots
    stream.on_grid = True
    stream.topology = ops_topology(path)
    if noise_an_hour:
        return _noisy(stream, noise_an_hour, seed)
    return stream


def ops_labels(row: dict[str, str], cluster: str) -> dict[str, str]:
    """Return the labels of a row; see the module's text."""
    kind, text, entity, other = row["kind"], row["text"], row["entity"], row["host_or_caller"]
    labels = {"cluster": cluster, "severity": "warning", "job": kind}
    trace = _TRACE.fullmatch(text) if kind == "trace" else None
    if trace:
        labels["operation"] = _ID.sub("0", trace["operation"])
        text = trace["what"]
    labels["alertname"] = f"{kind} {_ID.sub('0', text) if kind == 'log' else text}"[:120]
    if _MACHINE.fullmatch(entity):
        labels["instance"] = entity
    elif pod := _POD.fullmatch(entity):
        labels |= {"pod": entity, "service": pod["service"]}
    else:
        labels["service"] = entity
    if other:
        labels["caller" if kind == "trace" else "node"] = other
    return labels


def ops_topology(path: Path) -> list[dict[str, object]]:
    """Return the `services:` of the topology file beside a recording: calls between services, no machines."""
    file = path.with_suffix(".topology.json")
    if not file.exists():
        return []
    told = json.loads(file.read_bytes())
    machines = {node["id"] for node in told["nodes"] if node["type"] in {"Host", "Node", "Pod"}}
    calls: dict[str, dict[str, None]] = {}
    for edge in told["edges"]:
        ends = [_service_of(edge[end]) for end in ("source", "target")]
        if not machines & {edge["source"], edge["target"]} and ends[0] != ends[1]:
            calls.setdefault(ends[0], {})[ends[1]] = None
            calls.setdefault(ends[1], {})
    return [{"name": name, "calls": sorted(called)} for name, called in sorted(calls.items())]


def _service_of(entity: str) -> str:
    pod = _POD.fullmatch(entity)
    return pod["service"] if pod else entity


def _stream(name: str, rows: Iterable[_Row], split_at: datetime) -> Stream:
    """Condense rows into episodes."""
    open_: dict[tuple[tuple[str, str], ...], list[_Row]] = {}
    episodes: list[list[_Row]] = []
    for row in sorted(rows, key=lambda row: row.at):
        key = tuple(sorted(row.labels.items()))
        episode = open_.get(key)
        if episode is None or row.at - episode[-1].at >= timedelta(seconds=TOGETHER_S):
            episode = open_[key] = []
            episodes.append(episode)
        episode.append(row)
    stream = Stream(name=name, firings=[], split_at=split_at, again_s=ALL)
    for episode in episodes:
        first = episode[0]
        firing = Firing(
            labels=first.labels, annotations={"summary": first.text}, starts_at=first.at,
            ends_at=episode[-1].at + timedelta(seconds=LAST_S), incident=first.incident,
            noise=first.incident.startswith("noise-"),
        )  # fmt: skip
        stream.firings.append(firing)
        stream.rows[firing.key] = [row.incident for row in episode]
    stream.firings.sort(key=lambda firing: (firing.starts_at, firing.fingerprint))
    return stream


def _noisy(stream: Stream, an_hour: float, seed: int) -> Stream:
    """Let alerts of the recording also come by themselves, each an incident of its own."""
    dice = random.Random(f"noise {seed}")
    first, last = stream.firings[0].starts_at, stream.firings[-1].starts_at
    hours = (last - first).total_seconds() / 3600
    spans: dict[str, list[Firing]] = {}
    for firing in stream.firings:
        spans.setdefault(firing.fingerprint, []).append(firing)
    noise = []
    for number in range(round(an_hour * hours)):
        like = dice.choice(stream.firings)
        at = first + timedelta(milliseconds=round(dice.uniform(0, hours) * 3_600_000))
        firing = replace(
            like, starts_at=at, ends_at=at + timedelta(seconds=LAST_S), incident=f"noise-{number}", noise=True
        )
        if not any(_touch(firing, other) for other in spans[firing.fingerprint]):
            noise.append(firing)
            spans[firing.fingerprint].append(firing)
            stream.rows[firing.key] = [firing.incident]
    together = [*stream.firings, *noise]
    stream.firings = sorted(together, key=lambda firing: (firing.starts_at, firing.fingerprint))
    return stream


def _touch(one: Firing, other: Firing) -> bool:
    """Say whether two firings of one alert would be one episode."""
    apart = timedelta(seconds=TOGETHER_S)
    return one.starts_at <= other.ends_at + apart and other.starts_at <= one.ends_at + apart


# ---- soc-alerts ----------------------------------------------------------------------------------------


def soc_files(folder: Path) -> list[Path]:
    """Return the companies."""
    return sorted(folder.glob("*.csv.zst"))


def soc(path: Path) -> Stream:
    """Return a company's alerts; the last day's worth around the attack is reported, the days before may teach."""
    rows = list(_soc_rows(path))
    attack = [row.at for row in rows if not row.incident.startswith("noise")]
    return _stream(path.name.split(".")[0], rows, max(attack) - timedelta(hours=3))


def _soc_rows(path: Path) -> Iterator[_Row]:
    import zstandard  # noqa: PLC0415 - only for these files

    with path.open("rb") as file:
        text = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8", newline="")
        for number, row in enumerate(csv.DictReader(text)):
            phase = row["event_label"]
            noise = phase in {"-", "false_positive"} or (phase == "dnsteal" and row["short"] == "S-Dns-Qry3")
            labels = {
                "alertname": row["short"], "host": row["host"], "ip": row["ip"], "severity": "warning",
                "cluster": path.name.split(".")[0],
            }  # fmt: skip
            at = datetime.fromtimestamp(float(row["time"]), UTC) + timedelta(microseconds=number % 1000)
            yield _Row(at, labels, row["name"], f"noise-{number}" if noise else phase)
