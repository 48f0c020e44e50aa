"""SARIF: what its schema, version 2.1.0, asks of the properties that the audit writes."""

import json

import jsonschema

from reprocnn.audit.api import RULES
from reprocnn.audit.rules.base import Finding
from reprocnn.audit.sarif import as_sarif

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}


def strict(*required, **properties):
    """Allow no other properties, as the schema of SARIF does."""
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def several(item, **options):
    return {"type": "array", "items": item, **options}


LEVEL = {"enum": ["none", "note", "warning", "error"]}
RULE = strict(
    "id", id={"type": "string"}, shortDescription=TEXT, fullDescription=TEXT, help=TEXT,
    defaultConfiguration=strict(level=LEVEL),
)  # fmt: skip
PLACE = strict(
    physicalLocation=strict(artifactLocation=strict(uri={"type": "string", "pattern": r"^[^\s\\]*$"})),
    logicalLocations=several(strict(name={"type": "string"}, kind={"type": "string"}), uniqueItems=True),
)
RESULT = strict(
    "message", ruleId={"type": "string"}, ruleIndex={"type": "integer", "minimum": -1}, level=LEVEL, message=TEXT,
    locations=several(PLACE), partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
)  # fmt: skip
DRIVER = strict("name", name={"type": "string"}, rules=several(RULE, uniqueItems=True))
RUN = strict("tool", tool=strict("driver", driver=DRIVER), results=several(RESULT))
SARIF = strict(
    "version", "runs", **{"$schema": {"type": "string"}}, version={"enum": ["2.1.0"]}, runs=several(RUN, minItems=1)
)


def test_sarif_has_the_properties_of_its_schema():
    found = [Finding(rule.code, rule.level, "outer/inner", "message", rule.why, rule.fix) for rule in RULES]
    jsonschema.validate(json.loads(as_sarif({"a b\\model.keras": found, "sound.keras": []}, RULES)), SARIF)


def test_a_finding_is_known_again_by_its_rule_and_layer():
    found = [Finding("one-unit", "warning", layer, "message", "why", "fix") for layer in ("a", "b")]
    [run] = json.loads(as_sarif({"model.keras": found}, RULES))["runs"]
    fingerprints = [result["partialFingerprints"] for result in run["results"]]
    assert fingerprints == [{"layer/v1": "one-unit/a"}, {"layer/v1": "one-unit/b"}]


def test_a_finding_has_its_rule_its_level_its_place_and_its_words():
    (rule,) = [one for one in RULES if one.code == "norm-of-one"]
    found = [Finding("norm-of-one", "note", "außen/inner", "all are 0", "why", "Give it more")]
    text = as_sarif({"é b\\model.keras": found}, RULES)
    assert "außen/inner" in text
    [run] = json.loads(text)["runs"]
    [result] = run["results"]
    assert result["ruleId"] == "norm-of-one"
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]] == {
        "id": "norm-of-one", "shortDescription": {"text": rule.what}, "fullDescription": {"text": rule.why},
        "help": {"text": rule.fix}, "defaultConfiguration": {"level": "error"},
    }  # fmt: skip
    assert (result["level"], result["message"]) == ("note", {"text": "außen/inner: all are 0. Give it more"})
    [place] = result["locations"]
    assert place["physicalLocation"] == {"artifactLocation": {"uri": "%C3%A9%20b/model.keras"}}
    assert place["logicalLocations"] == [{"name": "außen/inner", "kind": "object"}]
