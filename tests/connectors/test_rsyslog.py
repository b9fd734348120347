"""Real rsyslog as the receiver: over TCP, TLS and RELP, what it stores is what was meant."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import tenacity
from builders import START, event, view
from certificates import make_certificate
from destinations import NASTY, build, nasty_event
from servers import free_port, require_server

from bridge.model import Blocked, Delivered, EventKind
from connectors.common import one_line
from connectors.transport.frames import FramesSender

SEPARATOR = "\x1f"
HOSTILE = event(EventKind.UPDATED, 2, incident=view(title=NASTY, summary=NASTY), tenant='t"e]n\\ant')
#: What rsyslog writes per message: its own reading of the header, then the message as it came.
TEMPLATE = "%hostname%\x1f%app-name%\x1f%msgid%\x1f%structured-data%\x1f%msg%\x1f%rawmsg%\\n"


class Rsyslog:
    """One running rsyslogd; `lines` are the messages it has taken."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, certificate: Path) -> None:
        self.process, self.port, self.certificate = process, port, certificate

    async def message(self) -> dict[str, str]:
        """Return the next message it wrote."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 20)
        fields = line.decode().removesuffix("\n").split(SEPARATOR)
        return dict(zip(("host", "app", "msgid", "data", "message", "raw"), fields, strict=True))


def configuration(directory: Path, transport: str, port: int, certificate: Path, key: Path, size: str) -> str:
    tls = f'DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile="{certificate}" '
    tls += f'DefaultNetstreamDriverCertFile="{certificate}" DefaultNetstreamDriverKeyFile="{key}"'
    inputs = {
        "tcp": 'module(load="imtcp")\ninput(type="imtcp" address="127.0.0.1" port="{port}")',
        "tls": 'module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")\n'
        'input(type="imtcp" address="127.0.0.1" port="{port}")',
        "relp": 'module(load="imrelp")\ninput(type="imrelp" address="127.0.0.1" port="{port}" maxDataSize="64k")',
        "relp+tls": 'module(load="imrelp" tls.tlslib="openssl")\n'
        'input(type="imrelp" address="127.0.0.1" port="{port}" maxDataSize="64k" tls="on" '
        'tls.cacert="{certificate}" tls.mycert="{certificate}" tls.myprivkey="{key}")',
    }
    source = inputs[transport].format(port=port, certificate=certificate, key=key)
    if not size:
        source = source.replace('maxDataSize="64k"', "")
    largest = f'maxMessageSize="{size}" ' if size else ""
    return "\n".join(
        [
            f'global(workDirectory="{directory}" {largest}{tls if transport == "tls" else ""})',
            f'template(name="fields" type="string" string="{TEMPLATE}")',
            source,
            'action(type="omfile" file="/dev/stdout" template="fields")\n',
        ]
    )


async def accepts(port: int) -> None:
    """Return when the port is open."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


