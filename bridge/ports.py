"""What the pure rooms and the connectors ask of the world, as protocols and values.

Rule: nothing here does anything. A connector is pure (`render`, `judge`, `seal`); a sender moves bytes; the
dispatcher in between owns order, waiting, retrying and giving up.

Decision: the frozen part of a request never holds a secret. `render` writes what may be stored for days;
`seal` adds address secrets, credentials and signatures for one attempt and its result is never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from typing import Literal, Protocol

import msgspec

from bridge.model import Event, Verdict, Word

Memory = dict[str, str]


class Caps(Word, frozen=True, kw_only=True):
    """The static truth about one destination kind; drives the dispatcher, the docs and the contract suite."""

    mode: Literal["every", "newest"]  # every event, or the newest state per incident (chat, paging)
    max_events: int  # in one request
    max_bytes: int  # of one request's body
    delivery_class: Literal["exactly-once effect", "at least once, deduplicate on event_id", "best effort"]
    updates: bool = False  # can change a message it already sent
    atomic: bool = False  # a batch is taken whole or not at all, in order
    pages: bool = False  # wakes people: an incident that opened and closed unseen is not told
    wait_s: float = 0.0  # the route's default `wait` for this kind
    #: How long one event waits after its first, second, ... failure, the last one repeated; (): the usual backoff.
    waits_s: tuple[float, ...] = ()


# ---- requests: one type per protocol, one sender each ----------------------------------------------------


class Auth(Word, frozen=True, kw_only=True):
    """Whose credentials a request goes with, where a cloud's own library finds and renews them.

    Set by `seal`, for one attempt; `options` (region, service, scope, keys, ...) may hold secrets.
    """

    vendor: Literal["aws", "azure", "google"]
    options: dict[str, str] = msgspec.field(default_factory=dict)


class Http(Word, tag="http", frozen=True, kw_only=True):
    """One HTTP request. `url` is absolute; `seal` may replace it by one that holds a secret."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    ca_file: str = ""  # certificates to trust; "" is the system's own
    foreign: bool = False  # the address is not from the configuration: it has to be a public one
    auth: Auth | None = None  # what the sender adds credentials for; the other headers are complete
    #: Set by `seal`: the body is JSON lines, which go as one Parquet file with these columns (as `Table.shape`).
    shape: str = ""
    #: What `judge` must know of the event; stored with the request and never sent.
    about: dict[str, str] = msgspec.field(default_factory=dict)


class Frames(Word, tag="frames", frozen=True, kw_only=True):
    """Messages for one stream connection, already framed except for what the transport numbers (RELP)."""

    address: str  # host:port
    transport: Literal["tcp", "tls", "relp", "relp+tls"]
    frames: tuple[bytes, ...]  # one per event, without framing; none: only connect
    ca_file: str = ""  # certificates to trust; "" is the system's own


class Append(Word, tag="append", frozen=True, kw_only=True):
    """Lines for one local file, each ending in a newline."""

    path: str
    lines: bytes


class Record(Word, frozen=True, kw_only=True):
    """One record of a Kafka topic. Records of the same key keep their order."""

    key: bytes
    value: bytes
    headers: dict[str, str]
    at_ms: int  # milliseconds since the epoch


class Publish(Word, tag="publish", frozen=True, kw_only=True):
    """Records for one Kafka topic; no records: only look whether the topic is there."""

    address: str  # host:port of some brokers, apart by commas
    topic: str
    records: tuple[Record, ...]
    security: Literal["plaintext", "tls", "sasl", "sasl+tls"] = "plaintext"
    compression: Literal["none", "gzip"] = "none"
    ca_file: str = ""  # certificates to trust; "" is the system's own
    certificate_file: str = ""  # what to show of ourselves; "" is nothing
    key_file: str = ""
    #: How to sign in: `mechanism`, `username`, `password`. Set by `seal`, for one attempt.
    login: dict[str, str] = msgspec.field(default_factory=dict)


