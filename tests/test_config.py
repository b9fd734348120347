from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from certificates import make_certificate
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from signing import key_pair

import connectors
from bridge import config
from bridge.analysis.settings import AnalysisSettings, Destination, Heartbeat, Route, Source
from bridge.config.document import read
from bridge.config.faults import models_in
from bridge.config.models import Configuration
from bridge.config.values import Duration, Size, duration_s, size_bytes
from bridge.errors import ConfigError
from bridge.model import EventKind

ROOT = Path(__file__).parents[1]
CONFIGS = Path(__file__).parent / "configs"
KINDS = {kind: connectors.load(kind) for kind in connectors.KINDS}
TOKEN = "0123456789abcdef0123456789abcdef"
VARIABLES = {
    "SENDER_TOKEN": TOKEN,
    "CALLBACK_URL": "https://automation.example.com/hook",
    "CALLBACK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "SPLUNK_TOKEN": TOKEN,
    "SLACK_TOKEN": "xoxb-0",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.example.com/services/x",
    "PAGERDUTY_KEY": TOKEN,
    "ALERTMANAGER_TOKEN": TOKEN,
    "ALERTMANAGER_PASSWORD": "p",
}


def load(tmp_path: Path, text: str, **options: Any) -> config.Settings:
    path = tmp_path / "tocsin.yaml"
    path.write_text(text)
    return config.load(path, KINDS, options.pop("environ", {}), **options)


def faults(tmp_path: Path, text: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **options)
    return [fault.replace(str(tmp_path) + "/", "") for fault in caught.value.faults]


# ---- what a bad file gets --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_bad_file_gets_exactly_these_faults(path, monkeypatch):
    """The first lines of each file say which faults it has, as `line: path: what to write instead`."""
    monkeypatch.chdir(CONFIGS)
    head = re.match(r"(# .*\n)+", path.read_text())[0]
    with pytest.raises(ConfigError) as caught:
        config.load(path, KINDS, {})
    assert [f"# {fault.removeprefix(f'{path}:')}" for fault in caught.value.faults] == head.splitlines()


def test_no_fault_repeats_a_secret(tmp_path):
    text = """
tenants:
  - name: default
    tokens:
      - {token: "hush hush hush hush", role: sender}
      - {token: hushhus, role: sender}
destinations:
  - {name: a, kind: splunk, url: "https://x:8088", token: [hush]}
  - {name: b, kind: callback, url: "hush://x", secret: whsec_hush}
  - {name: c, kind: pagerduty, routing_key: "hu\\nsh", routing_kez: hush}
  - {name: d, kind: slack, url: hush}
"""
    found = faults(tmp_path, text)
    assert len(found) >= 6
    assert "hus" not in "\n".join(found).replace("default", "")


def test_a_file_that_is_not_there_is_one_fault(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(tmp_path / "nothing.yaml", KINDS, {})


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"listen: 127.0.0.1:1\n# \xff\n")
    with pytest.raises(ConfigError, match=r"x\.yaml:2: is not UTF-8"):
        config.load(tmp_path / "x.yaml", KINDS, {})


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text):
    document = read(text, {})
    assert all(fault.what for fault in document.faults)


PLAIN = st.text(st.characters(exclude_characters="$", exclude_categories=["Cs"]))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | PLAIN,
        lambda inner: st.lists(inner) | st.dictionaries(PLAIN, inner),
        max_leaves=20,
    )
)
def test_plain_yaml_is_read_as_pyyaml_reads_it(value):
    text = yaml.safe_dump({"key": value}, allow_unicode=True)
    document = read(text, {})
    assert (document.faults, document.data) == ([], yaml.safe_load(text))


