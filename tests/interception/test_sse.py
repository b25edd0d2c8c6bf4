"""A usage event we asked for is taken out, however the stream is cut; nothing else changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentlightning.interception.dialects import DIALECTS
from agentlightning.interception.sse import UsageFilter, events

CHAT = DIALECTS[0]
USAGE = {"id": "c", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
BLANK_LINES = ("\n\n", "\r\n\r\n", "\r\r", "\n\r\n")


def chunk(text: str, **extra: object) -> dict[str, object]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}}], **extra}


def stream(items: list[object], blank: str, compact: bool) -> bytes:
    separators = (",", ":") if compact else None
    told = [item if isinstance(item, str) else "data: " + json.dumps(item, separators=separators) for item in items]
    return "".join(line + blank for line in told).encode()


def through(content: bytes, cuts: list[int]) -> bytes:
    usage_filter, out = UsageFilter(CHAT), b""
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        out += usage_filter.feed(content[start:end])
    return out + usage_filter.flush()


ITEMS = st.lists(
    st.one_of(
        st.text(max_size=5).map(chunk),
        st.text(max_size=5).map(lambda text: chunk(text, usage=None)),
        st.just(chunk("x", usage={"prompt_tokens": 1})),
        st.just({"choices": [], "prompt_filter_results": [1]}),
        st.just({"choices": [], "usage": None}),
        st.just(": keep-alive"),
        st.just("data: [DONE]"),
        st.just('data: {"choices":[] broken'),
    ),
    max_size=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), ITEMS, ITEMS, st.sampled_from(BLANK_LINES), st.booleans())
def test_only_the_usage_event_goes_wherever_the_stream_is_cut(
    data: st.DataObject, before: list[object], after: list[object], blank: str, compact: bool
) -> None:
    content = stream([*before, USAGE, *after], blank, compact)
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=8).map(sorted))
    assert through(content, cuts) == stream([*before, *after], blank, compact)


@pytest.mark.parametrize("blank", BLANK_LINES)
def test_byte_by_byte_is_the_same_as_all_at_once(blank: str) -> None:
    content = stream([chunk("é"), USAGE, "data: [DONE]"], blank, False)
    assert through(content, list(range(len(content)))) == stream([chunk("é"), "data: [DONE]"], blank, False)


def test_a_usage_event_at_the_very_end_without_a_blank_line_goes_too() -> None:
    content = stream([chunk("a"), USAGE], "\n\n", False).rstrip()
    assert through(content, []) == stream([chunk("a")], "\n\n", False)


def test_whole_events_are_handed_on_at_once() -> None:
    usage_filter = UsageFilter(CHAT)
    first, half = stream([chunk("a")], "\n\n", False), b'data: {"choices"'
    assert usage_filter.feed(first) == first
    assert usage_filter.feed(first + half) == first
    assert usage_filter.flush() == half


def test_events_are_read_from_any_kind_of_stream() -> None:
    content = (
        b': hi\r\nevent: x\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata:{"b": 2}\n\ndata: [DONE]\n\ndata: 3\n\ndata: {"c'
    )
    assert list(events(content)) == [{"a": 1}, {"b": 2}]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5).map(sorted))
def test_no_bytes_upset_the_filter_or_are_lost(content: bytes, cuts: list[int]) -> None:
    assert through(content, [min(cut, len(content)) for cut in cuts]) == content
