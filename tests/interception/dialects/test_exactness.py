"""Requests of every shape: unchanged they stay what they were, changed only the changed part differs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.data.call import Call, Message
from agentlightning.data.resource import Demo, Policy, editable_text, instruction_index
from agentlightning.interception.dialects import DIALECTS, Dialect
from agentlightning.interception.dialects.splice import origins, spliced

CHAT, RESPONSES, MESSAGES, OLLAMA, GENERATE = DIALECTS

TEXT = st.text(max_size=6)
NAMES = st.sampled_from(("a", "b", "c1"))
VALUES = st.none() | st.booleans() | st.integers(-3, 3) | TEXT | st.lists(TEXT, max_size=2)
EXTRA = st.dictionaries(st.sampled_from(("x_vendor", "x_other", "metadata")), VALUES, max_size=2)
OBJECT = st.dictionaries(TEXT, VALUES, max_size=2)
IMAGE_URL = st.sampled_from(("https://h/x.png", "data:image/png;base64,iVBORw0KGgo="))


def made(required: dict[str, Any], optional: dict[str, Any] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional or {})


def with_extra(objects: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda extra, value: extra | value, EXTRA, objects)


def content(*parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return TEXT | st.lists(st.one_of(*parts), max_size=3)


CACHED = {"cache_control": st.just({"type": "ephemeral"})}
UNKNOWN = made({"type": st.sampled_from(("video", "document", "search_result")), "title": TEXT})

# Chat completions
CHAT_TEXT = made({"type": st.just("text"), "text": TEXT}, CACHED)
CHAT_IMAGE = made({"type": st.just("image_url"), "image_url": made({"url": IMAGE_URL}, {"detail": TEXT})})
CHAT_CALL = made(
    {"id": NAMES, "type": st.just("function"), "function": made({"name": NAMES, "arguments": TEXT})},
    {"extra_content": OBJECT},
)
CHAT_MESSAGES = st.lists(
    with_extra(
        st.one_of(
            made({"role": st.sampled_from(("system", "developer")), "content": content(CHAT_TEXT)}, {"name": NAMES}),
            made({"role": st.just("user"), "content": content(CHAT_TEXT, CHAT_IMAGE, UNKNOWN)}),
            made(
                {"role": st.just("assistant"), "content": st.none() | TEXT},
                {"tool_calls": st.lists(CHAT_CALL, min_size=1, max_size=2), "reasoning_content": TEXT},
            ),
            made({"role": st.just("tool"), "tool_call_id": NAMES, "content": content(CHAT_TEXT)}),
            made({"role": st.just("function"), "name": NAMES, "content": TEXT}),
            made(
                {
                    "role": st.just("assistant"),
                    "content": st.none(),
                    "function_call": made({"name": NAMES, "arguments": TEXT}),
                }
            ),
        )
    ),
    max_size=5,
)
FUNCTION = made({"name": NAMES}, {"description": TEXT, "parameters": OBJECT, "strict": st.booleans()})
CHAT_BODY = with_extra(
    made(
        {"messages": CHAT_MESSAGES},
        {
            "model": NAMES,
            "tools": st.lists(made({"type": st.just("function"), "function": FUNCTION}, CACHED), max_size=2),
            "functions": st.lists(FUNCTION, max_size=2),
            "stream": st.booleans(),
            "stream_options": OBJECT,
            "temperature": st.floats(0, 2),
        },
    )
)

# Responses
INPUT_TEXT = made({"type": st.sampled_from(("input_text", "text")), "text": TEXT})
INPUT_IMAGE = made({"type": st.just("input_image")}, {"image_url": IMAGE_URL, "detail": TEXT, "file_id": TEXT})
OUTPUT_TEXT = made({"type": st.just("output_text"), "text": TEXT}, {"annotations": st.just([])})
REFUSAL = made({"type": st.just("refusal"), "refusal": TEXT})
ITEMS = st.lists(
    st.one_of(
        made(
            {"role": st.sampled_from(("user", "system", "developer")), "content": content(INPUT_TEXT, INPUT_IMAGE)},
            {"type": st.just("message"), "status": TEXT},
        ),
        made(
            {"role": st.just("assistant"), "content": content(OUTPUT_TEXT, REFUSAL)},
            {"type": st.just("message"), "id": NAMES, "phase": TEXT},
        ),
        made({"type": st.just("function_call"), "call_id": NAMES, "name": NAMES, "arguments": TEXT}, {"id": NAMES}),
        made({"type": st.just("custom_tool_call"), "call_id": NAMES, "name": NAMES, "input": TEXT}),
        made({"type": st.just("function_call_output"), "call_id": NAMES, "output": content(INPUT_TEXT, INPUT_IMAGE)}),
        made({"type": st.just("reasoning"), "id": NAMES, "summary": st.lists(INPUT_TEXT, max_size=2)}),
        made({"type": st.sampled_from(("web_search_call", "item_reference")), "id": NAMES}),
    ),
    max_size=6,
)
RESPONSES_BODY = with_extra(
    made(
        {"input": TEXT | ITEMS},
        {
            "model": NAMES,
            "instructions": st.none() | TEXT,
            "tools": st.lists(
                st.builds(lambda function: {"type": "function", **function}, FUNCTION)
                | made({"type": st.just("web_search"), "filters": OBJECT}),
                max_size=2,
            ),
            "previous_response_id": TEXT,
            "text": OBJECT,
            "store": st.booleans(),
        },
    )
)

# Messages
TEXT_BLOCK = made({"type": st.just("text"), "text": TEXT}, CACHED | {"citations": st.none()})
SOURCE = st.one_of(
    made({"type": st.just("base64"), "media_type": st.just("image/png"), "data": st.just("iVBORw0KGgo=")}),
    made({"type": st.just("url"), "url": st.just("https://h/x.png")}),
    made({"type": st.just("file"), "file_id": NAMES}),
)
IMAGE_BLOCK = made({"type": st.just("image"), "source": SOURCE}, CACHED)
RESULT = made(
    {"type": st.just("tool_result"), "tool_use_id": NAMES},
    {"content": content(TEXT_BLOCK, IMAGE_BLOCK), "is_error": st.booleans()} | CACHED,
)
TOOL_USE = made({"type": st.just("tool_use"), "id": NAMES, "name": NAMES, "input": OBJECT}, CACHED)
THINKING = made({"type": st.just("thinking"), "thinking": TEXT, "signature": TEXT})
HIDDEN = made({"type": st.sampled_from(("redacted_thinking", "server_tool_use")), "data": TEXT})
MESSAGES_BODY = with_extra(
    made(
        {
            "messages": st.lists(
                st.one_of(
                    made({"role": st.just("user"), "content": content(TEXT_BLOCK, IMAGE_BLOCK, RESULT, UNKNOWN)}),
                    made({"role": st.just("assistant"), "content": content(TEXT_BLOCK, TOOL_USE, THINKING, HIDDEN)}),
                ),
                max_size=5,
            )
        },
        {
            "model": NAMES,
            "system": content(TEXT_BLOCK),
            "tools": st.lists(
                made({"name": NAMES, "input_schema": OBJECT}, {"description": TEXT} | CACHED)
                | made({"type": st.just("web_search_20250305"), "name": NAMES}),
                max_size=2,
            ),
            "max_tokens": st.integers(1, 9),
        },
    )
)

# Ollama
OLLAMA_CALL = made({"function": made({"name": NAMES, "arguments": OBJECT}, {"index": st.just(0)})}, {"id": NAMES})
OPTIONS = st.none() | st.dictionaries(st.sampled_from(("temperature", "num_predict", "format", "seed")), VALUES)
OLLAMA_BODY = with_extra(
    made(
        {
            "model": st.just("m"),
            "messages": st.lists(
                made(
                    {"role": st.sampled_from(("system", "user", "assistant", "tool")), "content": TEXT},
                    {
                        "images": st.lists(st.sampled_from(("iVBORw0KGgo=", "AAAA")), max_size=2),
                        "tool_calls": st.lists(OLLAMA_CALL, max_size=2),
                        "thinking": TEXT,
                        "tool_name": NAMES,
                    },
                ),
                max_size=5,
            ),
        },
        {"options": OPTIONS, "format": st.just("json"), "stream": st.booleans(), "keep_alive": VALUES},
    )
)
GENERATE_BODY = with_extra(
    made(
        {"model": st.just("m"), "prompt": TEXT},
        {"system": TEXT, "options": OPTIONS, "images": st.lists(st.just("AAAA"), max_size=2), "suffix": TEXT},
    )
)

REQUESTS = st.one_of(
    st.tuples(st.just(CHAT), CHAT_BODY),
    st.tuples(st.just(RESPONSES), RESPONSES_BODY),
    st.tuples(st.just(MESSAGES), MESSAGES_BODY),
    st.tuples(st.just(OLLAMA), OLLAMA_BODY),
    st.tuples(st.just(GENERATE), GENERATE_BODY),
)
Request = tuple[Dialect, dict[str, Any]]


def numbered_leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """Every leaf of a JSON value by its path."""
    if isinstance(value, dict):
        return {p: leaf for key, inner in value.items() for p, leaf in numbered_leaves(inner, (*path, key)).items()}
    if isinstance(value, list):
        return {p: leaf for i, inner in enumerate(value) for p, leaf in numbered_leaves(inner, (*path, i)).items()}
    return {path: value}


@given(REQUESTS)
def test_an_unchanged_call_is_the_same_request(request: Request) -> None:
    dialect, body = request
    call = dialect.call(body, "a")
    copy = msgspec.json.decode(msgspec.json.encode(call), type=Call)
    assert dialect.rewrite(body, call, call) == body
    assert dialect.rewrite(body, call, copy) == body


@given(REQUESTS, st.sampled_from(("system", "prefix")))
def test_a_changed_text_is_the_only_change(request: Request, kind: Any) -> None:
    dialect, body = request
    call = dialect.call(body, "a")
    place = instruction_index(call.messages, kind)
    if place is None or editable_text(call.messages[place]) is None:
        return
    if len(text_parts(call.messages[place])) > 1:
        return  # several texts of instructions become one part: test_steering
    changed = with_text(call.messages[place], "NEW")
    after = msgspec.structs.replace(call, messages=[*call.messages[:place], changed, *call.messages[place + 1 :]])
    new = dialect.rewrite(body, call, after)
    assert dialect.call(new, "a") == after
    old_leaves, new_leaves = numbered_leaves(body), numbered_leaves(new)
    assert old_leaves.keys() == new_leaves.keys()
    assert [leaf for path, leaf in new_leaves.items() if leaf != old_leaves[path]] == ["NEW"]


@given(REQUESTS, st.sampled_from(("temperature", "num_predict", "x_vendor", "format", "x_new")), VALUES)
def test_a_changed_parameter_is_the_only_change(request: Request, name: str, value: Any) -> None:
    dialect, body = request
    call = dialect.call(body, "a")
    after = msgspec.structs.replace(call, params=call.params | {name: value})
    new = dialect.rewrite(body, call, after)
    assert dialect.call(new, "a") == after
    changed = {path for path, leaf in numbered_leaves(new).items() if numbered_leaves(body).get(path, ...) != leaf}
    assert all(name in path for path in changed)


@given(REQUESTS)
def test_demos_and_instructions_are_inserted_and_nothing_else_moves(request: Request) -> None:
    dialect, body = request
    call = dialect.call(body, "a")
    if dialect is GENERATE or next((m["role"] for m in call.messages if m["role"] != "system"), "user") != "user":
        return  # a prompt has no turns; a conversation that does not begin with the user's is not one
    after = Policy().with_demos("a", [Demo("in", "out")]).apply(call).call
    if instruction_index(call.messages, "system") is None:
        after = msgspec.structs.replace(after, messages=[{"role": "system", "content": "S"}, *after.messages])
    new = dialect.rewrite(body, call, after)
    assert dialect.call(new, "a") == after
    left = [leaf for leaf in numbered_leaves(new).values() if leaf not in ("in", "out", "S", "user", "assistant")]
    for leaf in numbered_leaves(body).values():
        assert leaf in left or leaf in ("user", "assistant", "", None)  # empty instructions are none


@given(st.lists(st.integers(0, 4), max_size=8), st.lists(st.integers(0, 4), max_size=8))
def test_origins_rise_and_equal_lists_are_their_own(before: list[int], after: list[int]) -> None:
    found = [origin for origin in origins(before, after) if origin is not None]
    assert found == sorted(set(found)) and all(0 <= origin < len(before) for origin in found)
    assert origins(before, before) == list(range(len(before)))


@given(st.lists(st.sampled_from("uas"), max_size=6), st.data())
def test_what_is_left_after_a_removal_and_an_insertion_keeps_its_origin(roles: list[str], data: st.DataObject) -> None:
    before: list[Message] = [{"role": role, "content": str(place)} for place, role in enumerate(roles)]
    kept = [message for message in before if data.draw(st.booleans())]
    place = data.draw(st.integers(0, len(kept)))
    after = [*kept[:place], {"role": "u", "content": "new"}, *kept[place:]]
    wires = [message["content"] for message in before]
    told = spliced(wires, before, after, new=lambda m: m["content"], edit=lambda wire, old, new: new["content"])
    assert told == [message["content"] for message in after]
    for message, origin in zip(after, origins(before, after), strict=True):
        assert origin is None or before[origin] == message or message["content"] == "new"


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (["s2", "u", "a"], [0, 1, 2]),
        (["s", "u-demo", "a-demo", "u", "a"], [0, None, None, 1, 2]),
        (["s2", "u-demo", "a-demo", "u2", "a"], [0, None, None, 1, 2]),
        (["u", "a"], [1, 2]),
        (["s", "u", "a", "u3"], [0, 1, 2, None]),
    ],
)
def test_a_changed_message_comes_from_the_one_it_replaces(after: list[str], expected: list[int | None]) -> None:
    def messages(texts: list[str]) -> list[Message]:
        return [{"role": text[0], "content": text} for text in texts]

    assert origins(messages(["s", "u", "a"]), messages(after)) == expected


def text_parts(message: Message) -> list[Any]:
    content: Any = message["content"]
    return [part for part in content if "text" in part] if isinstance(content, list) else []


def with_text(message: Message, text: str) -> Message:
    given: Any = message["content"]
    if isinstance(given, str):
        return {**message, "content": text}
    return {**message, "content": [part | {"text": text} if "text" in part else part for part in given]}
