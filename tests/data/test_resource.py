"""Policies: what they are called, and what they do to an outgoing call."""

from typing import Any

import msgspec
import pytest

from agentlightning.data.call import Call, Message
from agentlightning.data.resource import Demo, Policy, PromptSite, Slot, editable_text, instruction_index

SYSTEM = PromptSite("bot:system", "bot", "system", "You help ⟦name⟧.", [Slot("name")])
PREFIX = PromptSite("bot:prefix", "bot", "prefix", "Answer this: ⟦input⟧", [Slot("input")])
EMPTY = PromptSite("bot:system", "bot", "system", "")


def call(*messages: Message, agent: str = "bot", **fields: Any) -> Call:
    return Call(agent=agent, model="m", messages=list(messages), **fields)


def says(role: str, content: Any) -> Message:
    return {"role": role, "content": content}


def test_steering_replaces_the_text_and_keeps_the_slot() -> None:
    policy = Policy().with_prompt(SYSTEM, "Dear ⟦name⟧ needs you.")
    applied = policy.apply(call(says("system", "You help Bob."), says("user", "Hi")))
    assert applied.call.messages == [says("system", "Dear Bob needs you."), says("user", "Hi")]
    assert (applied.steered, applied.missed) == (("bot:system",), ())


def test_steering_leaves_the_call_it_was_given_as_it_was() -> None:
    given = call(says("system", "You help Bob."))
    Policy().with_prompt(SYSTEM, "Dear ⟦name⟧ needs you.").apply(given)
    assert given.messages == [says("system", "You help Bob.")]


def test_steering_touches_only_the_agent_of_the_site() -> None:
    given = call(says("system", "You help Bob."), agent="other")
    applied = Policy().with_prompt(SYSTEM, "New ⟦name⟧").apply(given)
    assert applied.call == given
    assert (applied.steered, applied.missed) == ((), ())


def test_steering_replaces_only_the_message_of_the_site() -> None:
    same = "You help Bob."
    given = call(says("system", same), says("user", same), says("assistant", same), says("system", same))
    applied = Policy().with_prompt(SYSTEM, "New ⟦name⟧").apply(given)
    assert [message["content"] for message in applied.call.messages] == ["New Bob", same, same, same]


def test_a_prefix_site_steers_every_turn_of_the_user_that_has_it_and_no_other() -> None:
    turns = [says("user", "Answer this: 1+1"), says("assistant", "Answer this: 2"), says("user", "thanks")]
    given = call(says("system", "Answer this: S"), *turns, says("user", "Answer this: 2+2"))
    applied = Policy().with_prompt(PREFIX, "Think, then answer ⟦input⟧").apply(given)
    assert applied.call.messages == [
        says("system", "Answer this: S"),
        says("user", "Think, then answer 1+1"),
        *turns[1:],
        says("user", "Think, then answer 2+2"),
    ]
    assert applied.steered == (PREFIX.id,)


def test_a_later_turn_may_be_anothers_branch() -> None:
    other = PromptSite("bot:prefix-2", "bot", "prefix", "Check this: ⟦input⟧", [Slot("input")])
    policy = Policy().with_prompt(PREFIX, "A ⟦input⟧").with_prompt(other, "B ⟦input⟧")
    applied = policy.apply(call(says("user", "Answer this: 1"), says("user", "Check this: 2")))
    assert applied.call.messages == [says("user", "A 1"), says("user", "B 2")]


def test_system_and_prefix_are_steered_in_one_call() -> None:
    policy = Policy().with_prompt(SYSTEM, "A ⟦name⟧").with_prompt(PREFIX, "B ⟦input⟧")
    applied = policy.apply(call(says("system", "You help Bob."), says("user", "Answer this: 1+1")))
    assert [message["content"] for message in applied.call.messages] == ["A Bob", "B 1+1"]
    assert applied.steered == ("bot:system", "bot:prefix")


def test_a_call_that_does_not_match_passes_byte_for_byte_and_is_named() -> None:
    given = call(says("system", "Something  else.\n"), says("user", "Hi"), params={"temperature": 0}, stream=True)
    applied = Policy().with_prompt(SYSTEM, "New ⟦name⟧").apply(given)
    assert msgspec.json.encode(applied.call) == msgspec.json.encode(given)
    assert (applied.steered, applied.missed) == ((), ("bot:system",))


def test_the_developer_role_is_instruction_text_too_and_keeps_its_role() -> None:
    applied = Policy().with_prompt(SYSTEM, "New ⟦name⟧").apply(call(says("developer", "You help Bob.")))
    assert applied.call.messages == [says("developer", "New Bob")]


def test_multi_part_content_keeps_its_images_and_other_fields() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    text = {"type": "text", "text": "Answer this: what is it?", "cache_control": {"type": "ephemeral"}}
    nameless = {"type": "custom", "text": None}
    applied = Policy().with_prompt(PREFIX, "Look well: ⟦input⟧").apply(call(says("user", [image, text, nameless])))
    assert applied.call.messages[0]["content"] == [image, {**text, "text": "Look well: what is it?"}, nameless]


