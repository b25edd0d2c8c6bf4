"""OTLP's JSON request in its binary form, for collectors that take only that (Phoenix).

Field numbers are those of opentelemetry-proto v1, which by its stability promise never change. Only what our requests
hold is known here; an unknown key is a KeyError.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgspec


class _Field(NamedTuple):
    number: int
    kind: str
    """A message's name, or text, id (hex), varint, fixed64, double, bool."""


_MESSAGES: dict[str, dict[str, _Field]] = {
    "Request": {"resourceSpans": _Field(1, "ResourceSpans")},
    "ResourceSpans": {"resource": _Field(1, "Resource"), "scopeSpans": _Field(2, "ScopeSpans")},
    "Resource": {"attributes": _Field(1, "KeyValue")},
    "ScopeSpans": {"scope": _Field(1, "Scope"), "spans": _Field(2, "Span")},
    "Scope": {"name": _Field(1, "text")},
    "Span": {
        "traceId": _Field(1, "id"),
        "spanId": _Field(2, "id"),
        "parentSpanId": _Field(4, "id"),
        "name": _Field(5, "text"),
        "kind": _Field(6, "varint"),
        "startTimeUnixNano": _Field(7, "fixed64"),
        "endTimeUnixNano": _Field(8, "fixed64"),
        "attributes": _Field(9, "KeyValue"),
        "events": _Field(11, "Event"),
        "status": _Field(15, "Status"),
    },
    "Event": {
        "timeUnixNano": _Field(1, "fixed64"),
        "name": _Field(2, "text"),
        "attributes": _Field(3, "KeyValue"),
    },
    "Status": {"message": _Field(2, "text"), "code": _Field(3, "varint")},
    "KeyValue": {"key": _Field(1, "text"), "value": _Field(2, "AnyValue")},
    "AnyValue": {
        "stringValue": _Field(1, "text"),
        "boolValue": _Field(2, "bool"),
        "intValue": _Field(3, "varint"),
        "doubleValue": _Field(4, "double"),
        "arrayValue": _Field(5, "ArrayValue"),
    },
    "ArrayValue": {"values": _Field(1, "AnyValue")},
}


def to_protobuf(request: bytes) -> bytes:
    """An ExportTraceServiceRequest in OTLP JSON as protobuf bytes."""
    return _message("Request", msgspec.json.decode(request))


def _message(name: str, value: dict[str, Any]) -> bytes:
    parts: list[bytes] = []
    for key, content in value.items():
        field = _MESSAGES[name][key]
        parts += [_field(field, item) for item in (content if isinstance(content, list) else [content])]
    return b"".join(parts)


def _field(field: _Field, value: Any) -> bytes:
    match field.kind:
        case "varint" | "bool":
            return _varint(field.number << 3) + _varint(int(value) & (2**64 - 1))
        case "fixed64":
            return _varint(field.number << 3 | 1) + struct.pack("<Q", int(value))
        case "double":
            return _varint(field.number << 3 | 1) + struct.pack("<d", value)
        case "text":
            content = value.encode()
        case "id":
            content = bytes.fromhex(value)
        case message:
            content = _message(message, value)
    return _varint(field.number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
