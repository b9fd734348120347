"""The jobs of the models' process, and the queue in which they wait.

Rules: tenants take turns, and each tenant's jobs are done in order, but for reviews of detectors: those are done when
nothing else waits, since a portion takes a minute and nobody waits for it. A newer fit, linker or review takes the
place of one that still waits.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Literal

from bridge.analysis.families import FitAsk
from bridge.analysis.gate import LinkAsk
from bridge.analysis.reviewing import ReviewAsk
from bridge.app import models_child as child
from bridge.model import Template, Word

Templates = tuple[Template, ...]

#: Texts in one call of the child: at 10 to 25 ms each, vectors come every quarter of a second.
CHUNK = 16


class Encode(Word, frozen=True, kw_only=True):
    """Texts to encode."""

    tenant: str
    templates: Templates
    deaths: int = 0
    asked: Literal["encode"] = "encode"


class Predict(Word, frozen=True, kw_only=True):
    """Vectors to be placed in families."""

    tenant: str
    templates: child.Vectors
    deaths: int = 0
    asked: Literal["predict"] = "predict"


class Fit(Word, frozen=True, kw_only=True):
    """Families to fit."""

    tenant: str
    ask: FitAsk
    again: bool = False  # makes a lost model anew; its answer is known already
    deaths: int = 0
    asked: Literal["fit"] = "fit"


class Link(Word, frozen=True, kw_only=True):
    """A linker to learn."""

    tenant: str
    ask: LinkAsk
    deaths: int = 0
    asked: Literal["link"] = "link"


class Review(Word, frozen=True, kw_only=True):
    """Detectors to review."""

    tenant: str
    ask: ReviewAsk
    deaths: int = 0
    asked: Literal["review"] = "review"


class Load(Word, frozen=True, kw_only=True):
    """The encoder to load."""

    tenant: str = ""
    deaths: int = 0
    asked: Literal["load"] = "load"


Job = Encode | Predict | Fit | Link | Review | Load


class Queue:
    """Jobs in order per tenant; tenants take turns."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, deque[Job]] = OrderedDict()
        self._reviews: OrderedDict[str, Review] = OrderedDict()

    def texts(self, *tenants: str) -> int:
        """Return how many texts of some tenants, or of all, wait to be encoded."""
        queues = [self._jobs.get(tenant, deque()) for tenant in tenants] if tenants else self._jobs.values()
        return sum(len(job.templates) for jobs in queues for job in jobs if isinstance(job, Encode))

    def __len__(self) -> int:
        return sum(map(len, self._jobs.values())) + len(self._reviews)

    def put(self, job: Job) -> None:
        """Add a job behind the tenant's others; a fit takes the place of one of its kind that still waits."""
        if isinstance(job, Review):
            self._reviews[job.tenant] = job
            return
        jobs = self._jobs.setdefault(job.tenant, deque())
        if isinstance(job, Fit):
            jobs = self._jobs[job.tenant] = deque(
                waiting for waiting in jobs if not isinstance(waiting, Fit) or waiting.again
            )
        if isinstance(job, Link):
            jobs = self._jobs[job.tenant] = deque(w for w in jobs if not isinstance(w, Link))
        jobs.append(job)

    def put_first(self, jobs: Sequence[Job]) -> None:
        """Add jobs of one tenant that come next of all, in this order."""
        for job in reversed(jobs):
            if isinstance(job, Review):
                self._reviews.setdefault(job.tenant, job)
                continue
            self._jobs.setdefault(job.tenant, deque()).appendleft(job)
            self._jobs.move_to_end(job.tenant, last=False)

    def take_open_chunk(self, tenant: str) -> Templates:
        """Take back what waits last of `tenant` if it is a chunk of texts with room for more; else ()."""
        jobs = self._jobs.get(tenant)
        if (
            not jobs
            or not isinstance(jobs[-1], Encode)
            or len(jobs[-1].templates) >= CHUNK
            or jobs[-1].deaths
        ):
            return ()
        job = jobs.pop()
        if not jobs:
            del self._jobs[tenant]
        return job.templates if isinstance(job, Encode) else ()

    def take(self, *, texts: bool = True) -> Job | None:
        """Return the next job and move its tenant behind the others; without `texts` none that encodes."""
        ready = (tenant for tenant, jobs in self._jobs.items() if texts or not isinstance(jobs[0], Encode))
        tenant = next(ready, None)
        if tenant is None:
            return self._reviews.popitem(last=False)[1] if self._reviews else None
        jobs = self._jobs.pop(tenant)
        job = jobs.popleft()
        if jobs:
            self._jobs[tenant] = jobs
        return job
