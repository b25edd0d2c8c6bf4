"""Members of a team that no framework names are known by what they are told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from agentlightning.interception import fingerprint
from agentlightning.interception.dialects.base import Dialect
from agentlightning.interception.dialects.chat import ChatCompletions
from agentlightning.interception.fingerprint import can_be_known, speaker_by_prompt, take_fingerprints

WRITER, CRITIC = "You write about {topic}, in {language}.", "You judge what is written."


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fingerprint, "_known", {})
    yield


def speaker(*messages: tuple[str, str], team: str = "team") -> str | None:
    body = {"model": "m", "messages": [{"role": role, "content": text} for role, text in messages]}
    dialect: Dialect = ChatCompletions()
    return speaker_by_prompt(team, dialect, json.dumps(body).encode(), "/v1/chat/completions")


def test_a_call_is_the_members_whose_instructions_it_holds() -> None:
    take_fingerprints("team", {"writer": WRITER, "critic": CRITIC})
    assert speaker(("system", f"Today is Monday.\n{CRITIC}"), ("user", "x")) == "critic"
    assert speaker(("system", "You are someone else."), ("user", CRITIC)) is None
    assert speaker(("user", f"{CRITIC} Here it is.")) == "critic"


def test_what_was_filled_in_does_not_matter_but_its_order_does() -> None:
    take_fingerprints("team", {"writer": WRITER})
    assert speaker(("system", "You write about bees, in French.")) == "writer"
    assert speaker(("system", ", in French. You write about bees")) is None


def test_of_two_the_one_that_holds_the_other_is_meant_and_equals_are_nobody() -> None:
    take_fingerprints("team", {"short": "You are a helper.", "long": "You are a helper. You help with taxes."})
    assert speaker(("system", "You are a helper. You help with taxes.")) == "long"
    assert speaker(("system", "You are a helper.")) == "short"
    take_fingerprints("team", {"one": CRITIC, "two": CRITIC})
    assert speaker(("system", CRITIC)) is None


def test_short_instructions_and_other_teams_are_not_known() -> None:
    assert not can_be_known("{everything}") and not can_be_known("Be kind.")
    take_fingerprints("team", {"kind": "Be kind.", "critic": CRITIC})
    assert speaker(("system", "Be kind.")) is None
    assert speaker(("system", CRITIC), team="another") is None


def test_bytes_of_no_dialect_are_nobodys() -> None:
    take_fingerprints("team", {"critic": CRITIC})
    assert speaker_by_prompt("team", ChatCompletions(), b"not json", "/v1/chat/completions") is None