class Upsert(Word, tag="upsert", frozen=True, kw_only=True):
    """Rows for the tables of one SQL database, written in one transaction.

    `seal` adds what is run: `setup` before the first rows of a connection, then each of `statements`, which gets
    `rows` as its one parameter. The stored part is the rows alone, so that newer statements write older rows.
    """

    address: str  # host:port, where a host that begins with / is the folder of a socket
    database: str
    user: str
    rows: bytes  # a JSON array
    password: str = ""  # of one attempt
    tls: bool = True
    ca_file: str = ""  # certificates to trust; "" is the system's own
    setup: str = ""
    statements: tuple[str, ...] = ()
    is_rehearsal: bool = False  # all of it is done and then taken back


class Table(Word, tag="table", frozen=True, kw_only=True):
    """Rows that become one Parquet file of a local folder, whole or not at all."""

    path: str  # the folder
    name: str  # of the file in it; one that is there is replaced
    rows: bytes  # a JSON array of objects
    shape: str  # their columns: JSON that gives a type of DuckDB by name, nested as the rows are


class Mail(Word, tag="mail", frozen=True, kw_only=True):
    """One e-mail, whole, with its envelope; without recipients only the connection and the login are tried."""

    address: str  # host:port
    security: Literal["starttls", "tls", "plain"]
    sender: str
    recipients: tuple[str, ...]
    message: bytes  # as RFC 5322 has it, lines end in CRLF
    hello: str  # what EHLO says who is speaking
    username: str = ""  # set by `seal`, for one attempt, as is the password; "": without a login
    password: str = ""
    ca_file: str = ""  # certificates to trust; "" is the system's own
    #: What `judge` must know of the event; stored with the request and never sent.
    about: dict[str, str] = msgspec.field(default_factory=dict)


class Notice(Word, tag="notice", frozen=True, kw_only=True):
    """A short text for whatever a library knows how to reach; without a text the address is only looked at."""

    url: str  # a secret: set by `seal`, for one attempt
    title: str
    text: str
    level: Literal["info", "success", "warning", "failure"] = "info"


Request = Http | Frames | Append | Publish | Upsert | Table | Mail | Notice


def size_bytes(request: Request) -> int:
    """Return how large the part of a request is that `Caps.max_bytes` bounds."""
    match request:
        case Http():
            return len(request.body)
        case Frames():
            return sum(map(len, request.frames))
        case Append():
            return len(request.lines)
        case Mail():
            return len(request.message)
        case Notice():
            return len(request.text.encode())
        case Upsert() | Table():
            return len(request.rows)
        case Publish():
            return sum(map(record_bytes, request.records))


def record_bytes(record: Record) -> int:
    """Return how large a record is: key, value and headers."""
    return len(record.key) + len(record.value) + sum(map(len, chain(*record.headers.items())))


class Rendered(Word, frozen=True, kw_only=True):
    """A request and the events it carries, in order. Its bytes freeze at the first claim.

    `event_ids` may be only the first few of what `render` was given, at least one: the others would have made
    the body larger than `caps.max_bytes`. `step` is the one that `render` was given.
    """

    request: Request
    event_ids: tuple[str, ...]
    step: str = ""


# ---- responses -------------------------------------------------------------------------------------------


class HttpResponse(Word, tag="http", frozen=True, kw_only=True):
    """What came back. Header names are lower case; the body is cut at 64 KiB."""

    status: int
    headers: dict[str, str]
    body: bytes


class FramesResponse(Word, tag="frames", frozen=True, kw_only=True):
    """How many frames were accepted, in order. Without RELP "accepted" means handed to the kernel."""

    accepted: int
    refused: str = ""  # why the next one was not; "" when all were
    answered: bool = False  # the receiver answered the next one with an error (RELP 5xx)


class Appended(Word, tag="appended", frozen=True, kw_only=True):
    """The lines are in the file, or the file is in its folder, and fsynced."""


class Unpublished(Word, frozen=True, kw_only=True):
    """Why a record was not taken: the error's name in Kafka's protocol, or in the client."""

    name: str
    may_pass: bool  # by Kafka's own word; waiting may heal it
    maybe_sent: bool = False


class Published(Word, tag="published", frozen=True, kw_only=True):
    """What became of each record, in order: None for one that all replicas in sync have."""

    faults: tuple[Unpublished | None, ...]


