"""Records through aiokafka to librdkafka's own mock cluster, and brokers that refuse or are none."""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import tenacity
from aiokafka import errors
from builders import START, event
from certificates import make_certificate
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Consumer, Producer, TopicPartition
from cryptography.hazmat.primitives import serialization
from destinations import build, nasty_event
from servers import free_port

from bridge.model import Blocked, Delivered, EventKind, Retry
from bridge.ports import Append, Publish, Published, Rendered, Unreached
from connectors.transport import publish as publish_room
from connectors.transport.publish import PublishSender, _fault

PATIENCE_S = 15.0


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    """A cluster of three brokers inside of this process."""
    cluster = Producer({"test.mock.num.brokers": 3, "bootstrap.servers": "mock", "log_level": 0})
    metadata = cluster.list_topics(timeout=PATIENCE_S)
    yield ",".join(f"{each.host}:{each.port}" for each in metadata.brokers.values())
    cluster.flush(1)  # it lives as long as this producer


@pytest.fixture
async def sender() -> AsyncIterator[PublishSender]:
    made = PublishSender(wait=tenacity.wait_none())
    yield made
    await made.close()


def publish(brokers: str, topic: str, events, case: str = "kafka_cloudevents", **changes):
    connector = build(case, servers=brokers, topic=topic, **changes)
    rendered = connector.render(events, None, "")
    return connector, rendered, connector.seal(rendered.request, rendered.event_ids, START)