@given(
    st.dictionaries(
        st.sampled_from([*Configuration.model_fields, "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["default", "1h", "file", "x"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["name", "kind", "path", "to", "match", "tokens", "token", "raw", "window"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ),
        max_size=4,
    )
)
def test_any_shape_gives_settings_or_faults_with_places(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "shape.yaml"
    path.write_text(yaml.safe_dump(data))
    try:
        config.load(path, KINDS, {})
    except ConfigError as error:
        assert all(re.match(rf"{re.escape(str(path))}:\d+: ", fault) for fault in error.faults)  # noqa: PT017


# ---- what a good file gives ------------------------------------------------------------------------------


def test_without_a_configuration_it_listens_on_loopback_and_writes_one_file():
    settings = config.default(KINDS, data_dir=Path("/var/lib/tocsin"))
    assert (settings.host, settings.port, settings.tokens) == ("127.0.0.1", 9195, ())
    assert settings.data_dir == Path("/var/lib/tocsin")
    assert settings.tenants == ("default",)
    assert [(each.name, each.kind) for each in settings.destinations] == [("file", "file")]
    assert settings.destinations[0].settings.path == "/var/lib/tocsin/incidents.jsonl"
    assert settings.analysis == AnalysisSettings(
        heartbeats=(Heartbeat(match=('alertname="Watchdog"',), missing_after_s=900.0),),
        destinations=(Destination(name="file", wait_s=0.0),),
        routes=(Route(to=("file",)),),
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}\n"])
def test_an_empty_file_is_the_default(tmp_path, text):
    assert load(tmp_path, text) == config.default(KINDS)


def test_everything_that_thinking_must_know_is_handed_on(tmp_path):
    settings = load(
        tmp_path,
        """
listen: "[::1]:80"
external_url: https://tocsin.example.com/
tenants: [{name: ops, tokens: [{token: TOKEN, role: admin}], retention: {history: 2d}}]
sources: [{name: eu, repeat_interval: 1h, group_interval: 30s}]
heartbeats: []
analysis: {window: 1h30m, severities: {P0: critical}, sensitivity: 1, unknown_severity: info,
           grouping: bursts, reclustering: hdbscan}
destinations:
  - {name: siem, kind: splunk, url: "https://splunk:8088", token: t}
  - {name: chat, kind: slack, token: t, channel: "#ops"}
routes:
  - match: '{team=~"db|net", severity="critical"}'
    to: [chat, siem, chat]
    kinds: [opened, closed]
    wait: 0s
    repeat: 4h
    tenant: ops
retention: {history: 7d}
log: {level: debug}
""".replace("TOKEN", TOKEN),
    )
    assert (settings.host, settings.port) == ("::1", 80)
    assert settings.external_url == settings.analysis.external_url == "https://tocsin.example.com"
    assert settings.tokens[0].secret.get_secret_value() == TOKEN
    assert (settings.tokens[0].tenant, settings.tokens[0].role) == ("ops", "admin")
    assert TOKEN not in repr(settings)
    analysis = settings.analysis
    assert analysis.sources == (
        Source(tenant="ops", name="eu", repeat_interval_s=3600.0, group_interval_s=30.0),
    )
    assert analysis.heartbeats == ()
    assert (analysis.window_s, analysis.sensitivity) == (5400.0, 1.0)
    assert (analysis.grouping, analysis.reclustering) == ("bursts", "hdbscan")
    assert analysis.severities["p0"] == analysis.severities["page"] == "critical"
    assert analysis.destinations == (
        Destination(name="siem", wait_s=0.0),
        Destination(name="chat", wait_s=30.0),
    )
    assert analysis.routes == (
        Route(
            match=('team=~"db|net"', 'severity="critical"'),
            to=("chat", "siem"),
            kinds=(EventKind.OPENED, EventKind.CLOSED),
            wait_s=0.0,
            repeat_s=14400.0,
            tenant="ops",
        ),
    )
    assert analysis.history_s == settings.history_s == 7 * 86400
    assert (analysis.kept_s("ops", "history"), analysis.kept_s("other", "history")) == (2 * 86400, 7 * 86400)
    assert analysis.kept_s("ops", "incidents") == analysis.incidents_s
    assert settings.log_level == "debug"


def test_destinations_without_routes_get_everything(tmp_path):
    text = "destinations:\n  - {name: a, kind: file, path: ./a}\n  - {name: b, kind: file, path: ./b}\n"
    assert load(tmp_path, text).analysis.routes == (Route(to=("a", "b")),)


def test_a_destination_without_a_route_is_noted_and_not_a_fault(tmp_path):
    text = "destinations: [{name: a, kind: file, path: ./a}]\nroutes: []\n"
    settings = load(tmp_path, text)
    assert settings.notes == (
        "destinations.a: no route leads here, so it gets nothing; name it in routes[].to",
    )


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("./data/state.db", "Tocsin's own stores"),
        ("data/inbox.db-wal", "Tocsin's own stores"),
        ("./data/../data/front.lock", "Tocsin's own stores"),
        ("./data/troubles.json", "Tocsin's own stores"),
        ("./data/token.key", "Tocsin's own stores"),
        ("./data/audit-2026-01.jsonl", "Tocsin's own stores"),
        ("./data", "is a directory"),
        ("./elsewhere/", "is a directory"),
        ("./data/incidents.jsonl", None),
        ("./elsewhere/state.db", None),
    ],
)
def test_a_file_destination_stays_out_of_tocsins_own_stores(tmp_path, monkeypatch, path, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    text = yaml.safe_dump({"destinations": [{"name": "a", "kind": "file", "path": path}]})
    if what is None:
        assert load(tmp_path, text).destinations
    else:
        [fault] = faults(tmp_path, text)
        assert "destinations.a.path: " in fault
        assert what in fault


def test_alertmanagers_to_ask_are_handed_on_and_their_secrets_are_kept_from_the_inbox(tmp_path):
    (tmp_path / "secret").write_text("s3cret\n")
    settings = load(
        tmp_path,
        f"""
sources:
  - {{name: eu, alertmanagers: ["http://am-0:9093/", "https://am-1/prefix"], poll_interval: 1m, receiver: team/db}}
  - {{name: us, alertmanagers: ["http://am:9093"], username: u, password_file: {tmp_path}/secret, group_interval: 30s}}
  - {{name: asia, alertmanagers: ["http://am:9093"], token: s3cret}}
  - {{name: none}}
""",
    )
    eu, us, asia = settings.polls
    assert (eu.tenant, eu.source, eu.receiver, eu.interval_s) == ("default", "eu", "team/db", 60.0)
    assert eu.alertmanagers == ("http://am-0:9093", "https://am-1/prefix")
    assert (eu.token, eu.username, eu.ca_file) == (None, None, "")
    assert (us.username, us.password.get_secret_value(), us.group_interval_s) == ("u", "s3cret", 30.0)
    assert (asia.token.get_secret_value(), asia.interval_s, asia.receiver) == ("s3cret", 30.0, "tocsin")
    assert "s3cret" not in repr(settings)
    assert [source.name for source in settings.analysis.sources] == ["eu", "us", "asia", "none"]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('alertmanagers: ["am-0:9093"]', "must begin with http://"),
        ('alertmanagers: [""]', "must begin with http://"),
        ('alertmanagers: ["http://u:p@am"]', "without user"),
        ('alertmanagers: ["http://am/?a=b"]', "without user, query"),
        ('alertmanagers: ["http://am", "http://am/"]', "twice"),
        ("alertmanagers: http://am", "list"),
        ('alertmanagers: ["http://am"], poll_interval: 30', "duration"),
        ('alertmanagers: ["http://am"], poll_interval: 100ms', "at least 1s"),
        ('alertmanagers: ["http://am"], receiver: ""', "receiver"),
        ('alertmanagers: ["http://am"], token: a, token_file: /dev/null', "empty"),
        ('alertmanagers: ["http://am"], token: "a\\nb"', "visible ASCII"),
        ('alertmanagers: ["http://am"], username: u', "go together"),
        ('alertmanagers: ["http://am"], password: p', "go together"),
        ('alertmanagers: ["http://am"], token: t, username: u, password: p', "not both"),
        ('alertmanagers: ["http://am"], ca_file: /nowhere.pem', "no certificates"),
        ("token: t", "nobody to show them to"),
        ("token_file: /nowhere", "cannot read /nowhere"),
    ],
)
def test_what_is_wrong_with_asking_is_said(tmp_path, keys, told):
    found = faults(tmp_path, f"sources: [{{name: eu, {keys}}}]\n")
    assert any(told in fault and "sources" in fault for fault in found), found


