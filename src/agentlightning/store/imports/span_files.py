"""Span dumps as flat spans, whatever wrote them: OTLP JSON, the SDK's console exporter, Phoenix and its like.

Attributes become one flat mapping of dotted names; nested ones (Phoenix) are flattened to the names they stand for.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.errors import DataError
from agentlightning.store.imports.base import json_objects, seconds


class LoggedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A finished span of somebody's log. Times in seconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start: float
    end: float
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    error: str | None


def read_spans(path: Path) -> Generator[LoggedSpan]:
    """Every span of a file, in its order. DataError names the place of something that is no span."""
    for where, value in json_objects(path):
        if "resourceSpans" in value:
            yield from _otlp(value, where)
        else:
            yield _span(value, where, {})


def _otlp(request: dict[str, Any], where: str) -> Iterator[LoggedSpan]:
    for resource in request["resourceSpans"]:
        shared = _named(_flat((resource.get("resource") or {}).get("attributes")))
        for scope in resource.get("scopeSpans") or resource.get("instrumentationLibrarySpans") or []:
            for span in scope.get("spans") or []:
                yield _span(span, where, shared)


def _span(span: dict[str, Any], where: str, shared: dict[str, Any]) -> LoggedSpan:
    context: dict[str, Any] = span.get("context") or {}
    trace = _id(_first(span, "traceId", "trace_id") or _first(context, "trace_id", "traceId"))
    id = _id(_first(span, "spanId", "span_id") or _first(context, "span_id", "spanId"))
    start = seconds(_first(span, "startTimeUnixNano", "start_time", "startTime", "start_time_unix_nano"))
    if not trace or not id or start is None:
        raise DataError(
            f"{where}: no span. Nothing was imported. Expected OTLP JSON (resourceSpans), or one span a line with "
            f"trace_id, span_id, start_time and attributes; found keys {sorted(span)[:12]}."
        )
    end = seconds(_first(span, "endTimeUnixNano", "end_time", "endTime", "end_time_unix_nano"))
    resource = shared or _named(_flat((span.get("resource") or {}).get("attributes")))
    return LoggedSpan(
        trace_id=trace,
        span_id=id,
        parent_id=_id(_first(span, "parentSpanId", "parent_id", "parent_span_id", "parentId")),
        name=str(span.get("name") or ""),
        start=start,
        end=start if end is None else end,
        attributes={**resource, **_kind(span), **_flat(span.get("attributes"))},
        events=[(str(e.get("name")), _flat(e.get("attributes"))) for e in span.get("events") or []],
        error=_error(span),
    )


def _kind(span: dict[str, Any]) -> dict[str, Any]:
    """Phoenix says outside the attributes what kind of span it is."""
    kind = span.get("span_kind")
    return {"openinference.span.kind": kind} if isinstance(kind, str) else {}


def _error(span: dict[str, Any]) -> str | None:
    status: Any = span.get("status") or {}
    code = status.get("code", status.get("status_code")) if isinstance(status, dict) else status
    code = code if code is not None else span.get("status_code")
    if str(code).rpartition(".")[2].removeprefix("STATUS_CODE_") not in ("2", "ERROR"):
        return None
    said = status.get("message") or status.get("description") if isinstance(status, dict) else None
    raised = next((e for e in span.get("events") or [] if e.get("name") == "exception"), None)
    message = _flat(raised.get("attributes")).get("exception.message") if raised else None
    return str(said or span.get("status_message") or message or "the span ended with an error")


def _flat(attributes: Any, prefix: str = "") -> dict[str, Any]:
    """Attributes by dotted name, from OTLP's list of keys and values or from a mapping, however deep."""
    if isinstance(attributes, list) and all(isinstance(a, dict) and "key" in a for a in attributes) and not prefix:
        return {a["key"]: _otlp_value(a.get("value") or {}) for a in attributes}
    found: dict[str, Any] = {}
    items = attributes.items() if isinstance(attributes, dict) else enumerate(attributes or [])
    for key, value in items:
        is_nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict) for v in value))
        if is_nested and value:
            found |= _flat(value, f"{prefix}{key}.")
        found[f"{prefix}{key}"] = value
    return found


def _otlp_value(value: dict[str, Any]) -> Any:
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_otlp_value(item) for item in (value["arrayValue"] or {}).get("values") or []]
    if "kvlistValue" in value:
        pairs = (value["kvlistValue"] or {}).get("values") or []
        return {pair["key"]: _otlp_value(pair.get("value") or {}) for pair in pairs}
    return next(iter(value.values()), None)


def _named(resource: dict[str, Any]) -> dict[str, Any]:
    return {"service.name": resource["service.name"]} if "service.name" in resource else {}


def _first(mapping: dict[str, Any], *names: str) -> Any:
    return next((mapping[name] for name in names if mapping.get(name) not in (None, "")), None)


def _id(value: Any) -> str:
    return str(value or "").removeprefix("0x").lower()