def read(brokers: str, topic: str, count: int) -> list:
    """Return the messages of a topic in the order of their offsets, waiting until there are so many."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"test-{topic}",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    partitions = consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic].partitions
    consumer.assign([TopicPartition(topic, each, 0) for each in partitions])
    found: list = []
    try:
        for _ in range(int(PATIENCE_S * 10)):
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                found.append(message)
            if len(found) == count:
                break
    finally:
        consumer.close()
    return found


async def test_every_record_is_in_the_topic_with_its_key_and_time(brokers, sender):
    events = [event(EventKind.UPDATED, seq) for seq in range(1, 21)]
    connector, rendered, request = publish(brokers, "in-order", events)

    response = await sender.send(request, timeout_s=PATIENCE_S)

    assert response == Published(faults=(None,) * 20)
    assert set(connector.judge(rendered, response)) == {Delivered()}
    messages = await asyncio.to_thread(read, brokers, "in-order", 20)
    assert {message.partition() for message in messages} == {messages[0].partition()}
    assert [json_of(message)["sequence"] for message in messages] == [f"{seq:010d}" for seq in range(1, 21)]
    assert messages[0].key() == b"default/3f1c9a7d52e84b06"
    assert messages[0].timestamp()[1] == int(events[0].at.timestamp() * 1000)


@pytest.mark.parametrize("case", ["kafka", "kafka_cloudevents", "kafka_ocsf"])
async def test_a_consumer_reads_a_cloud_event_whatever_the_format(brokers, sender, case):
    told = nasty_event(size=1000)
    plain = {"tls": False, "username": None, "password": None}
    _, _, request = publish(brokers, f"read-{case}", [told], case, **plain)

    assert await sender.send(request, timeout_s=PATIENCE_S) == Published(faults=(None,))

    (message,) = await asyncio.to_thread(read, brokers, f"read-{case}", 1)
    headers = dict(message.headers())
    got = from_kafka_event(
        KafkaMessage(headers=headers, key=message.key(), value=message.value()), JSONFormat()
    )
    assert got.get_id() == told.event_id
    assert got.get_subject() == told.incident.id
    assert got.get_time() == told.at


async def test_one_producer_is_kept_and_a_second_attempt_is_a_second_record(brokers, sender):
    _, _, request = publish(brokers, "twice", [event()])

    for _ in range(2):
        assert await sender.send(request, timeout_s=PATIENCE_S) == Published(faults=(None,))

    assert len(sender._producers) == 1
    messages = await asyncio.to_thread(read, brokers, "twice", 2)
    assert len({json_of(message)["id"] for message in messages}) == 1


async def test_many_requests_at_once_share_a_producer(brokers, sender):
    requests = [publish(brokers, "at-once", [event(EventKind.UPDATED, seq)])[2] for seq in range(1, 31)]

    responses = await asyncio.gather(*(sender.send(each, timeout_s=PATIENCE_S) for each in requests))

    assert set(responses) == {Published(faults=(None,))}
    assert len(sender._producers) == 1


async def test_a_fault_of_one_topic_leaves_another_its_producer(brokers, sender, monkeypatch):
    _, _, good = publish(brokers, "good", [event()])
    _, _, refused = publish(brokers, "refused", [event()])
    really, under_way, go_on = publish_room._published, asyncio.Event(), asyncio.Event()

    async def published(producer, topic, records):
        if topic == "refused":
            return (_fault(errors.TopicAuthorizationFailedError(topic)),)
        under_way.set()
        await go_on.wait()
        return await really(producer, topic, records)

    monkeypatch.setattr(publish_room, "_published", published)  # the mock cluster refuses no topic
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        sending = group.create_task(sender.send(good, timeout_s=PATIENCE_S))
        await under_way.wait()
        fault = await sender.send(refused, timeout_s=PATIENCE_S)
        go_on.set()

    assert fault.faults[0].name == "TOPIC_AUTHORIZATION_FAILED"
    assert sending.result() == Published(faults=(None,))


async def test_a_probe_writes_nothing_and_finds_the_topic(brokers, sender):
    connector, _, _ = publish(brokers, "probed", [event()])
    probe = connector.seal(connector.probe(), (), START)

    response = await sender.send(probe, timeout_s=PATIENCE_S)

    assert connector.judge(Rendered(request=probe, event_ids=("x",)), response) == (Delivered(),)


async def test_a_cluster_that_dies_is_waited_for_no_longer_than_told_and_its_producer_dropped(sender):
    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
    (broker,) = cluster.list_topics(timeout=PATIENCE_S).brokers.values()
    connector, rendered, request = publish(f"{broker.host}:{broker.port}", "t", [event()])
    assert await sender.send(request, timeout_s=PATIENCE_S) == Published(faults=(None,))

    del cluster  # and its brokers
    began = asyncio.get_running_loop().time()
    response = await sender.send(request, timeout_s=3)

    assert asyncio.get_running_loop().time() - began < 8
    assert all(isinstance(each, Retry) for each in connector.judge(rendered, response))
    assert sender._producers == {}


async def test_nobody_there_is_an_unreached_that_names_the_broker(sender):
    nowhere = f"127.0.0.1:{free_port()}"
    connector, rendered, request = publish(nowhere, "t", [event()])

    response = await sender.send(request, timeout_s=5)

    assert isinstance(response, Unreached)
    assert response.kind == "connect"
    assert not response.maybe_sent
    assert nowhere in response.reason
    assert isinstance(connector.judge(rendered, response)[0], Retry)


async def test_one_broker_of_several_is_enough(brokers, sender):
    _, _, request = publish(f"127.0.0.1:{free_port()},{brokers}", "some-down", [event()])

    assert await sender.send(request, timeout_s=PATIENCE_S) == Published(faults=(None,))


async def test_plain_text_at_a_port_without_tls_is_told_as_tls(brokers, sender):
    _, _, request = publish(brokers.split(",")[0], "t", [event()], tls=True)

    response = await sender.send(request, timeout_s=3)

    assert isinstance(response, Unreached)
    assert response.kind in {"tls", "connect", "timeout"}


async def test_certificates_that_are_gone_are_a_local_fault(brokers, sender, tmp_path):
    request = Publish(
        address=brokers, topic="t", records=(), security="tls", ca_file=str(tmp_path / "none.pem")
    )

    response = await sender.send(request, timeout_s=3)

    assert isinstance(response, Unreached)
    assert response.kind == "local"


async def test_a_request_of_another_protocol_is_refused(sender):
    assert isinstance(await sender.send(Append(path="x", lines=b""), timeout_s=1), Unreached)


def tls_of(certificate: Path, key: Path, clients: Path | None = None) -> ssl.SSLContext:
    """Return a broker's TLS; with `clients` only they are let in."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.load_cert_chain(certificate, key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


# ---- brokers that refuse ---------------------------------------------------------------------------------


class Broker:
    """As much of a broker as signing in takes: versions, the handshake, and a refusal."""

    def __init__(self, *, mechanisms: tuple[str, ...] = ("PLAIN",), silent: bool = False) -> None:
        self._mechanisms, self._silent = mechanisms, silent
        self.seen = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request = await reader.readexactly(size)
                self.seen += request
                if self._silent:
                    continue
                api, _, number = struct.unpack(">hhi", request[:8])
                answer = struct.pack(">i", number) + self._answer(api)
                writer.write(struct.pack(">i", len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, api: int) -> bytes:
        if api == 18:  # ApiVersions
            versions = ((18, 0, 0), (17, 0, 1), (36, 0, 0), (3, 0, 1), (0, 0, 3))
            return struct.pack(">hi", 0, len(versions)) + b"".join(
                struct.pack(">hhh", *each) for each in versions
            )
        if api == 17:  # SaslHandshake
            names = b"".join(struct.pack(">h", len(each)) + each.encode() for each in self._mechanisms)
            return struct.pack(">hi", 0, len(self._mechanisms)) + names
        words = b"Authentication failed: hunter2 is wrong"
        return struct.pack(">hh", 58, len(words)) + words + struct.pack(">i", 0)

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=context)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_refused_password_blocks_and_is_in_no_reason(sender, mechanism):
    """The broker lets in by PLAIN only: either the password or the mechanism is refused."""
    async with Broker().running() as address:
        signing_in = {"username": "tocsin", "password": "hunter2", "mechanism": mechanism}
        connector, rendered, request = publish(address, "t", [event()], **signing_in)

        response = await sender.send(request, timeout_s=5)

    (verdict,) = connector.judge(rendered, response)
    assert isinstance(verdict, Blocked)
    assert "refused" in verdict.reason
    assert "hunter2" not in verdict.reason