@asynccontextmanager
async def running(directory: Path, transport: str, size: str = "64k"):
    program, port = require_server("rsyslogd"), free_port()
    certificate, key = make_certificate(directory)
    (directory / "rsyslog.conf").write_text(configuration(directory, transport, port, certificate, key, size))
    process = await asyncio.create_subprocess_exec(
        *(program, "-n", "-iNONE", "-f", str(directory / "rsyslog.conf")),
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    try:
        await asyncio.wait_for(accepts(port), 20)
        yield Rsyslog(process, port, certificate)
    finally:
        with suppress(ProcessLookupError):  # a test may have ended it
            process.terminate()
        await asyncio.wait_for(process.wait(), 20)


@pytest.fixture
async def sender():
    sender = FramesSender(wait=tenacity.wait_none())
    yield sender
    await sender.close()


async def deliver(rsyslog: Rsyslog, sender: FramesSender, events, transport: str, **settings):
    ca_file = str(rsyslog.certificate) if transport.endswith("tls") else ""
    settings = {"ca_file": ca_file} | settings
    connector = build("syslog_json", address=f"127.0.0.1:{rsyslog.port}", transport=transport, **settings)
    rendered = connector.render(events, None, "")
    response = await sender.send(connector.seal(rendered.request, rendered.event_ids, START), timeout_s=10)
    return connector.judge(rendered, response), rendered.request.frames


@pytest.mark.parametrize("transport", ["tcp", "tls", "relp", "relp+tls"])
async def test_rsyslog_reads_header_data_and_json_as_they_were_meant(tmp_path, sender, transport):
    async with running(tmp_path, transport) as rsyslog:
        verdicts, _ = await deliver(rsyslog, sender, [event(), HOSTILE, nasty_event()], transport)
        got = [await rsyslog.message() for _ in range(3)]
        await sender.close()

    assert verdicts == (Delivered(),) * 3
    assert [each["msgid"] for each in got] == ["opened", "updated", "escalated"]
    assert {(each["host"], each["app"]) for each in got} == {("tocsin", "tocsin")}
    assert 'tenant="t\\"e\\]n\\\\ant"' in got[1]["data"]
    hostile = json.loads(got[1]["message"])["incident"]
    assert hostile["title"] == hostile["summary"] == NASTY
    assert json.loads(got[2]["message"])["event_id"] == nasty_event().event_id


@pytest.mark.parametrize("format", ["json", "cef", "leef"])
@pytest.mark.parametrize("transport", ["tcp", "relp"])
async def test_the_largest_message_fits_an_rsyslog_that_nobody_has_configured(
    tmp_path,
    sender,
    transport,
    format,  # noqa: A002
):
    """Its own limit is 8096 bytes; what is longer is cut, and half a JSON is none."""
    largest = event(EventKind.UPDATED, 2, episodes=100) if format == "json" else nasty_event()
    async with running(tmp_path, transport, size="") as rsyslog:
        verdicts, frames = await deliver(rsyslog, sender, [largest], transport, format=format)
        got = await rsyslog.message()
        await sender.close()

    assert verdicts == (Delivered(),)
    assert got["raw"] == frames[0].decode()
    assert len(frames[0]) > 6000  # it is worth a test only near the limit


@pytest.mark.parametrize("format", ["cef", "leef"])
async def test_rsyslog_passes_cef_and_leef_on_byte_for_byte(tmp_path, sender, format):  # noqa: A002
    async with running(tmp_path, "relp") as rsyslog:
        verdicts, frames = await deliver(rsyslog, sender, [HOSTILE, nasty_event()], "relp", format=format)
        got = [await rsyslog.message() for _ in range(2)]
        await sender.close()

    assert verdicts == (Delivered(),) * 2
    assert [each["raw"] for each in got] == [frame.decode() for frame in frames]
    assert all("#0" not in each["raw"] for each in got)  # nothing that rsyslog had to escape
    if format == "cef":
        assert got[0]["message"].startswith("CEF:0|Tocsin|Tocsin|1|incident.updated|")
        assert one_line(NASTY)[:3].replace("|", "\\|") in got[0]["message"]


async def test_an_acknowledged_message_is_there_after_rsyslog_has_ended(tmp_path, sender):
    async with running(tmp_path, "relp") as rsyslog:
        events = [event(EventKind.UPDATED, seq) for seq in range(1, 51)]
        verdicts, _ = await deliver(rsyslog, sender, events, "relp")
        await sender.close()
        rsyslog.process.terminate()
        got = [(await rsyslog.message())["message"] for _ in range(50)]

    assert verdicts == (Delivered(),) * 50
    assert [json.loads(text)["seq"] for text in got] == list(range(1, 51))


async def test_a_receiver_that_came_back_is_reached_again(tmp_path, sender):
    async with running(tmp_path, "relp") as rsyslog:
        assert (await deliver(rsyslog, sender, [event()], "relp"))[0] == (Delivered(),)
        port = rsyslog.port
    gone, _ = await deliver(Rsyslog(rsyslog.process, port, rsyslog.certificate), sender, [event()], "relp")

    assert not isinstance(gone[0], Delivered)

    async with running(tmp_path, "relp") as rsyslog:
        assert (await deliver(rsyslog, sender, [event()], "relp"))[0] == (Delivered(),)
        await sender.close()


@pytest.mark.parametrize("transport", ["tls", "relp+tls"])
async def test_a_receiver_with_an_unknown_certificate_gets_nothing(tmp_path, sender, transport):
    other, _ = make_certificate(tmp_path, "other")
    async with running(tmp_path, transport) as rsyslog:
        verdicts, _ = await deliver(rsyslog, sender, [event()], transport, ca_file=str(other))

    assert isinstance(verdicts[0], Blocked)
    assert "self-signed" in verdicts[0].reason
