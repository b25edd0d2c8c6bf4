"""Personal data becomes placeholders, one per person or number, everywhere in a trajectory; ordinary numbers stay."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentlightning.data.call import Call, Reply
from agentlightning.data.masking import mask
from agentlightning.data.trajectory import ErrorTag, Features, Reward, Step, Trajectory


def rollout(input: Any = "hello", **fields: Any) -> Trajectory:
    return Trajectory(id="r", agent_id="a", task="t", input=input, timestamp=1.0, **fields)


def model_step(said: str, answered: str = "ok", **fields: Any) -> Step:
    call = Call("a", "m", [{"role": "user", "content": said}])
    reply = Reply({"role": "assistant", "content": answered})
    return Step(
        id="s", rollout_id="r", index=0, kind="model", agent="a", started_at=1.0, call=call, reply=reply, **fields
    )


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to Ann.Lee+news@mail.example.co.uk.", "write to [email_1]."),
        ("call +49 (30) 1234-5678 or 555-010-0199", "call [phone_1] or [phone_2]"),
        ("(555) 010-0199, 06 12 34 56 78; 138 1234 5678", "[phone_1], [phone_2]; [phone_3]"),
        ("020 7946 0958 and 030/1234567", "[phone_1] and [phone_2]"),
        ("card 4111 1111 1111 1111, exp 12/29", "card [card_1], exp 12/29"),
        ("378282246310005", "[card_1]"),
        ("IBAN DE89 3704 0044 0532 0130 00 AND MORE", "IBAN [iban_1] AND MORE"),
        ("GB82WEST12345698765432.", "[iban_1]."),
        ("from 203.0.113.7:8080", "from [ip_1]:8080"),
        ("from 2001:db8::8a2e:370:7334", "from [ip_1]"),
        ("data: ann@x.org", "data: [email_1]"),
        ("ann@x.org, Bob@x.org, ANN@x.org", "[email_1], [email_2], [email_1]"),
        ("+1 555 010 0199 is +15550100199", "[phone_1] is [phone_1]"),
    ],
)
def test_personal_data_is_found_by_its_shape(text: str, masked: str) -> None:
    assert mask(rollout(text)).input == masked


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112 fails the Luhn check",
        "order 1234567890123456, 2024-01-02 10:20:30.123456, 3.14159265358979",
        "https://host/v1.2.3.4/x?id=99999999999, 999.1.1.1, http://127.0.0.1:8000/v1 and ::1",
        "std::vector<int>, 10:20:30, 17:45, a::b",
        "@decorator, user@localhost, 12 * 34 = 408, 100.000.000, 1,234,567,890",
        "1716239022, 1716239022123, 0.1234567",
        "data:image/png;base64,4111 1111 1111 1111",
        "DE89370400440532013001 is no IBAN",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert mask(rollout(text)).input == text


def test_one_person_has_one_placeholder_wherever_the_trajectory_names_them() -> None:
    step = model_step("ann@x.org asks", "dear ann@x.org", prompt_ids=[1], completion_ids=[2], logprobs=[-0.1])
    tool = Step(
        id="s2", rollout_id="r", index=1, kind="tool", agent="a", started_at=1.0, error="ann@x.org",
        arguments='{"to": "ann@x.org", "cc": ["bob@x.org"], "n": 1}', result={"sent": {"ann@x.org": True}},
    )  # fmt: skip
    masked = mask(
        rollout(
            {"from": "ann@x.org"},
            output=["bob@x.org", 4111111111111111],
            expected="ann@x.org",
            metadata={"who": "ann@x.org"},
            error="bounced: ann@x.org",
            rewards=[Reward(0.0, "forgot bob@x.org")],
            features=Features(error_tags=[ErrorTag("tool_error", 1, "ann@x.org")]),
            steps=[step, tool],
        )
    )
    text = msgspec.json.encode(masked).decode()
    assert "ann@" not in text and "bob@" not in text and "4111" not in text
    assert masked.input == {"from": "[email_1]"} and masked.output == ["[email_2]", "[card_1]"]
    assert json.loads(masked.steps[1].arguments) == {"to": "[email_1]", "cc": ["[email_2]"], "n": 1}
    assert masked.steps[1].result == {"sent": {"[email_1]": True}}
    assert masked.rewards[0].reason == "forgot [email_2]"


def test_token_ids_of_masked_text_are_dropped_and_of_other_steps_kept() -> None:
    ids = {"prompt_ids": [1], "completion_ids": [2], "logprobs": [-0.1]}
    told, plain = mask(rollout(steps=[model_step("ann@x.org", **ids), model_step("hello", **ids)])).steps
    assert (told.prompt_ids, told.completion_ids, told.logprobs) == (None, None, None)
    assert plain.completion_ids == [2]


def test_json_inside_a_string_stays_json() -> None:
    masked = mask(rollout('{"card": 4111111111111111, "mail": "ann\\u0040x.org", "price": 12.5}'))
    assert json.loads(str(masked.input)) == {"card": "[card_1]", "mail": "[email_1]", "price": 12.5}


def test_placeholders_that_are_there_already_keep_their_numbers() -> None:
    once = mask(rollout("ann@x.org and bob@x.org"))
    again = mask(msgspec.structs.replace(once, output="eve@x.org"))
    assert (again.input, again.output) == ("[email_1] and [email_2]", "[email_3]")


def test_two_spellings_of_one_address_as_names_of_fields_lose_nothing() -> None:
    assert mask(rollout({"ann@x.org": 1, "ANN@x.org": 2})).input == {"[email_1]": 1, "[email_1]'": 2}


personal = ["ann@x.org", "+49 30 1234567", "4111 1111 1111 1111", "DE89370400440532013000", "203.0.113.7"]
pieces = st.sampled_from([*personal, "555-010-0199", *" .-@+1x[\né", '{"a": "', '"}'])


@settings(max_examples=300, deadline=None)
@given(words=st.lists(pieces, max_size=8))
def test_masking_twice_is_masking_once(words: list[str]) -> None:
    text = "".join(words)
    once = mask(rollout(text, steps=[model_step(text)]))
    assert mask(once) == once
