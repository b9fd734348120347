"""The Kafka sender: aiokafka's idempotent producer, one kept per cluster, topic and way to sign in.

Rules: `aiokafka` is imported when the first record is sent. A producer that failed in any other way than about one
record's size is closed and a new one is made for the next attempt: after an error of its sequence it would refuse
everything. So no two topics share one: the fault of one would cut off what is under way to the other. No reason holds a
credential; only the brokers' addresses and Kafka's names of errors.

Decision: before a producer is started one connection is made by hand. The library tries every broker, logs what went
wrong and says only that none could be reached; a refused password must not look like a network that is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from typing import Any, Literal

from tenacity.wait import wait_base
from typing_extensions import override

from bridge.ports import Publish, Published, Record, Request, Response, Sender, Unpublished, Unreached
from connectors.transport.attempts import CONNECT_S, Trust, attempt, short_wait
from connectors.transport.names import Names

PROTOCOLS = {"plaintext": "PLAINTEXT", "tls": "SSL", "sasl": "SASL_PLAINTEXT", "sasl+tls": "SASL_SSL"}
CLOSE_S = 1.0  # how long the end waits for what is under way
INNER = 2  # Kafka waits for this part of the time; a request and its answer may each take so long
LARGEST_BYTES = 2**30  # of a request; what is too large is the broker's to say
BATCH_BYTES = 64 * 1024
#: What says of a record and not of the producer that sent it.
HARMLESS = frozenset(
    {"MESSAGE_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD", "INVALID_TIMESTAMP"}
)

Key = tuple[str, ...]


class PublishSender(Sender):
    """Sends `Publish` requests. Use and close it in one event loop."""

    def __init__(self, *, wait: wait_base | None = None, names: Names | None = None) -> None:
        self._wait = wait if wait is not None else short_wait()
        self._names = names or Names()
        self._trust = Trust()
        self._producers: dict[Key, Any] = {}
        self._turns: dict[Key, asyncio.Lock] = {}

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        if not isinstance(request, Publish):
            return Unreached(reason="not records", maybe_sent=False, kind="local")
        key = (
            request.address, request.topic, request.security, request.compression,
            request.ca_file, request.certificate_file, request.key_file,
            *(f"{name}={value}" for name, value in sorted(request.login.items())),
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout_s):
                return await attempt(lambda: self._once(key, request, timeout_s / INNER), self._wait)
        except TimeoutError:
            await self._drop(key)
            reason = f"no answer from {request.address} within {timeout_s:g} s"
            return Unreached(reason=reason, maybe_sent=bool(request.records), kind="timeout")

    async def _once(self, key: Key, request: Publish, timeout_s: float) -> Response:
        async with self._turns.setdefault(key, asyncio.Lock()):
            producer = self._producers.get(key) or await self._started(request, timeout_s)
            if isinstance(producer, Unreached):
                return producer
            self._producers[key] = producer
        faults = await _published(producer, request.topic, request.records)
        if any(fault is not None and fault.name not in HARMLESS for fault in faults):
            await self._drop(key)
        return Published(faults=faults)

    async def _started(self, request: Publish, timeout_s: float) -> Any:
        """Return a producer that has found its cluster, or why there is none."""
        try:
            from aiokafka import AIOKafkaProducer  # noqa: PLC0415 (only who has a topic needs it)
        except ImportError:
            return Unreached(
                reason='Kafka needs more: pip install "tocsin[kafka]"', maybe_sent=False, kind="local"
            )
        try:
            context = await self._context(request)
        except OSError as error:
            reason = f"a file of certificates cannot be used: {error.strerror or type(error).__name__}"
            return Unreached(reason=reason, maybe_sent=False, kind="local")
        options = _options(request, context, timeout_s)
        fault = await _first_contact(request.address, options, self._names)
        if fault is not None:
            return fault
        producer = AIOKafkaProducer(
            bootstrap_servers=request.address,
            enable_idempotence=True,
            compression_type=None if request.compression == "none" else request.compression,
            max_request_size=LARGEST_BYTES,
            max_batch_size=BATCH_BYTES,
            **options,
        )
        try:
            await producer.start()
        except Exception as error:  # noqa: BLE001 (as below)
            await _stopped(producer)
            return _unreached(request.address, error)
        except BaseException:
            await _stopped(producer)
            raise
        return producer

    async def _context(self, request: Publish) -> ssl.SSLContext | None:
        if not request.security.endswith("tls"):
            return None
        return await self._trust.context(request.ca_file, request.certificate_file, request.key_file)

    async def _drop(self, key: Key) -> None:
        producer = self._producers.pop(key, None)
        if producer is not None:
            await _stopped(producer)

    @override
    async def close(self) -> None:
        """Close all producers at once; what does not end in a moment is cut off."""
        await asyncio.gather(*(self._drop(key) for key in tuple(self._producers)))


def _options(request: Publish, context: ssl.SSLContext | None, timeout_s: float) -> dict[str, Any]:
    """Return what a connection and a producer are made with alike."""
    options: dict[str, Any] = {
        "client_id": "tocsin",
        "request_timeout_ms": max(1, round(timeout_s * 1000)),
        "security_protocol": PROTOCOLS[request.security],
        "ssl_context": context,
    }
    if request.login:
        options |= {
            "sasl_mechanism": request.login["mechanism"],
            "sasl_plain_username": request.login["username"],
            "sasl_plain_password": request.login["password"],
        }
    return options


async def _first_contact(address: str, options: dict[str, Any], names: Names) -> Unreached | None:
    """Return None as soon as one broker lets us in, else why the last one did not."""
    from aiokafka.conn import create_conn  # noqa: PLC0415

    fault: Unreached | None = None
    within = options | {"request_timeout_ms": min(options["request_timeout_ms"], round(CONNECT_S * 1000))}
    for server in address.split(","):
        host, _, port = server.rpartition(":")
        try:
            await names.addresses(host.strip("[]"), int(port))  # may it be gone to at all?
            connection = await create_conn(host.strip("[]"), int(port), **within)
        except Exception as error:  # noqa: BLE001 (what is no Kafka is read with whatever error comes of it)
            fault = _unreached(server, error)
        else:
            connection.close()
            return None
    return fault


async def _published(producer: Any, topic: str, records: Sequence[Record]) -> tuple[Unpublished | None, ...]:
    """Return what became of each record; without records, whether the topic is there."""
    from aiokafka.errors import KafkaError  # noqa: PLC0415

    if not records:
        try:
            await producer.partitions_for(topic)
        except KafkaError as error:
            return (_fault(error),)
        return ()
    waiting: list[Any] = []
    for record in records:  # in order: the producer keeps it within a partition
        try:
            headers = [(name, value.encode()) for name, value in record.headers.items()]
            waiting.append(
                await producer.send(
                    topic, record.value, record.key, timestamp_ms=record.at_ms, headers=headers
                )
            )
        except KafkaError as error:
            waiting.append(error)
    return tuple([await _outcome(each) for each in waiting])


async def _outcome(waiting: Any) -> Unpublished | None:
    from aiokafka.errors import KafkaError  # noqa: PLC0415

    if isinstance(waiting, KafkaError):
        return _fault(waiting)
    try:
        await waiting
    except KafkaError as error:
        return _fault(error, maybe_sent=True)
    return None


def _fault(error: Any, *, maybe_sent: bool = False) -> Unpublished:
    from aiokafka.errors import KafkaTimeoutError  # noqa: PLC0415

    name = getattr(error, "message", "") or type(error).__name__
    may_pass = bool(error.retriable) or isinstance(error, KafkaTimeoutError) or name in _OF_THE_PRODUCER
    return Unpublished(name=name, may_pass=may_pass, maybe_sent=maybe_sent and may_pass)


#: What a new producer does away with.
_OF_THE_PRODUCER = frozenset(
    {
        "OUT_OF_ORDER_SEQUENCE_NUMBER",
        "UNKNOWN_PRODUCER_ID",
        "INVALID_PRODUCER_EPOCH",
        "ProducerClosed",
        "UNKNOWN",
    }
)


def _unreached(server: str, error: BaseException) -> Unreached:
    from aiokafka import errors  # noqa: PLC0415

    kind: Literal["connect", "tls", "local"] = "connect"
    words = getattr(error, "strerror", None) or getattr(error, "message", None) or type(error).__name__
    if isinstance(error, ssl.SSLError):
        kind, words = "tls", getattr(error, "verify_message", "") or error.reason or "the handshake failed"
    elif isinstance(
        error,
        errors.SaslAuthenticationFailed
        | errors.AuthenticationFailedError
        | errors.UnsupportedSaslMechanismError
        | errors.IllegalSaslStateError,
    ):
        kind = "local"  # a person has to correct it, as with a file
        words = f"the user, the password or the mechanism was refused ({words})"
    return Unreached(reason=f"no connection to {server}: {words}", maybe_sent=False, kind=kind)


async def _stopped(producer: Any) -> None:
    """Stop a producer; what is not sent in a moment is not sent: the dispatcher sends it again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await producer.stop()
            return
    # What `stop` would have done after waiting for what cannot be sent.
    await producer._sender.close()  # noqa: SLF001
    await producer.client.close()
