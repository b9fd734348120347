"""The topology file: which services there are, and who calls whom.

Rules: those of the configuration, of which it is a part: unknown key = error; faults with file, line, path and what to
write instead. Cycles are no fault, for services do call each other. A call of a name that no entry has is a note: the
service stands outside of the file, such as a payment provider, and calls nothing; a misspelt name reads the same.

Theory: a machine may have written it, so it may be large or broken, and a sidecar must not stand still over that. It is
read to the end only while its size, its depth and the number of its values are within bounds, and by libyaml where that
is there (ten times faster). 10,000 services with 50,000 calls take two seconds, what is refused less.

Decision: its parser's events are counted before its nodes are made. Nodes are made by recursion and cost memory before
anybody can count them; and libyaml takes half a minute for a hundred thousand open brackets, which the events show
after sixteen.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import Field, ValidationError

from bridge.analysis.topology import (
    LONGEST_NAME,
    MAX_CALLS,
    MAX_SAME_NAME,
    MAX_SERVICES,
    Call,
    Chart,
    Service,
)
from bridge.config.document import Document, Loader, Place, read, syntax_fault
from bridge.config.faults import path_of, report, unknown
from bridge.config.values import Section
from bridge.errors import ConfigError

MAX_BYTES = 16 << 20
MAX_EVENTS = 1_000_000
MAX_DEPTH = 16
#: So many faults, or notes, are told one by one.
TOLD = 20
#: A file up to this size is read by the parser that says best what is wrong in it.
SMALL_LETTERS = 64 << 10
MAX_COMPARED = 2_000  # names, to find the one that was meant

ServiceName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
#: Any of the services of one name; of one name in a cluster, in a namespace, in both.
_Where = tuple[str, str | None, str | None]
_SEVERAL = -1


class ServiceEntry(Section):
    """One service."""

    name: ServiceName = Field(description="The value that the label of its alerts has.")
    calls: list[ServiceName] = Field(default=[], description="Names of the services that it calls.")
    cluster: Annotated[str, Field(max_length=LONGEST_NAME)] = Field(
        default="", description="Its cluster, where others have a service of its name."
    )
    namespace: Annotated[str, Field(max_length=LONGEST_NAME)] = Field(
        default="", description="Its namespace."
    )


class Found(NamedTuple):
    """What a file says, and what is allowed in it and still looks like a mistake."""

    chart: Chart
    notes: tuple[str, ...]


NOTHING = Found(Chart(origin="file"), ())


def load_topology(path: Path, environ: Mapping[str, str]) -> Found:
    """Return the topology in the file at `path`.

    Args:
        path: The YAML file.
        environ: What `${NAME}` is taken from.

    Raises:
        ConfigError: With its faults, each as `file:line: path.to.key: what is wrong and what to write`.
    """
    document = _document(path, environ)
    reading = _Reading(document)
    if not document.faults:
        reading.services()
        reading.calls()
    if document.faults:
        faults = [(fault.line, fault.place, fault.what) for fault in document.faults]
        raise ConfigError(_told(path, document, sorted(faults, key=lambda fault: fault[0])))
    return Found(reading.chart(), _told(path, document, reading.notes))


def _document(path: Path, environ: Mapping[str, str]) -> Document:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from error
    if len(content) > MAX_BYTES:
        raise ConfigError((f"{path}: is larger than {MAX_BYTES >> 20} MiB",))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError((f"{path}:{line}: is not UTF-8 text; save it as UTF-8",)) from error
    loader = _loader(text)
    return _beyond(text, loader) or read(text, environ, loader=loader, max_nodes=MAX_EVENTS)


def _loader(text: str) -> type[Loader]:
    small = len(text) <= SMALL_LETTERS or not yaml.__with_libyaml__
    return yaml.SafeLoader if small else yaml.CSafeLoader


def _beyond(text: str, loader: type[Loader]) -> Document | None:
    """Return a document without anything but the fault, if the text is no YAML, too deep or too much."""
    document = Document()
    depth = 0
    try:
        for number, event in enumerate(yaml.parse(text, Loader=loader)):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH or number > MAX_EVENTS:
                document.mark((), event.start_mark.line + 1 if event.start_mark else 1)
                document.fault((), "is nested too deeply" if depth > MAX_DEPTH else "has too many values")
                return document
    except yaml.YAMLError as error:
        document.faults.append(syntax_fault(error, text))
        return document
    return None


def _told(path: Path, document: Document, said: list[tuple[int, Place, str]]) -> tuple[str, ...]:
    lines = [
        f"{path}:{line}: {where + ': ' if (where := path_of(place, document.data)) else ''}{what}"
        for line, place, what in said[:TOLD]
    ]
    more = len(said) - TOLD
    return (*dict.fromkeys(lines), *([f"{path}: and {more} more of the kind"] if more > 0 else []))


class _Reading:
    """Reads one document into a chart, and notes what is wrong with it."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._entries: dict[int, ServiceEntry] = {}  # good ones, by where they stand
        self._services: list[Service] = []
        self._index: dict[_Where, int] = {}
        self._calls: list[Call] = []
        self.notes: list[tuple[int, Place, str]] = []

    def services(self) -> None:
        """Read the entries, and see that they differ."""
        first: dict[tuple[str, str, str], int] = {}
        same: dict[str, int] = {}
        blocks = self._blocks()
        for index, block in enumerate(blocks):
            place: Place = ("services", index)
            entry = self._entry(place, block)
            if entry is None:
                if len(self._document.faults) > 5 * TOLD:
                    return
                continue
            earlier = first.setdefault((entry.name, entry.cluster, entry.namespace), index)
            if earlier != index:
                line = self._document.line(("services", earlier))
                what = f"is there already (line {line}); give it another cluster or namespace, or remove one"
                self._document.fault((*place, "name"), what)
                continue
            same[entry.name] = same.get(entry.name, 0) + 1
            if same[entry.name] == MAX_SAME_NAME + 1:
                self._document.fault((*place, "name"), f"is the name of more than {MAX_SAME_NAME} services")
            self._entries[index] = entry
            self._add(entry.name, entry.cluster, entry.namespace)

    def calls(self) -> None:
        """Find what the entries call."""
        callers = list(self._entries.items())
        for caller, (index, entry) in enumerate(callers):
            for number, name in enumerate(entry.calls):
                place: Place = ("services", index, "calls", number)
                callee = self._called(name, entry)
                if callee == _SEVERAL:
                    what = "is the name of several services; write namespace/name or cluster/namespace/name"
                    self._document.fault(place, what)
                    continue
                if callee is None:
                    callee = self._outside(place, name)
                self._calls.append(Call(caller, callee))
        for count, most, what in (
            (len(self._services), MAX_SERVICES, "services"), (len(self._calls), MAX_CALLS, "calls"),
        ):  # fmt: skip
            if count > most:
                self._document.fault(("services",), f"has {count} {what}; {most} is the most")

    def chart(self) -> Chart:
        """Return what was read."""
        return Chart(origin="file", services=tuple(self._services), calls=tuple(dict.fromkeys(self._calls)))

    def _blocks(self) -> list[Any]:
        data = self._document.data
        if not isinstance(data, dict):
            self._document.fault((), "must be a mapping of `key: value` lines; write `services:` and a list")
            return []
        for key in data:
            if key != "services":
                self._document.fault((key,), unknown(key, ["services"], "key"))
        if not data:
            self._document.fault((), "says nothing; write `services:` and a list of entries")
        blocks = data.get("services", [])
        if isinstance(blocks, list):
            return blocks
        self._document.fault(("services",), "must be a list of entries; each begins with `- name: `")
        return []

    def _entry(self, place: Place, block: Any) -> ServiceEntry | None:
        try:
            return ServiceEntry.model_validate(block)
        except ValidationError as error:
            report(error, self._document, place, ServiceEntry)
            return None

    def _add(self, name: str, cluster: str, namespace: str) -> int:
        self._services.append(Service(name=name, cluster=cluster, namespace=namespace))
        number = len(self._services) - 1
        for where in dict.fromkeys(
            ((name, cluster, namespace), (name, cluster, None), (name, None, namespace), (name, None, None))
        ):
            self._index[where] = _SEVERAL if where in self._index else number
        return number

    def _called(self, name: str, caller: ServiceEntry) -> int | None:
        """Return the service that a caller means: the one nearest to it. None for none, `_SEVERAL` for several."""
        for where in (
            (name, caller.cluster, caller.namespace), (name, caller.cluster, None), (name, None, caller.namespace),
            (name, None, None),
        ):  # fmt: skip
            found = self._index.get(where)
            if found is not None and found != _SEVERAL:
                return found
        if (name, None, None) in self._index:
            return _SEVERAL
        *places, last = name.split("/")
        match places:
            case [namespace]:
                return self._index.get((last, None, namespace))
            case [cluster, namespace]:
                return self._index.get((last, cluster, namespace))
            case _:
                return None

    def _outside(self, place: Place, name: str) -> int:
        """Add a service that something calls and no entry describes."""
        what = "is no service of this file and is taken for one outside, which calls nothing"
        if len(self.notes) < TOLD and len(self._entries) <= MAX_COMPARED:
            close = get_close_matches(name, [entry.name for entry in self._entries.values()], n=1)
            what += f"; did you mean `{close[0]}`?" if close else ""
        self.notes.append((self._document.line(place), place, what))
        return self._add(name, "", "")
