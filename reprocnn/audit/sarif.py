"""Findings as SARIF 2.1.0, which code scanning reads."""

import json
from typing import Any
from urllib.parse import quote

from reprocnn.audit.rules.base import Finding, Rule

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def as_sarif(found: dict[str, list[Finding]], rules: list[Rule]) -> str:
    """Write the findings by model; its file is the place, since no file says at which line a layer was built."""
    codes = [rule.code for rule in rules]
    run = {
        "tool": {"driver": {"name": "reprocnn audit", "rules": list(map(_rule, rules))}},
        "results": [
            _result(name, finding, codes.index(finding.code)) for name, part in found.items() for finding in part
        ],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "shortDescription": {"text": rule.what},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.fix},
        "defaultConfiguration": {"level": rule.level},
    }


def _result(name: str, finding: Finding, index: int) -> dict[str, Any]:
    return {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": finding.level,
        "message": {"text": f"{finding.layer}: {finding.message}. {finding.fix}"},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": quote(name.replace("\\", "/"))}},
                "logicalLocations": [{"name": finding.layer, "kind": "object"}],
            }
        ],
        "partialFingerprints": {"layer/v1": f"{finding.code}/{finding.layer}"},
    }
