"""The recorder hears of everything once, in order, and never disturbs the agent."""

from __future__ import annotations

import logging
from typing import Any

import pydantic
import pytest
from tests.interception.rollout import QUESTION, STREAMED, TRANSPORTS, post, rollout
from tests.servers import FakeOpenAI

from agentlightning.interception.dialects import DIALECTS
from agentlightning.interception.recorder import Entry, Recorder, plain


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_entry_ends_once(transport: str) -> None:
    ended: list[tuple[str, int]] = []

    def on_end(recorder: Recorder, entry: Entry) -> None:
        ended.append((recorder.step(entry).id, entry.index))

    recorder = Recorder("r-7", on_end=on_end)
    with FakeOpenAI("one two three") as server, rollout(recorder=recorder):
        url = server.base_url + "/chat/completions"
        post(transport, url, QUESTION)
        post(transport, url, STREAMED, stream=True)
        post(transport, url, STREAMED, stream=True, max_pieces=1)
        server.next_status(500)
        post(transport, url, QUESTION, stream=True)
        server.drop()
        with pytest.raises(Exception):
            post(transport, url, QUESTION)
    assert ended == [(f"r-7.{index}", index) for index in range(5)]
    assert [step.id for step in recorder.steps()] == [id for id, _ in ended]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_failing_hook_is_logged_and_the_agent_never_knows(transport: str, caplog: pytest.LogCaptureFixture) -> None:
    def on_end(recorder: Recorder, entry: Entry) -> None:
        raise RuntimeError("the queue is gone")

    recorder = Recorder(on_end=on_end)
    with FakeOpenAI() as server, rollout(recorder=recorder), caplog.at_level(logging.ERROR):
        assert post(transport, server.base_url + "/chat/completions", STREAMED, stream=True).status == 200
    assert recorder.num_lost == 1 and "the queue is gone" in caplog.text
    assert recorder.steps()[0].error is None


def test_steps_come_in_the_order_of_their_beginnings() -> None:
    recorder = Recorder("r-1")
    outer = recorder.open_span(kind="tool", agent="a", name="outer", arguments={})
    call = recorder.open_call(agent="a", dialect=DIALECTS[0], url="http://h", headers={}, body=b"{}")
    call.fail(ValueError("x"))
    outer.end("done")
    assert [(step.index, step.kind) for step in recorder.steps()] == [(0, "tool"), (1, "model")]
    assert recorder.exchanges() == [call]


def test_a_span_still_open_is_a_partial_step() -> None:
    recorder = Recorder()
    recorder.open_span(kind="tool", agent="a", name="slow", arguments={"x": 1})
    [step] = recorder.steps()
    assert step.is_partial and step.latency_seconds is None and step.arguments == {"x": 1}


class Awkward:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Model(pydantic.BaseModel):
    x: int = 1


@pytest.mark.parametrize(
    ("value", "snapshot"),
    [
        ({"a": (1, 2)}, {"a": [1, 2]}),
        (Model(), {"x": 1}),
        ([Model], [repr(Model)]),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        (object, repr(object)),
        (Awkward(), "<Awkward whose repr raised RuntimeError>"),
        ({1: Awkward()}, {"1": "<Awkward whose repr raised RuntimeError>"}),
        ("\ud800", "'\\ud800'"),
        (10**30, 10**30),
    ],
)
def test_a_snapshot_says_what_json_can(value: Any, snapshot: Any) -> None:
    assert plain(value) == snapshot


def test_a_snapshot_is_not_changed_by_what_happens_later() -> None:
    value = {"a": [1]}
    before = plain(value)
    value["a"].append(2)
    assert before == {"a": [1]}


def test_a_snapshot_of_what_contains_itself_is_its_text() -> None:
    value: list[Any] = []
    value.append(value)
    assert plain(value) == "[[...]]"
