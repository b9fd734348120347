"""The topology file: what it says, what a bad one gets, and that neither size nor malice stops anything."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import connectors
from bridge import config
from bridge.analysis.topology import MAX_CALLS, MAX_SAME_NAME, MAX_SERVICES, Chart
from bridge.config import load_topology
from bridge.config import topology as room
from bridge.errors import ConfigError

ROOT = Path(__file__).parents[1]
KINDS = {kind: connectors.load(kind) for kind in connectors.KINDS}


def written(folder: Path, text: str) -> Path:
    path = folder / "topology.yaml"
    path.write_text(text)
    return path


def faults(folder: Path, text: str) -> list[str]:
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_topology(path, {})
    return [fault.removeprefix(f"{path}:") for fault in caught.value.faults]


def calls(chart: Chart) -> set[str]:
    names = [service.title for service in chart.services]
    return {f"{names[call.caller]} > {names[call.callee]}" for call in chart.calls}


def test_services_and_calls_are_read(tmp_path: Path):
    found = load_topology(
        written(tmp_path, "services:\n- {name: shop, calls: [db, db], cluster: eu}\n- name: db\n"), {}
    )
    assert calls(found.chart) == {"eu/shop > db"}
    assert len(found.chart.calls) == 1
    assert found.notes == ()


def test_a_called_name_is_the_nearest_service_of_that_name(tmp_path: Path):
    text = """