async def test_a_broker_that_says_nothing_is_waited_for_no_longer_than_told(sender):
    async with Broker(silent=True).running() as address:
        _, _, request = publish(address, "t", [event()])
        async with asyncio.timeout(10):
            response = await sender.send(request, timeout_s=2)

    assert isinstance(response, Unreached)


async def test_a_certificate_that_nobody_vouches_for_is_refused(sender, tmp_path):
    certificate, key = make_certificate(tmp_path, "broker")
    other, _ = make_certificate(tmp_path, "other")
    async with Broker().running(tls_of(certificate, key)) as address:
        _, _, request = publish(address, "t", [event()], tls=True, ca_file=str(other))
        response = await sender.send(request, timeout_s=5)

    assert isinstance(response, Unreached)
    assert response.kind == "tls"
    assert "self-signed" in response.reason


async def test_a_client_certificate_is_shown(sender, tmp_path):
    certificate, key = make_certificate(tmp_path, "broker")
    shown, shown_key = make_certificate(tmp_path, "tocsin")
    broker = Broker()
    files = {"ca_file": str(certificate), "certificate_file": str(shown), "key_file": str(shown_key)}
    async with broker.running(tls_of(certificate, key, clients=shown)) as address:
        with_it = publish(address, "t", [event()], tls=True, username="u", password="hunter2", **files)
        without = publish(
            address, "t", [event()], tls=True, username="u", password="x", ca_file=str(certificate)
        )
        first = await sender.send(without[2], timeout_s=5)
        seen_before = broker.seen
        second = await sender.send(with_it[2], timeout_s=5)

    assert isinstance(first, Unreached)
    assert seen_before == b""
    assert isinstance(second, Unreached)
    assert "refused" in second.reason  # by the broker, as far as which only a certificate leads
    assert broker.seen


async def test_a_key_that_is_encrypted_is_a_local_fault_and_nobody_is_asked(sender, tmp_path):
    certificate, key = make_certificate(tmp_path, "tocsin")
    plain = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    files = {"certificate_file": str(certificate), "key_file": str(key)}
    _, _, request = publish("127.0.0.1:1", "t", [event()], tls=True, **files)

    response = await sender.send(request, timeout_s=5)

    assert isinstance(response, Unreached)
    assert response.kind == "local"


async def test_what_is_no_kafka_is_an_unreached(sender):
    async def web(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 2000)
        writer.close()

    server = await asyncio.start_server(web, "127.0.0.1", 0)
    _, _, request = publish(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "t", [event()])
    response = await sender.send(request, timeout_s=3)
    server.close()

    assert isinstance(response, Unreached)


@pytest.mark.parametrize(
    ("error", "name", "may_pass"),
    [
        (errors.MessageSizeTooLargeError(), "MESSAGE_SIZE_TOO_LARGE", False),
        (errors.UnknownTopicOrPartitionError(), "UNKNOWN_TOPIC_OR_PARTITION", True),
        (errors.TopicAuthorizationFailedError("t"), "TOPIC_AUTHORIZATION_FAILED", False),
        (errors.NotEnoughReplicasError(), "NOT_ENOUGH_REPLICAS", True),
        (errors.NotLeaderForPartitionError(), "NOT_LEADER_FOR_PARTITION", True),
        (errors.OutOfOrderSequenceNumber(), "OUT_OF_ORDER_SEQUENCE_NUMBER", True),
        (errors.KafkaTimeoutError(), "KafkaTimeoutError", True),
        (errors.PolicyViolationError(), "POLICY_VIOLATION", False),
    ],
)
def test_errors_go_by_the_names_of_the_protocol(error, name, may_pass):
    fault = _fault(error)

    assert (fault.name, fault.may_pass) == (name, may_pass)


def json_of(message) -> dict:
    return json.loads(message.value())
