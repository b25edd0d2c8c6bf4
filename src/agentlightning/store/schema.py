"""The record schema, written out from the structs as JSON Schema: what other languages read a store by."""

from __future__ import annotations

from typing import Any

import msgspec

from agentlightning.data.bodies import BODIES, DecisionBody
from agentlightning.data.record import SCHEMA_VERSION, Record
from agentlightning.data.resource import Policy

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def record_schemas() -> dict[str, dict[str, Any]]:
    """File name (without ending) → JSON Schema: `record` for what surrounds every body, and one per kind of body."""
    schemas = {"record": _schema(Record, "A record of a store")}
    for kind, body in BODIES.items():
        schemas[kind] = _schema(body, f"Body of a {kind} record")
    del schemas["rollout"]["$defs"]["Trajectory"]["properties"]["steps"]
    return schemas


def _schema(noun: Any, title: str) -> dict[str, Any]:
    head = {"$schema": _DIALECT, "title": f"{title}, version {SCHEMA_VERSION}"}
    if noun == Policy | DecisionBody:  # told apart by `policy`, which only a decision has
        refs, definitions = msgspec.json.schema_components([Policy, DecisionBody], ref_template="#/$defs/{name}")
        return {**head, "anyOf": list(refs), "$defs": definitions}
    return {**head, **msgspec.json.schema(noun)}
