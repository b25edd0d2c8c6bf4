"""Spans to a collector (Phoenix, Langfuse, Jaeger, …) or a file, as OTLP: no OpenTelemetry package is needed.

A file holds one export request a line, which is what the collector's own file exporter writes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import msgspec

from agentlightning.data.spans import Span, spans
from agentlightning.errors import ConfigError, StoreError
from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice, ExportReport, chosen, write_lines
from agentlightning.store.exports.protobuf import to_protobuf

_BATCH_BYTES = 2 << 20
"""About how much goes into one request; collectors take 4 MiB and more."""
_TRIES = 5
_JSON, _PROTOBUF = "application/json", "application/x-protobuf"
_TRANSIENT = frozenset({429, 502, 503, 504})


async def export_otlp_file(
    store: Store, path: str | Path, choice: Choice, *, with_content: bool = True
) -> ExportReport:
    """Write the trajectories that fit as spans, one OTLP request per rollout and line."""
    counter = _Counter()
    await write_lines(Path(path), (batch async for batch in _requests(store, choice, counter, with_content, 0)))
    return ExportReport(counter.num_spans, counter.num_rollouts)


async def export_otlp(
    store: Store,
    endpoint: str,
    choice: Choice,
    *,
    headers: Mapping[str, str] | None = None,
    with_content: bool = True,
) -> ExportReport:
    """Post the trajectories that fit to `http(s)://…/v1/traces`, in order, in requests of about 2 MB.

    Headers: those given, over OTEL_EXPORTER_OTLP_HEADERS (`name=value,…`). A collector that is busy or away is tried
    again; StoreError when it stays so, refuses the request, or takes it but rejects spans. Nothing is lost by exporting
    again: ids stay the same.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"--endpoint {endpoint!r} is no URL. Write http://localhost:4318/v1/traces, for example.")
    counter = _Counter()
    sent = {"content-type": _JSON, **_headers_from_environment(), **(headers or {})}
    async with httpx.AsyncClient(headers=sent, timeout=60) as client:
        async for request in _requests(store, choice, counter, with_content, _BATCH_BYTES):
            await _post(client, endpoint, request)
    return ExportReport(counter.num_spans, counter.num_rollouts)


class _Counter:
    num_spans = 0
    num_rollouts = 0


async def _requests(
    store: Store, choice: Choice, counter: _Counter, with_content: bool, num_bytes: int
) -> AsyncGenerator[bytes]:
    """Encoded requests of at least `num_bytes` of spans, the last one less."""
    waiting: list[msgspec.Raw] = []
    async for trajectory in chosen(store, choice):
        found = spans(trajectory, with_content=with_content)
        counter.num_rollouts += 1
        counter.num_spans += len(found)
        waiting += [msgspec.Raw(msgspec.json.encode(_encoded(span))) for span in found]
        if sum(len(bytes(span)) for span in waiting) > num_bytes:
            yield _request(waiting)
            waiting = []
    if waiting:
        yield _request(waiting)


def _request(encoded: list[msgspec.Raw]) -> bytes:
    resource = {"attributes": _attributes({"service.name": "agentlightning"})}
    scope = {"scope": {"name": "agentlightning"}, "spans": encoded}
    return msgspec.json.encode({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]})


def _encoded(span: Span) -> dict[str, Any]:
    """The span in OTLP's JSON: 64-bit numbers are strings there, ids hex."""
    return {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        **({"parentSpanId": span.parent_id} if span.parent_id else {}),
        "name": span.name,
        "kind": 3 if span.kind == "client" else 1,
        "startTimeUnixNano": str(int(span.start * 1e9)),
        "endTimeUnixNano": str(int(span.end * 1e9)),
        "attributes": _attributes(span.attributes),
        "events": [
            {"timeUnixNano": str(int(e.at * 1e9)), "name": e.name, "attributes": _attributes(e.attributes)}
            for e in span.events
        ],
        "status": {"message": span.error, "code": 2} if span.error else {},
    }


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": str(value)}


async def _post(client: httpx.AsyncClient, endpoint: str, request: bytes) -> None:
    """Send one request, as JSON or (to a collector that has turned JSON down) as protobuf, until it is taken."""
    problem = ""
    for attempt in range(1, _TRIES + 1):
        try:
            answer = await _sent(client, endpoint, request)
        except httpx.HTTPError as error:
            problem, wait = f"{type(error).__name__}: {error}", 0.2 * 2**attempt
        else:
            if answer.is_success:
                _check_accepted(answer, endpoint)
                return
            problem, wait = f"HTTP {answer.status_code}: {answer.text[:200]}", _retry_after(answer, attempt)
            if answer.status_code not in _TRANSIENT:
                raise StoreError(f"{endpoint} refused the spans ({problem}). {_remedy(answer.status_code)}")
        if attempt < _TRIES:
            await asyncio.sleep(wait)
    raise StoreError(
        f"{endpoint} did not take the spans in {_TRIES} tries ({problem}). "
        "Is the collector running, with OTLP over HTTP? Export again later: nothing was changed here."
    )


async def _sent(client: httpx.AsyncClient, endpoint: str, request: bytes) -> httpx.Response:
    if client.headers["content-type"] == _JSON:
        answer = await client.post(endpoint, content=request)
        if answer.status_code != 415:
            return answer
        client.headers["content-type"] = _PROTOBUF
    return await client.post(endpoint, content=to_protobuf(request))


def _check_accepted(answer: httpx.Response, endpoint: str) -> None:
    try:
        content: Any = msgspec.json.decode(answer.content or b"{}")
    except msgspec.DecodeError:  # protobuf, or a page: the status says it was taken
        return
    partial: Any = content.get("partialSuccess") or {} if isinstance(content, dict) else {}
    if rejected := int(partial.get("rejectedSpans") or 0):
        raise StoreError(f"{endpoint} rejected {rejected} spans: {partial.get('errorMessage') or 'it gave no reason'}.")


def _retry_after(answer: httpx.Response, attempt: int) -> float:
    given = answer.headers.get("retry-after", "")
    return min(float(given), 30.0) if given.isdigit() else 0.2 * 2**attempt


def _remedy(status: int) -> str:
    if status in (401, 403):
        return "Give its key: --header 'authorization=Bearer …', or OTEL_EXPORTER_OTLP_HEADERS."
    if status in (404, 405):
        return "The path of traces is usually /v1/traces."
    if status == 415:
        return "It takes OTLP neither as JSON nor as protobuf; is this the address of its traces?"
    return "Its own log says more."


def _headers_from_environment() -> dict[str, str]:
    pairs = [pair.partition("=") for pair in os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(",")]
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs if name.strip()}
