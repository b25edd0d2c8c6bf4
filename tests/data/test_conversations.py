"""The calls of a rollout become conversations; each answer is in exactly one to be learned."""

from __future__ import annotations

from tests.store.rollouts import SYSTEM, asks, assistant, model, rollout, told, user, weather

from agentlightning.data.conversations import conversations, plain_message, plain_tools


def test_calls_that_continue_one_another_are_one_conversation() -> None:
    [conversation] = conversations(weather("r"))
    assert [m["role"] for m in conversation.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert conversation.answered == [2, 4]
    assert conversation.tools[0]["function"]["name"] == "look_up"


def test_interleaved_agents_have_conversations_of_their_own() -> None:
    one, two = [user("plan")], [user("write")]
    steps = [
        model("r", 0, one, assistant("A1"), agent="planner"),
        model("r", 1, two, assistant("B1"), agent="writer"),
        model("r", 2, [*one, assistant("A1"), user("go on")], assistant("A2"), agent="planner"),
        model("r", 3, [*two, assistant("B1"), user("more")], assistant("B2"), agent="writer"),
    ]
    planner, writer = conversations(rollout("r", steps=steps))
    assert [m["content"] for m in planner.messages] == ["plan", "A1", "go on", "A2"]
    assert [m["content"] for m in writer.messages] == ["write", "B1", "more", "B2"]
    assert conversations(rollout("r", steps=steps), agents=["writer"]) == [writer]


def test_a_rewritten_history_begins_anew_and_only_its_own_answer_is_learned() -> None:
    steps = [
        model("r", 0, [user("q")], assistant("long answer")),
        model("r", 1, [user("q"), assistant("summary"), user("and?")], assistant("end")),
    ]
    first, second = conversations(rollout("r", steps=steps))
    assert (first.answered, second.answered) == ([1], [3])


def test_failed_and_half_read_calls_are_left_out() -> None:
    steps = [
        model("r", 0, [user("q")], assistant("x"), error="HTTP 500"),
        model("r", 1, [user("q")], assistant("x"), is_partial=True),
    ]
    assert conversations(rollout("r", steps=steps)) == []


def test_messages_keep_only_what_training_formats_know() -> None:
    answer = {**assistant(None, asks("Oslo")), "refusal": None, "annotations": [], "reasoning_content": "hm"}
    assert plain_message(answer) == assistant(None, asks("Oslo"))
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert plain_message({"role": "developer", "content": parts}) == {"role": "system", "content": "ab"}
    image = [{"type": "image_url", "image_url": {"url": "data:…"}}]
    assert plain_message({"role": "user", "content": image})["content"] == image
    assert plain_message(told("x")) == told("x")
    assert plain_message(SYSTEM) == SYSTEM


def test_tools_of_every_dialect_come_in_one_form() -> None:
    flat = {"type": "function", "name": "f", "parameters": {}}
    nested = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert plain_tools([flat, nested, {"type": "web_search"}]) == [nested, nested]