services:
- {name: a, cluster: eu, namespace: x, calls: [db]}
- {name: b, cluster: eu, namespace: y, calls: [db, x/db, us/x/db, cache]}
- {name: db, cluster: eu, namespace: x}
- {name: db, cluster: eu, namespace: y}
- {name: db, cluster: us, namespace: x}
- {name: c, cluster: us, namespace: z, calls: [db]}
- {name: cache}
"""
    with pytest.raises(ConfigError, match=r"4: services.b.calls\[1\]: is the name of several"):
        load_topology(written(tmp_path, text), {})
    found = load_topology(written(tmp_path, text.replace("x/db, us", "eu/x/db, us")), {})
    assert calls(found.chart) == {
        "eu/x/a > eu/x/db", "eu/y/b > eu/y/db", "eu/y/b > eu/x/db", "eu/y/b > us/x/db", "eu/y/b > cache",
        "us/z/c > us/x/db",
    }  # fmt: skip


def test_cycles_are_no_fault(tmp_path: Path):
    text = "services:\n- {name: a, calls: [b]}\n- {name: b, calls: [c, b]}\n- {name: c, calls: [a]}\n"
    found = load_topology(written(tmp_path, text), {})
    assert calls(found.chart) == {"a > b", "b > c", "b > b", "c > a"}
    assert found.notes == ()


def test_an_unknown_name_is_a_service_outside_and_told(tmp_path: Path):
    path = written(
        tmp_path,
        "services:\n- name: shop\n  calls:\n  - payments\n  - shpo\n- {name: web, calls: [payments]}\n",
    )
    found = load_topology(path, {})
    assert calls(found.chart) == {"shop > payments", "shop > shpo", "web > payments"}
    assert len(found.chart.services) == 4
    outside = "is no service of this file and is taken for one outside, which calls nothing"
    assert found.notes == (
        f"{path}:4: services.shop.calls[0]: {outside}",
        f"{path}:5: services.shop.calls[1]: {outside}; did you mean `shop`?",
    )


def test_many_unknown_names_are_told_in_short(tmp_path: Path):
    names = ", ".join(f"x{number}" for number in range(5000))
    found = load_topology(written(tmp_path, f"services:\n- name: shop\n  calls: [{names}]\n"), {})
    assert len(found.chart.services) == 5001
    assert len(found.notes) == room.TOLD + 1
    assert found.notes[-1].endswith(f"and {5000 - room.TOLD} more of the kind")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("services: {a: b}", ["1: services: must be a list of entries; each begins with `- name: `"]),
        ("- name: shop", ["1: must be a mapping of `key: value` lines; write `services:` and a list"]),
        ("", ["1: says nothing; write `services:` and a list of entries"]),
        ("service: []", ["1: service: unknown key; did you mean `services`?"]),
        ("services:\n- {name: a, call: [b]}\n- {name: b, tier: 1}", [
            "2: services.a.call: unknown key; did you mean `calls`?",
            "3: services.b.tier: unknown key; there are: name, calls, cluster, namespace",
        ]),
        ("services:\n- calls: [b]\n- b", [
            "2: services[0].name: is missing; write `name: ...`",
            "3: services[1]: must be a mapping of `key: value` lines",
        ]),
        ("services:\n- name: no\n- name: 7", ["2: services[0].name: YAML reads an unquoted yes", "3: services[1].name: YAML reads it as a number; put quotes around it"]),
        ("services:\n- {name: a}\n- {name: b}\n- {name: a}\n", [
            "4: services.a.name: is there already (line 2); give it another cluster or namespace, or remove one",
        ]),
        ("services:\n- {name: a}\n- {name: a, calls: [q}\n", ["3: not YAML"]),
        ("services:\n\t- {name: a}", ["2: not YAML: found character '\\t' that cannot start any token"]),
        ("services: " + "[" * 50_000, ["1: is nested too deeply"]),
        ("services: " + "[" * 200_000, ["1: is nested too deeply"]),
        ("a: &a [1,1]\nb: &b [*a,*a]\nservices: [*b, *b", ["3: not YAML"]),
        ("services: [{name: a, calls: \x01}]", ["1: not YAML: a control character; remove it"]),
        ("services:\n- {name: ''}\n", ["2: services[0].name: must have at least 1 character"]),
    ],
)  # fmt: skip
def test_a_bad_file_is_told_by_line_and_path(tmp_path: Path, text: str, expected: list[str]):
    found = faults(tmp_path, text)
    assert len(found) == len(expected), found
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start), found


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_topology(tmp_path / "nowhere.yaml", {})
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"services:\n- {name: \xff}")
    with pytest.raises(ConfigError, match=r"binary.yaml:2: is not UTF-8"):
        load_topology(path, {})


def test_a_file_beyond_the_bounds_is_refused_in_time(tmp_path: Path):
    many = "".join(f"- {{name: s{number}}}\n" for number in range(MAX_SERVICES + 1))
    same = "".join(f"- {{name: s, namespace: n{number}}}\n" for number in range(MAX_SAME_NAME + 1))
    busy = "".join(
        f"- {{name: s{number}, calls: [{', '.join(f's{each}' for each in range(450))}]}}\n"
        for number in range(450)
    )
    assert MAX_CALLS < 450 * 450
    before = time.process_time()
    assert faults(tmp_path, "#" * (room.MAX_BYTES + 1))[0].endswith("is larger than 16 MiB")
    assert "has too many values" in faults(tmp_path, "services: [" + "a," * 2_000_000 + "]")[0]
    assert (
        f"has {MAX_SERVICES + 1} services; {MAX_SERVICES} is the most"
        in faults(tmp_path, "services:\n" + many)[0]
    )
    assert "has 202500 calls; 200000 is the most" in faults(tmp_path, "services:\n" + busy)[0]
    assert f"is the name of more than {MAX_SAME_NAME} services" in faults(tmp_path, "services:\n" + same)[0]
    assert len(faults(tmp_path, "services:\n" + "- {nam: a}\n" * 50_000)) == room.TOLD + 1
    assert time.process_time() - before < 50.0  # about 15


def test_aliases_of_aliases_end(tmp_path: Path):
    text = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "look for aliases" in "\n".join(faults(tmp_path, text + "services: *i\n"))


def test_ten_thousand_services_are_read_in_seconds(tmp_path: Path):
    draw = random.Random(1)
    names = [f"service-{number}" for number in range(10_000)]
    text = "services:\n" + "".join(
        f"  - name: {name}\n    namespace: n{draw.randrange(9)}\n    calls: [{', '.join(draw.choices(names, k=5))}]\n"
        for name in names
    )
    before = time.process_time()
    found = load_topology(written(tmp_path, text), {})
    assert time.process_time() - before < 15.0  # about 2
    assert (len(found.chart.services), found.notes) == (10_000, ())
    assert 49_000 < len(found.chart.calls) <= 50_000


names = st.sampled_from(["a", "b", "a/b", "x/a", "", "no", "1", "*a", "a: b", "é"])
entries = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "calls": st.lists(names, max_size=3),
        "cluster": names,
        "namespace": names,
        "x": names,
    },
)


@given(st.one_of(st.text(), st.lists(entries, max_size=5).map(lambda data: f"services: {data}")))
def test_any_text_is_a_topology_or_has_faults_with_their_lines(tmp_path_factory: Any, text: str):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = load_topology(path, {})
    except ConfigError as error:
        untold = [fault for fault in error.faults if not re.match(rf"{path}:\d+: ", fault)]
        assert untold == []
    else:
        assert all(
            0 <= index < len(found.chart.services)
            for call in found.chart.calls
            for index in (call.caller, call.callee)
        )


# ---- in the configuration --------------------------------------------------------------------------------


def loaded(folder: Path, text: str) -> config.Settings:
    (folder / "tocsin.yaml").write_text(text)
    return config.load(folder / "tocsin.yaml", KINDS, {})


def test_the_configuration_names_the_file_and_the_label(tmp_path: Path):
    path = written(tmp_path, "services: [{name: shop, calls: [mail]}]")
    settings = loaded(tmp_path, f"topology: {{file: {path}, label: unit}}")
    assert settings.analysis.topology_label == "unit"
    assert calls(settings.topology) == {"shop > mail"}
    assert settings.notes[0].startswith(f"{path}:1: services.shop.calls[0]: is no service")


def test_without_a_file_there_is_no_topology(tmp_path: Path):
    settings = loaded(tmp_path, "")
    assert settings.topology == Chart(origin="file")
    assert (settings.analysis.topology_label, settings.prometheus) == ("service", ())


def test_faults_of_both_files_are_told_at_once(tmp_path: Path):
    path = written(tmp_path, "services: [{name: shop, cals: [mail]}]")
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"topology: {{file: {path}, lable: unit}}\nlisten: 7")
    assert len(caught.value.faults) == 2  # a bad section is not looked into
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"topology: {{file: {path}}}\nlisten: 7")
    assert [fault.partition(": ")[0] for fault in caught.value.faults] == [
        f"{tmp_path}/tocsin.yaml:2",
        f"{path}:1",
    ]


def test_each_prometheus_is_asked_once_for_its_tenant(tmp_path: Path):
    token = "0123456789abcdef"
    settings = loaded(tmp_path, f"""
tenants:
- {{name: east, tokens: [{{token: {token}e}}]}}
- {{name: west, tokens: [{{token: {token}w}}]}}
sources:
- {{name: a, prometheus: "http://prom:9090/"}}
- {{name: b, prometheus: "http://prom:9090"}}
- {{name: c, tenant: west, prometheus: "http://prom:9090"}}
- {{name: d}}
""")  # fmt: skip
    assert settings.prometheus == (("east", "http://prom:9090"), ("west", "http://prom:9090"))
    with pytest.raises(ConfigError, match=r"sources.a.prometheus: must begin with http"):
        loaded(tmp_path, "sources: [{name: a, prometheus: prom}]")


def test_the_example_is_good():
    found = load_topology(ROOT / "config/topology.yaml", {})
    assert "shop > payments/api" in calls(found.chart)
    assert len(found.notes) == 1