def test_instructions_in_several_parts_become_one_that_keeps_the_last_ones_cache_mark() -> None:
    site = PromptSite("bot:system", "bot", "system", "You help.\n\nBe brief with ⟦name⟧.", [Slot("name")])
    mark = {"cache_control": {"type": "ephemeral"}}
    parts = [{"type": "text", "text": "You help."}, {"type": "text", "text": "Be brief with Bob.", **mark}]
    applied = Policy().with_prompt(site, "Help ⟦name⟧.").apply(call(says("system", parts)))
    assert applied.call.messages == [says("system", [{"type": "text", "text": "Help Bob.", **mark}])]


FIND = PromptSite("bot:tool:find", "bot", "tool", "Finds orders of ⟦date⟧.", [Slot("date")], tool="find")


def tool(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"id": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def test_a_tools_description_is_steered_and_nothing_else_of_any_tool() -> None:
    given = call(
        says("user", "Hi"), tools=[tool("other", "Finds orders of May."), tool("find", "Finds orders of May.")]
    )
    applied = Policy().with_prompt(FIND, "Call this first, for orders of ⟦date⟧.").apply(given)
    assert applied.steered == ("bot:tool:find",)
    assert applied.call.tools == [given.tools[0], tool("find", "Call this first, for orders of May.")]
    assert given.tools[1] == tool("find", "Finds orders of May.")


def test_a_description_that_changed_is_missed_but_a_tool_not_offered_is_not() -> None:
    policy = Policy().with_prompt(FIND, "Call this for orders of ⟦date⟧.")
    changed = call(says("user", "Hi"), tools=[tool("find", "Something else.")])
    assert policy.apply(changed).missed == ("bot:tool:find",)
    assert policy.apply(changed).call == changed
    assert policy.apply(call(says("user", "Hi"), tools=[tool("other", "X")])).missed == ()
    assert policy.apply(call(says("user", "Hi"))).missed == ()


def test_of_two_sites_of_one_tool_the_one_that_matches_owns_it() -> None:
    other = msgspec.structs.replace(FIND, id="bot:tool:find-2", template="Something else.", slots=[])
    policy = Policy().with_prompt(FIND, "Orders of ⟦date⟧.").with_prompt(other, "New words.")
    applied = policy.apply(call(says("user", "Hi"), tools=[tool("find", "Something else.")]))
    assert (applied.steered, applied.missed) == (("bot:tool:find-2",), ())
    assert applied.call.tools == [tool("find", "New words.")]


def test_a_slot_that_reaches_into_further_parts_leaves_them_their_text() -> None:
    parts = [{"type": "text", "text": "Answer this: a"}, {"type": "text", "text": "b"}]
    applied = Policy().with_prompt(PREFIX, "New ⟦input⟧").apply(call(says("user", parts)))
    assert [part["text"] for part in applied.call.messages[0]["content"]] == ["New a", "b"]


def test_an_empty_site_inserts_a_system_message_before_everything() -> None:
    applied = Policy().with_prompt(EMPTY, "Be brief.").apply(call(says("user", "Hi"), says("assistant", "Yes?")))
    assert applied.call.messages == [says("system", "Be brief."), says("user", "Hi"), says("assistant", "Yes?")]
    assert applied.steered == ("bot:system",)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_an_empty_site_never_touches_a_call_that_has_instructions(role: str) -> None:
    given = call(says(role, ""), says("user", "Hi"))
    applied = Policy().with_prompt(EMPTY, "Be brief.").apply(given)
    assert applied.call == given
    assert applied.missed == ("bot:system",)


def test_of_two_sites_that_match_the_more_specific_one_is_steered() -> None:
    general = PromptSite("bot:system", "bot", "system", "You ⟦text_1⟧", [Slot("text_1")])
    special = PromptSite("bot:system-2", "bot", "system", "You write ⟦text_1⟧ code.", [Slot("text_1")])
    policy = Policy().with_prompt(special, "Special ⟦text_1⟧").with_prompt(general, "General ⟦text_1⟧")
    applied = policy.apply(call(says("system", "You write SQL code.")))
    assert applied.call.messages == [says("system", "Special SQL")]
    assert (applied.steered, applied.missed) == (("bot:system-2",), ())
    assert policy.apply(call(says("system", "You sleep."))).steered == ("bot:system",)


def test_a_branch_that_was_put_back_to_its_own_text_is_untouched_and_no_miss() -> None:
    other = PromptSite("bot:system-2", "bot", "system", "You write code for ⟦who⟧.", [Slot("who")])
    policy = Policy().with_prompt(SYSTEM, "New ⟦name⟧").with_prompt(other, "X ⟦who⟧").with_prompt(other, other.template)
    given = call(says("system", "You write code for Al."))
    applied = policy.apply(given)
    assert applied.call == given
    assert (applied.steered, applied.missed) == ((), ())


def test_demos_stand_after_the_instructions_as_turns() -> None:
    policy = Policy().with_demos("bot", [Demo("1+1", "2"), Demo("2+2", "4")])
    applied = policy.apply(call(says("system", "S"), says("developer", "D"), says("user", "3+3")))
    roles = [message["role"] for message in applied.call.messages]
    assert roles == ["system", "developer", "user", "assistant", "user", "assistant", "user"]
    assert [message["content"] for message in applied.call.messages[2:6]] == ["1+1", "2", "2+2", "4"]


def test_demos_do_not_take_the_place_of_the_message_a_prefix_site_steers() -> None:
    policy = Policy().with_demos("bot", [Demo("Answer this: 1", "1")]).with_prompt(PREFIX, "New ⟦input⟧")
    applied = policy.apply(call(says("user", "Answer this: 2")))
    assert [message["content"] for message in applied.call.messages] == ["Answer this: 1", "1", "New 2"]


def test_model_and_sampling_of_the_agent_override_the_calls_own() -> None:
    policy = Policy(models={"bot": "better"}, sampling={"bot": {"temperature": 0.2}})
    applied = policy.apply(call(says("user", "Hi"), params={"temperature": 1, "top_p": 0.5}))
    assert applied.call.model == "better"
    assert applied.call.params == {"temperature": 0.2, "top_p": 0.5}
    assert policy.apply(call(says("user", "Hi"), agent="other")).call.model == "m"


def test_the_empty_policy_is_the_original_and_changes_nothing() -> None:
    given = call(says("system", "You help Bob."), says("user", "Hi"))
    assert Policy().id == "original"
    assert Policy(sites=[SYSTEM]).id == "original"
    assert Policy(sites=[SYSTEM]).apply(given).call == given


def test_a_policy_is_named_by_its_content() -> None:
    changed = Policy().with_prompt(SYSTEM, "New ⟦name⟧")
    assert changed.id == Policy(sites=[PREFIX]).with_prompt(SYSTEM, "New ⟦name⟧").id
    assert changed.id != Policy().with_prompt(SYSTEM, "Newer ⟦name⟧").id
    assert changed.with_prompt(SYSTEM, SYSTEM.template).id == "original"
    assert changed.with_demos("bot", [Demo("a", "b")]).with_demos("bot", []).id == changed.id


def test_a_saved_policy_steers_as_before() -> None:
    policy = Policy().with_prompt(SYSTEM, "New ⟦name⟧").with_demos("bot", [Demo("a", "b")])
    loaded = msgspec.json.decode(msgspec.json.encode(policy), type=Policy)
    given = call(says("system", "You help Bob."), says("user", "Hi"))
    assert loaded.id == policy.id
    assert loaded.apply(given) == policy.apply(given)


def test_a_policy_knows_the_text_at_its_sites() -> None:
    policy = Policy().with_prompt(SYSTEM, "New ⟦name⟧")
    assert policy.site("bot:system") == SYSTEM
    assert policy.text_at(SYSTEM) == "New ⟦name⟧"
    assert policy.text_at(PREFIX) == PREFIX.template
    with pytest.raises(KeyError, match="bot:prefix"):
        policy.site("bot:prefix")


def test_the_places_of_instruction_text_in_a_call() -> None:
    messages = [says("user", "a"), says("developer", "b"), says("system", "c")]
    assert instruction_index(messages, "system") == 1
    assert instruction_index(messages, "prefix") == 0
    assert instruction_index(messages[:1], "system") is None


def test_texts_of_a_user_are_edited_in_their_places() -> None:
    image, cached = {"type": "image_url"}, {"type": "text", "text": "Name it:\n", "cache_control": {"type": "x"}}
    message = says("user", [{"type": "text", "text": "Look."}, image, cached, {"type": "text", "text": "cat or dog"}])
    assert editable_text(message) == "Look.\n⟦¶⟧\nName it:\n\n⟦¶⟧\ncat or dog"
    site = PromptSite("bot:prefix", "bot", "prefix", "Look.\n⟦a⟧\nName it:\n\n⟦b⟧\n⟦input⟧")
    applied = Policy().with_prompt(site, "Look well.\n⟦a⟧\nSay what it is: ⟦b⟧⟦input⟧").apply(call(message))
    assert applied.call.messages[0]["content"] == [
        {"type": "text", "text": "Look well."},
        image,
        cached | {"text": "Say what it is: "},
        {"type": "text", "text": "cat or dog"},
    ]


def test_a_message_without_text_or_with_our_own_mark_is_not_editable() -> None:
    assert editable_text(says("user", "a")) == "a"
    assert editable_text(says("user", [{"type": "text", "text": "a ⟦¶⟧"}, {"type": "text", "text": "b"}])) is None
    assert editable_text(says("user", [{"type": "text", "text": "a"}, {"type": "image_url"}])) == "a"
    assert editable_text(says("user", [{"type": "image_url"}])) is None
    assert editable_text(says("assistant", None)) is None