class Upserted(Word, tag="upserted", frozen=True, kw_only=True):
    """The rows are committed; `returned` is what the statements gave back, in order, as text."""

    returned: tuple[str, ...] = ()


class Refused(Word, tag="refused", frozen=True, kw_only=True):
    """The database answered with an error, and nothing is committed."""

    code: str  # SQLSTATE
    reason: str


class MailResponse(Word, tag="mail", frozen=True, kw_only=True):
    """What the mail server said: its last word on the message, and on each recipient that it refused.

    `code` 250 to 252 is success: the server has the message for all who are not in `refused`.
    """

    code: int
    text: str
    #: To which command; "rcpt" if it took no recipient at all.
    to: Literal["connect", "hello", "auth", "mail", "rcpt", "data"]
    refused: dict[str, tuple[int, str]] = msgspec.field(default_factory=dict)  # by address: code and text


class NoticeResponse(Word, tag="notice", frozen=True, kw_only=True):
    """Whether it was taken; nothing more is told."""

    taken: bool


class Unreached(Word, tag="unreached", frozen=True, kw_only=True):
    """No answer. `maybe_sent`: the bytes may have arrived (a timeout or reset after sending)."""

    reason: str
    maybe_sent: bool
    #: "local" faults (no space, no permission) and refused certificates do not pass by waiting a second.
    kind: Literal["connect", "timeout", "reset", "tls", "local"] = "connect"


Response = (
    HttpResponse
    | FramesResponse
    | Appended
    | Published
    | Upserted
    | Refused
    | MailResponse
    | NoticeResponse
    | Unreached
)


class Connector(Protocol):
    """One destination kind, configured. Pure: no I/O, no clock, no randomness; same input, same bytes.

    `caps` of the class is what holds for the kind's usual settings; `caps` of the object is the truth (syslog
    is "best effort" over TCP and "at least once" over RELP).
    """

    caps: Caps

    def wants(self, event: Event, memory: Memory | None) -> bool:  # noqa: ARG002 (for those who override it)
        """Return whether `event` needs a request at all; without one it counts as delivered at once.

        Asked at the first step and before coalescing: what is not wanted supersedes nothing.
        """
        return True

    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        """Return the request for `events` (at most `caps.max_events`, in order).

        `memory` is what an earlier `Delivered` left for the incident of the first event; None if nothing.
        `step` is "" at first, else the `next_step` of a verdict. `max_bytes` is given for a single event whose
        request was too large: it then has to be shorter than that, at the cost of lists and texts, never of ids
        and counts. No secret may be in the result.
        """
        ...

    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        """Return one verdict per event id, in order. Never raises for what a destination may answer.

        Looks at nothing but its arguments: what it must know of an event stands in the frozen request.
        """
        ...

    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        """Return the request with address, credentials and signatures for one attempt at `now`.

        Addresses are written anew from the settings, so that a corrected configuration heals what is frozen.
        """
        ...

    def ask(self, token: str) -> Request | None:  # noqa: ARG002 (for those who override it)
        """Return the request that asks for an asynchronous acknowledgement; None where there is none."""
        return None

    def probe(self) -> Request | None:
        """Return a harmless request that shows whether address and credentials work; None if none exists.

        It is sealed like any other; its answer is judged with one made-up event id in `Rendered`, and
        `Delivered` means that the way is clear.
        """
        return None


class Sender(Protocol):
    """Moves one request of one protocol. The only code that opens sockets or files for a destination."""

    async def send(self, request: Request, *, timeout_s: float) -> Response:
        """Return what came back; a remote fault is an `Unreached`, never an exception."""
        ...

    async def close(self) -> None:
        """Close connections that are kept open."""
        ...


class Encoder(Protocol):
    """Turns template texts into unit vectors."""

    model: str

    def encode(self, texts: Sequence[str]) -> Sequence[bytes]:
        """Return one vector per text: 384 little-endian float16, unit length, one text encoded at a time."""
        ...


def encode_request(request: Request) -> bytes:
    """Return the stored form of a request."""
    return msgspec.msgpack.encode(request)


def decode_request(stored: bytes) -> Request:
    """Return the request that `encode_request` stored."""
    request: Request = msgspec.msgpack.decode(stored, type=Request)
    return request
