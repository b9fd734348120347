from __future__ import annotations

import json
from ipaddress import ip_address

from expected import Expected

STATES, SEVERITIES = {"ALERTING", "NOT_ALERTING"}, {"CRITICAL", "MEDIUM", "INFORMATIONAL"}


def parse(_case: str, sent: bytes) -> None:
    """Assert the types of the fields that are used, as the list of UDM's fields gives them."""
    for event in json.loads(sent)["inline_source"]["events"]:
        udm = event["udm"]
        assert udm["metadata"]["event_type"] == "GENERIC_EVENT"
        assert all(isinstance(value, str) for value in udm["metadata"].values())
        for noun in (udm.get("principal", {}), *udm.get("about", [])):
            assert set(noun) <= {"hostname", "ip", "application"}
            assert [ip_address(each) for each in noun.get("ip", [])] or "ip" not in noun
        for result in udm["security_result"]:
            assert result["severity"] in SEVERITIES
            assert result["alert_state"] in STATES
            for labels in (result.get("detection_fields", []), result.get("rule_labels", [])):
                assert all(set(each) == {"key", "value"} for each in labels)
                assert all(isinstance(text, str) for each in labels for text in each.values())
        assert all(isinstance(value, str) for value in udm.get("additional", {}).values())


EXPECTED = Expected(parse=parse, corrected={"url": "https://right.example.com"})
