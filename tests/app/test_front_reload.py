"""A changed configuration in a running sidecar."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

from servers import free_port
from sidecars import NO_MODELS, Sidecar, until


def test_a_bad_file_keeps_the_old_configuration_and_says_why(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.start()
    sidecar.file.write_text(NO_MODELS + "no_such_key: 1\n", "utf-8")
    status, answer = sidecar.ask("POST", "/-/reload", b"")
    assert status == 400
    assert "no_such_key" in json.loads(answer)["faults"][0]
    assert "tocsin.yaml:2" in json.loads(answer)["faults"][0]
    assert sidecar.metric("tocsin_config_reload_ok") == 0
    sidecar.send("StillHere")
    until(lambda: sidecar.heard_of("StillHere"), "an incident under the old configuration")
    os.kill(sidecar.pid, signal.SIGHUP)
    until(lambda: len(sidecar.logged("config_refused")) == 2, "the signal reads it too")


def test_a_file_that_is_just_being_written_drops_nothing(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.start()
    sidecar.file.write_text(" \n", "utf-8")
    status, answer = sidecar.ask("POST", "/-/reload", b"")
    assert status == 400
    assert "is empty" in json.loads(answer)["faults"][0]


def test_a_good_file_is_in_force_without_a_restart(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.start()
    sidecar.send("Before")
    until(lambda: sidecar.heard_of("Before"), "the incident in the first file")
    other = sidecar.data / "other.jsonl"
    sidecar.file.write_text(
        NO_MODELS + f"destinations: [{{name: other, kind: file, path: {json.dumps(str(other))}}}]\n"
        "routes: [{to: [other]}]\n",
        "utf-8",
    )
    status, answer = sidecar.ask("POST", "/-/reload", b"")
    assert (status, answer) == (200, "reloaded\n")
    assert sidecar.metric("tocsin_config_reload_ok") == 1
    sidecar.send("Afterwards")
    until(lambda: sidecar.heard_of("Afterwards", "other.jsonl"), "the incident in the other file")
    assert sidecar.heard_of("Afterwards") == []
    assert sidecar.end(signal.SIGINT) == 0


def test_a_hangup_puts_a_good_file_in_force(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.start()
    other = sidecar.data / "other.jsonl"
    sidecar.file.write_text(
        NO_MODELS + f"destinations: [{{name: other, kind: file, path: {json.dumps(str(other))}}}]\n"
        "routes: [{to: [other]}]\n",
        "utf-8",
    )
    os.kill(sidecar.pid, signal.SIGHUP)
    until(lambda: sidecar.logged("config_reloaded"), "the changed file is read")
    assert sidecar.metric("tocsin_config_reload_ok") == 1
    [entry] = json.loads(sidecar.ask("GET", "/api/v1/audit")[1])["items"]
    assert (entry["actor"], entry["action"], entry["done"]) == ("signal", "reload", True)
    sidecar.send("AfterTheHangup")
    until(lambda: sidecar.heard_of("AfterTheHangup", "other.jsonl"), "the incident in the other file")
    assert sidecar.heard_of("AfterTheHangup") == []


def test_what_needs_a_restart_and_what_looks_like_a_mistake_are_told_at_a_reload(
    make: Callable[..., Sidecar],
):
    sidecar = make(NO_MODELS + "limits: {max_body: 1MiB}\n")
    sidecar.start()
    path = json.dumps(str(sidecar.data / "other.jsonl"))
    sidecar.file.write_text(
        NO_MODELS + f"limits: {{max_body: 2MiB}}\ndestinations: [{{name: other, kind: file, path: {path}}}]\n"
        "routes: []\n",
        "utf-8",
    )
    status, answer = sidecar.ask("POST", "/-/reload", b"")
    assert status == 200
    assert "in force only after a restart: limits.max_body\n" in answer
    assert "note: destinations.other: no route leads here" in answer
    assert "limits.max_body" in sidecar.logged("config_reloaded")[0]["message"]
    assert "destinations.other" in sidecar.logged("config_note")[0]["message"]


def test_a_changed_topology_file_is_in_force_after_a_reload_and_a_restart(make: Callable[..., Sidecar]):
    sidecar = make()
    services = sidecar.data / "services.yaml"
    services.parent.mkdir(parents=True, exist_ok=True)
    services.write_text("services: [{name: shop, calls: [db]}, {name: db}]", "utf-8")
    sidecar.file.write_text(NO_MODELS + f"topology: {{file: {json.dumps(str(services))}}}\n", "utf-8")
    sidecar.start()

    def edges() -> list[str]:
        return [edge["said"] for edge in json.loads(sidecar.ask("GET", "/api/v1/topology")[1])["edges"]]

    until(lambda: edges() == ["shop calls db (topology file)"], "the topology of the start")
    services.write_text("services: [{name: shop, call: [db]}]", "utf-8")
    status, answer = sidecar.ask("POST", "/-/reload", b"")
    assert status == 400
    assert json.loads(answer)["faults"] == [
        f"{services}:1: services.shop.call: unknown key; did you mean `calls`?"
    ]
    services.write_text("services: [{name: shop, calls: [mail]}]", "utf-8")
    status, answer = sidecar.ask("POST", "/-/reload", b"")
    assert status == 200
    assert f"note: {services}:1: services.shop.calls[0]: is no service of this file" in answer
    until(lambda: edges() == ["shop calls mail (topology file)"], "the changed topology")
    sidecar.end(signal.SIGINT)
    sidecar.file.write_text(NO_MODELS, "utf-8")
    sidecar.start()
    until(lambda: edges() == [], "no topology without a file")


def test_alertmanagers_that_are_named_by_a_reload_are_asked(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.start()
    sources = (
        f"sources: [{{name: eu, alertmanagers: ['http://127.0.0.1:{free_port()}'], poll_interval: 1s}}]\n"
    )
    sidecar.file.write_text(NO_MODELS + sources, "utf-8")
    assert sidecar.ask("POST", "/-/reload", b"") == (200, "reloaded\n")
    until(lambda: sidecar.logged("poll_failed"), "one of them is asked")
    assert sidecar.logged("poll_failed")[0]["source"] == "eu"
    sidecar.file.write_text(NO_MODELS, "utf-8")
    assert sidecar.ask("POST", "/-/reload", b"") == (200, "reloaded\n")
    assert sidecar.end() == 0