PROMETHEUS = "sources: [{name: eu, tenant: default, prometheus: 'http://prom:9090/'}, {name: us}]\n"


def test_series_are_handed_on_with_whom_to_ask(tmp_path):
    text = (
        PROMETHEUS
        + """
analysis:
  series:
    - {name: load, query: "sum(load)"}
    - {name: errors, query: "rate(errors[5m])", source: eu, step: 5m, labels: {service: shop}}
"""
    )
    load_, errors = load(tmp_path, text).series
    assert load_ == config.SeriesSettings(
        tenant="default",
        source="eu",
        name="load",
        query="sum(load)",
        url="http://prom:9090",
        step_s=60.0,
        labels={},
    )
    assert (errors.step_s, errors.labels) == (300.0, {"service": "shop"})


@pytest.mark.parametrize(
    ("sources", "series", "told"),
    [
        ("", "{name: a, query: b}", "analysis.series.a: has nobody to ask; write `prometheus: url`"),
        (PROMETHEUS, "{name: a, query: b, source: us}", "analysis.series.a.source: names no source with a Prometheus"),
        (PROMETHEUS.replace("{name: us}", "{name: us, prometheus: 'http://p'}"), "{name: a, query: b}",
         "write `source:` with one of eu, us"),
        (PROMETHEUS, "{name: a, query: b}, {name: a, query: c}", "analysis.series.a.name: is the name of an earlier"),
        (PROMETHEUS, "{name: a, query: b, step: 100ms}", "analysis.series.a.step: must be at least 1s"),
        (PROMETHEUS, "{name: a}", "analysis.series.a.query: is missing"),
        (PROMETHEUS, "{name: a, query: ''}", "analysis.series.a.query"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_series_is_said(tmp_path, sources, series, told):
    found = faults(tmp_path, f"{sources}analysis: {{series: [{series}]}}\n")
    assert any(told in fault for fault in found), found


def test_a_list_without_destinations_is_noted(tmp_path):
    assert "incidents go nowhere" in load(tmp_path, "destinations: []").notes[0]
    assert load(tmp_path, "listen: 127.0.0.1:1").notes == ()


def test_a_linker_that_can_learn_nothing_is_noted(tmp_path):
    assert load(tmp_path, "analysis: {grouping: linker}").notes == ()
    [note] = load(tmp_path, "analysis: {grouping: linker, models: false}").notes
    assert note.startswith("analysis.grouping: linker is learned with the models")


def test_a_reminder_that_reaches_only_pagers_is_noted(tmp_path):
    text = (
        f"destinations: [{{name: pager, kind: pagerduty, routing_key: {TOKEN}}}, {{name: file, kind: file, path: ./x}}]\n"
        "routes:\n"
        "  - {to: [pager, file], repeat: 4h}\n"
        "  - {to: [pager], repeat: 4h}\n"
    )
    [note] = load(tmp_path, text).notes
    assert note.startswith("routes[1].repeat: reminds nobody")


def test_the_command_line_goes_before_the_file(tmp_path):
    text = "listen: 127.0.0.1:1\nstorage: {path: ./there}\n"
    settings = load(tmp_path, text, listen="127.0.0.1:2", data_dir=Path("here"))
    assert (settings.port, settings.data_dir) == (2, Path("here"))


def test_a_fault_of_the_command_line_is_said_to_be_there(tmp_path):
    assert faults(tmp_path, "listen: 127.0.0.1:1\n", listen="0.0.0.0:2")[0].startswith(
        "command line: listen:"
    )


def test_tokens_open_the_door_to_other_machines(tmp_path):
    text = f"listen: 0.0.0.0:9195\ntenants: [{{name: default, tokens: [{{token: {TOKEN}}}]}}]\n"
    settings = load(tmp_path, text)
    assert (settings.host, settings.tokens[0].role) == ("0.0.0.0", "sender")


@pytest.mark.parametrize("key", ["source", "header", "timestamp_header"])
def test_what_slack_and_pagerduty_sign_has_the_form_that_they_chose(tmp_path, key):
    text = "tenants: [{name: default, signatures: [{secret: 0123456789abcdef, scheme: slack%s}]}]\n"
    [signature] = load(tmp_path, text % "").credentials.signatures
    assert (signature.role, signature.scheme, signature.source) == ("responder", "slack", None)
    with pytest.raises(ConfigError, match=f"{key} is for the scheme grafana"):
        load(tmp_path, text % f", {key}: X-Own")


def test_a_provider_for_all_tenants_opens_the_door_of_those_without_credentials(tmp_path):
    text = "listen: 0.0.0.0:9195\ntenants: [{name: acme, allow_from: [10.0.0.0/8]}, {name: globex}]\n"
    text += "logins: [{issuer: https://i.example, audience: tocsin, jwks_url: https://i.example/keys}]\n"
    [login] = load(tmp_path, text).credentials.logins
    assert login.tenants == {"acme": (("10.0.0.0/8",),), "globex": ()}
    assert (login.tenant_claim, login.role_claim, login.roles["admin"]) == ("tenant", "role", "admin")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("[::]", False),
        ("", False),
        ("tocsin", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host, expected):
    assert config.is_loopback(host) is expected


def test_variables_are_replaced_after_yaml_was_read(tmp_path):
    text = """
external_url: https://${HOST}/
analysis: {sensitivity: "${HOW}", models: "${MODELS}"}
destinations: [{name: siem, kind: splunk, url: "https://s:8088", token: "${TOKEN}", index: "$$${X}$"}]
"""
    environ = {"HOST": "tocsin", "HOW": "0.25", "MODELS": "no", "TOKEN": "12345", "X": "a: b}"}
    settings = load(tmp_path, text, environ=environ)
    assert settings.external_url == "https://tocsin"
    assert (settings.analysis.sensitivity, settings.analysis.models) == (0.25, False)
    splunk = settings.destinations[0].settings
    assert splunk.token.reveal() == "12345"
    assert splunk.index == "$a: b}$"


def test_a_secret_file_is_read_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text(f"{TOKEN}\n")
    text = "tenants: [{name: default, tokens: [{token_file: ./secret, role: viewer}]}]\n"
    assert load(tmp_path, text).tokens[0].secret.get_secret_value() == TOKEN


def test_anchors_and_merges_work_and_own_keys_win(tmp_path):
    text = """
destinations: [{name: file, kind: file, path: ./x}]
routes:
  - &base {to: [file], wait: 5m, repeat: 1h}
  - {<<: *base, wait: 1m}
"""
    assert [route.wait_s for route in load(tmp_path, text).analysis.routes] == [300.0, 60.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("30d", 2_592_000),
        ("2w", 1_209_600),
        ("500ms", 0.5),
        ("0s", 0),
    ],
)
def test_durations_are_those_of_prometheus(text, expected):
    assert duration_s(text) == expected


@pytest.mark.parametrize("text", ["", "30", "5 m", "1.5h", "30m1h", "-5m", "5M", "99y", 30, None, "٣s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="must be"):
        duration_s(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("64MiB", 64 << 20), ("500kB", 500_000), ("1GiB", 1 << 30), ("10B", 10)]
)
def test_sizes_have_units(text, expected):
    assert size_bytes(text) == expected


# ---- the shipped files -----------------------------------------------------------------------------------


#: Settings of which the shipped file shows an example, since their default is nothing at all.
EXAMPLES = {
    "destinations", "sources[].name", "sources[].alertmanagers", "analysis.severities", "analysis.series",
    "tls.client_ca_file",
}  # fmt: skip


def uncommented(text: str) -> str:
    """Take away the # of every example, as the file's head says."""
    return re.sub(r"^#(?! \S|$)", "", text, flags=re.MULTILINE)


def described(model: type[BaseModel], place: str = "") -> list[tuple[str, FieldInfo]]:
    """Return every setting with its path; entries of lists all have the path `name[]`."""
    found = []
    for name, field in model.model_fields.items():
        at = f"{place}{field.alias or name}"
        found.append((at, field))
        inner = next(models_in(field.annotation), None)
        if inner is not None:
            found += described(inner, at + ("[]." if "list" in str(field.annotation) else "."))
    return found


def values_at(data: Any, path: str) -> list[Any]:
    for part in path.split("."):
        name, is_list = part.removesuffix("[]"), part.endswith("[]")
        data = [entry[name] for entry in data if isinstance(entry, dict) and name in entry]
        data = [inner for entry in data for inner in entry] if is_list else data
    return data


@pytest.fixture(scope="module")
def shipped() -> Any:
    document = read(uncommented((ROOT / "config/tocsin.yaml").read_text()), VARIABLES)
    assert document.faults == []
    return document.data


def test_the_shipped_file_is_good_when_every_example_is_taken_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for secret in (
        "viewer.token", "alertmanager.token", "alertmanager.password", "sender.password", "robot.secret",
        "grafana.secret", "hashes.key",
    ):  # fmt: skip
        (tmp_path / secret).write_text("f" * 32)
    (tmp_path / "issuer.jwks").write_text(json.dumps({"keys": [key_pair("ES256", "one").public]}))
    make_certificate(tmp_path, "tocsin")
    make_certificate(tmp_path, "clients")
    settings = load(tmp_path, uncommented((ROOT / "config/tocsin.yaml").read_text()), environ=VARIABLES)
    assert {each.kind for each in settings.destinations} <= set(KINDS)
    assert len(settings.destinations) == 6
    assert [token.role for token in settings.tokens] == ["sender", "viewer"]
    given = settings.credentials
    kinds = (given.tokens, given.passwords, given.jwt, given.signatures, given.certificates)
    assert [len(each) for each in kinds] == [2, 2, 4, 2, 1]
    assert settings.analysis.severities["p0"] == "critical"
    assert [source.name for source in settings.analysis.sources] == ["eu", "us", "asia", "africa"]
    assert [poll.source for poll in settings.polls] == ["eu", "us", "asia", "africa"]


@pytest.mark.parametrize(
    ("path", "field"), described(Configuration), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_setting_is_in_the_shipped_file_with_its_default_and_its_sentence(path, field, shipped):
    values = values_at([shipped], path)
    assert values, f"{path} is missing in config/tocsin.yaml"
    comments = " ".join(re.findall(r"^ *# (.*)", (ROOT / "config/tocsin.yaml").read_text(), re.MULTILINE))
    assert " ".join(field.description.rstrip(".").split()) in comments
    simple = not list(models_in(field.annotation)) and path not in EXAMPLES
    if simple and not field.is_required():
        annotation = field.rebuild_annotation()
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        default = field.get_default(call_default_factory=True)
        assert default is None or default in [
            adapter.validate_python(value) for value in values if value is not None
        ]


def test_the_shipped_file_is_the_default(monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = config.load(ROOT / "config/tocsin.yaml", KINDS, {})
    assert settings == config.default(KINDS)


#: Of every destination, and its kind does not know of it.
OF_THE_HEAD = {"redact", "fallback", "fallback_after"}


def test_the_destinations_of_the_shipped_file_are_good(shipped):
    for block in shipped["destinations"]:
        KINDS[block["kind"]].Settings.model_validate(
            {key: block[key] for key in block if key not in OF_THE_HEAD}
        )


def test_the_minimal_file_loads_with_and_without_its_comments(tmp_path):
    text = (ROOT / "config/tocsin.minimal.yaml").read_text()
    assert len(load(tmp_path, text).destinations) == 1
    assert len(load(tmp_path, uncommented(text), environ=VARIABLES).analysis.routes[0].to) == 2


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_example_of_each_kind_is_a_good_destination(kind, tmp_path):
    text = yaml.safe_dump({"destinations": [KINDS[kind].example]})
    settings = load(tmp_path, text)
    assert settings.destinations[0].kind == kind
    assert load(tmp_path, text) == settings


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_refuses_unknown_keys_and_bare_numbers(kind, tmp_path):
    block = KINDS[kind].example | {"no_such_key": 1}
    assert any(
        "no_such_key: unknown key" in fault
        for fault in faults(tmp_path, yaml.safe_dump({"destinations": [block]}))
    )


def test_the_schema_names_every_setting_and_every_kind():
    schema = config.schema(KINDS)
    assert list(schema["properties"]) == [
        field.alias or name for name, field in Configuration.model_fields.items()
    ]
    blocks = schema["properties"]["destinations"]["items"]["oneOf"]
    assert [block["properties"]["kind"]["const"] for block in blocks] == sorted(KINDS)
    for block in blocks:
        for name, setting in block["properties"].items():
            assert setting.get("description"), f"the schema says nothing of {name} in {block['title']}"
    references = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema)))
    assert references <= set(schema["$defs"])
    assert get_args(Duration)
    assert get_args(Size)
