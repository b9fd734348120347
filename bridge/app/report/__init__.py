"""`tocsin replay --report`: one page for a person who wants to know whether the models deserve trust.

Rules: one HTML file that runs nothing and loads nothing; the same history under the same configuration gives the same
bytes, so it knows no clock, no file's name and no order of arrival but that of the history. It is whole or not there.

Theory of operation. `recorder` is told what goes through the replay and keeps what the store does not, bounded;
`sections` and `foresight` put that and the store at the end into words, tables and plots (`drawing`), `markup` into a
page on which every text from outside is escaped.

Decision: gathered during a replay rather than kept by a running Tocsin. Whoever wants the report of a running one
exports its history and replays it; until then it costs nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bridge.analysis.settings import AnalysisSettings
from bridge.app.report.foresight import forecasts
from bridge.app.report.markup import aside, escaped, page, said
from bridge.app.report.recorder import Recorder
from bridge.app.report.sections import ended, feedback, grouping, strangest, traffic, watched
from bridge.app.screen import span, when
from bridge.app.summary import Summary
from bridge.errors import StorageError
from bridge.storage.reading import StateReader

__all__ = ["Recorder", "make", "save"]

#: Tenants with a section of their own, by name.
MOST_TENANTS = 50


def make(recorder: Recorder, reader: StateReader, summary: Summary, settings: AnalysisSettings) -> bytes:
    """Return the page.

    Args:
        recorder: What was gathered in the replay.
        reader: Its store at the end.
        summary: Its figures.
        settings: Those in force at the end.
    """
    return page("Tocsin: model report", _parts(recorder, reader, summary, settings))


def _parts(
    recorder: Recorder, reader: StateReader, summary: Summary, settings: AnalysisSettings
) -> Iterator[str]:
    yield "<h1>Tocsin: model report</h1>"
    if summary.first_at is None or summary.last_at is None:
        yield said("There was nothing to replay: no line that could be used.")
        return
    span_s = summary.first_at.timestamp(), summary.last_at.timestamp()
    yield said(
        f"{when(summary.first_at)} to {when(summary.last_at)}, {span(span_s[1] - span_s[0])}, replayed from empty"
        " models. All times are UTC."
    )
    yield aside(
        f"Configuration at the end: grouping {settings.grouping}, sensitivity {settings.sensitivity:g}, horizon"
        f" {span(settings.horizon_s)}, {settings.false_alarms_a_week:g} false alarms a week,"
        f" models {'on' if settings.models else 'off'}."
    )
    found = ended(reader.all_incidents())
    yield from traffic(recorder, summary, found, span_s)
    tenants = sorted(recorder.tenants)
    for tenant in tenants[:MOST_TENANTS]:
        yield f"<h2>The models{_of(tenant) if len(tenants) > 1 else ''}</h2>"
        linker, *others = reader.models(tenant)
        yield from grouping(linker)
        yield from watched(tenant, others, recorder, settings)
        yield from forecasts(recorder.prospects.get(tenant, {}), reader.forecasts(tenant)["lacking"])
    if len(tenants) > MOST_TENANTS:
        yield aside(f"And {len(tenants) - MOST_TENANTS:,} more tenants.")
    yield from feedback(recorder, found)
    yield from strangest(found)


def _of(tenant: str) -> str:
    return f" of tenant {escaped(tenant)}"


def save(content: bytes, path: Path) -> None:
    """Write the page; the file is whole or not there.

    Raises:
        StorageError: It cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            unfinished = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                unfinished.replace(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
