"""A responder answers in the provider's place: nothing is sent, the caller notices nothing, the record has the ids."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import aiohttp
import httpx
import msgspec
import pytest
import requests
from tests.contract.dialects.cases import CALLED, CASES, SAID
from tests.engines import LOGPROB, MODEL, Answering, ByteEngine, tokens_of, tokens_of_call
from tests.interception.rollout import KEY, QUESTION, STREAMED, TRANSPORTS, Answer, post, rollout
from tests.servers import FakeOpenAI

from agentlightning.data.call import Call, Reply
from agentlightning.data.resource import Policy, PromptSite, Slot
from agentlightning.data.trajectory import Step
from agentlightning.errors import ContextTooLong, DataError, ModelError, RolloutStopped
from agentlightning.interception.endpoint import seen_endpoint
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, current_scope, entered, speaking

NOWHERE = "http://192.0.2.1"
"""An address kept for documentation: whatever is sent there is lost."""
URL = NOWHERE + "/v1/chat/completions"


def ask(engine: ByteEngine, transport: str, body: Any, *, path: str = "/v1/chat/completions", **options: Any) -> Answer:
    return post(transport, NOWHERE + path, body, stream=bool(body.get("stream")), **options)


def answered(engine: ByteEngine, transport: str, body: Any, **options: Any) -> tuple[Answer, Step]:
    """What the caller gets in a rollout that the engine answers, and the one step it leaves."""
    path = options.pop("path", "/v1/chat/completions")
    with rollout(responder=Answering(engine), **options) as recorder:
        answer = ask(engine, transport, body, path=path)
    [step] = recorder.steps()
    return answer, step


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("expected", [SAID, CALLED], ids=["text", "tool call"])
def test_every_dialect_and_transport_is_answered_in_its_own_words(
    name: str, transport: str, is_streamed: bool, expected: Reply
) -> None:
    case = CASES[name]
    if expected is CALLED and not case.has_tools:
        return
    with ByteEngine(expected) as engine:
        answer, step = answered(engine, transport, case.body(stream=is_streamed), path=case.path)
    assert answer.status == 200
    if is_streamed:
        assert case.dialect.stream_type in answer.headers.get("content-type", answer.headers.get("Content-Type", ""))
        given = case.dialect.assemble(case.dialect.events(answer.body))
    else:
        given = case.dialect.reply(msgspec.json.decode(answer.body))
    assert (given.message, given.finish_reason) == (expected.message, expected.finish_reason)
    assert step.prompt_ids == tokens_of_call(case.call()) and step.completion_ids == tokens_of(expected)
    assert step.logprobs == [LOGPROB] * len(tokens_of(expected))
    assert step.reply is not None and step.reply.message == expected.message
    assert (step.status, step.error, step.is_partial, step.endpoint) == (200, None, False, f"engine:{MODEL}")
    assert (step.dialect, step.agent) == (case.dialect.name, "helper")
    assert step.call is not None and step.call.messages == case.heard


def test_the_engine_is_asked_what_the_policy_wants_sent() -> None:
    site = PromptSite(id="s1", agent="helper", kind="system", template="Be ⟦mood⟧.", slots=[Slot("mood")])
    policy = Policy().with_prompt(site, "Always be ⟦mood⟧.").with_weights("helper", "w-1")
    with ByteEngine() as engine:
        _, step = answered(engine, "httpx", QUESTION, policy=policy, recorder=Recorder("r-7"))
    assert engine.calls[0].messages[0] == {"role": "system", "content": "Always be kind."}
    assert engine.asked == [("w-1", "r-7")]
    assert step.call == engine.calls[0]
    assert (step.steered_sites, step.policy_id) == (["s1"], policy.id)


def test_what_predict_makes_of_a_call_is_what_the_engine_is_asked() -> None:
    def predict(call: Any, policy: Policy) -> Any:
        return msgspec.structs.replace(call, params={"temperature": 0.0})

    with ByteEngine() as engine:
        answered(engine, "httpx", QUESTION, predict=predict)
    assert engine.calls[0].params == {"temperature": 0.0}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_calls_the_responder_leaves_alone_go_out_as_they_are(transport: str) -> None:
    with (
        ByteEngine("from the engine") as engine,
        FakeOpenAI("from the provider") as server,
        rollout("team", responder=Answering(engine, "writer")) as recorder,
    ):
        url = server.base_url + "/chat/completions"
        with speaking("writer"):
            own = post(transport, url, QUESTION)
        other = post(transport, url, STREAMED, stream=True)
    assert b"from the engine" in own.body and b"vider" in other.body
    assert len(server.requests) == 1 and server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    steps = recorder.steps()
    assert [step.completion_ids is not None for step in steps] == [True, False]
    assert [step.agent for step in steps] == ["writer", "team"]


def test_an_answered_call_says_nothing_about_the_key_the_agent_has() -> None:
    with ByteEngine() as engine, rollout(responder=Answering(engine)) as recorder:
        post("httpx", URL, QUESTION)
    assert seen_endpoint(recorder.exchanges()[0]) is None
    [step] = recorder.steps()
    assert KEY not in str(step) and step.is_from_engine


class Elsewhere:
    """An engine behind an endpoint, which is told everything that the responder was given."""

    def __init__(self, server: FakeOpenAI) -> None:
        self._url = f"{server.base_url}/chat/completions"
        self._pool = ThreadPoolExecutor(1)

    def respond(self, call: Call, policy: Policy, rollout_id: str) -> Future[Reply]:
        return self._pool.submit(self._ask, msgspec.json.encode([call, policy, rollout_id]))

    def _ask(self, told: bytes) -> Reply:
        heard = current_scope()
        body = {**QUESTION, "metadata": {"told": told.decode(), "scope": str(heard and vars(heard))}}
        answer = httpx.post(self._url, json=body, headers={"authorization": "Bearer engine"}).json()
        return Reply(message=answer["choices"][0]["message"])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_endpoint_that_answers_in_the_providers_place_hears_no_key_of_it(transport: str) -> None:
    with FakeOpenAI("from elsewhere") as server, rollout(responder=Elsewhere(server)):
        answer = post(transport, f"{URL}?api-version=1&key={KEY}", QUESTION)
    [seen] = server.requests
    assert b"from elsewhere" in answer.body and KEY not in str(seen)
    assert seen.headers["authorization"] == "Bearer engine"


def test_other_requests_are_not_answered() -> None:
    with ByteEngine() as engine, FakeOpenAI() as server, rollout(responder=Answering(engine)) as recorder:
        post("httpx", server.base_url + "/embeddings", {"model": "m", "input": "x"})
    assert (len(server.requests), engine.calls, recorder.steps()) == (1, [], [])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ContextTooLong("9000 tokens do not fit into 4096"), 400),
        (DataError("parameter 'n' is no number"), 400),
        (ModelError("out of memory"), 500),
        (ZeroDivisionError("a bug"), 500),
    ],
)
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", CASES)
def test_what_goes_wrong_is_an_error_in_the_callers_dialect(
    name: str, transport: str, error: Exception, status: int
) -> None:
    case = CASES[name]
    with ByteEngine() as engine:
        engine.fail(error)
        answer, step = answered(engine, transport, case.body(stream=True), path=case.path)
    assert answer.status == status
    assert case.dialect.failure(msgspec.json.decode(answer.body)) == str(error)
    assert (step.status, step.error, step.reply) == (status, f"HTTP {status}: {error}", None)
    assert step.endpoint == "engine:m"


def test_a_responder_that_raises_at_once_is_told_in_the_same_way() -> None:
    class Broken:
        def respond(self, *_: Any) -> Any:
            raise ModelError("no chat template")

    with rollout(responder=Broken()) as recorder:
        answer = post("httpx", URL, QUESTION)
    assert answer.status == 500 and b"no chat template" in answer.body
    assert len(recorder.steps()) == 1


def test_what_a_responder_does_is_no_part_of_the_rollout() -> None:
    seen: list[Any] = []

    class Looking:
        def respond(self, *_: Any) -> None:
            seen.append(current_scope())

    with FakeOpenAI() as server, rollout(responder=Looking()):
        post("httpx", server.base_url + "/chat/completions", QUESTION)
    assert seen == [None] and len(server.requests) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_rollout_that_must_stop_is_stopped(transport: str) -> None:
    with ByteEngine() as engine:
        engine.fail(RolloutStopped("the engine is closing"))
        with rollout(responder=Answering(engine)) as recorder, pytest.raises(RolloutStopped, match="closing"):
            post(transport, URL, QUESTION)
    assert [step.error for step in recorder.steps()] == ["RolloutStopped: the engine is closing"]


def test_a_spent_budget_keeps_the_engine_from_being_asked() -> None:
    def admit() -> None:
        raise RolloutStopped("spent")

    with ByteEngine() as engine, rollout(responder=Answering(engine), admit=admit), pytest.raises(RolloutStopped):
        post("httpx", URL, QUESTION)
    assert engine.calls == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_answer_nobody_will_give_is_an_error(transport: str) -> None:
    with ByteEngine() as engine:
        engine.hold()
        engine.sample(CASES["chat"].call())  # the one thread is busy, so the next can be cancelled
        threading.Timer(0.05, lambda: engine.futures[1].cancel()).start()
        answer, _ = answered(engine, transport, QUESTION)
        engine.release()
    assert answer.status == 500 and b"has stopped" in answer.body


def test_a_waiting_agent_does_not_hold_up_its_loop() -> None:
    async def main(engine: ByteEngine) -> list[str]:
        async with httpx.AsyncClient() as client:
            first = asyncio.create_task(client.post(URL, json=QUESTION))
            while not engine.calls:
                await asyncio.sleep(0)
            engine.release()  # this line is reached only when the loop goes on
            return [(await first).json()["choices"][0]["message"]["content"]]

    with ByteEngine() as engine, rollout(responder=Answering(engine)):
        engine.hold()
        assert asyncio.run(main(engine)) == ["ok"]


def test_an_agent_that_gives_up_tells_the_engine() -> None:
    async def main(engine: ByteEngine) -> None:
        async with httpx.AsyncClient() as client:
            waiting = asyncio.create_task(client.post(URL, json=QUESTION))
            while len(engine.futures) < 2:
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    with ByteEngine() as engine, rollout(responder=Answering(engine)) as recorder:
        engine.hold()
        engine.sample(CASES["chat"].call())
        asyncio.run(main(engine))
        assert engine.futures[1].cancelled()
    assert [step.error for step in recorder.steps()] == ["CancelledError"]


def test_a_stream_left_early_is_still_recorded_whole() -> None:
    with ByteEngine(SAID) as engine, rollout(responder=Answering(engine)) as recorder:
        for transport in TRANSPORTS:
            post(transport, URL, STREAMED, stream=True, max_pieces=1)
    for step in recorder.steps():
        assert step.completion_ids == tokens_of(SAID) and not step.is_partial


def test_a_stream_tells_usage_only_to_who_asked() -> None:
    with ByteEngine() as engine:
        plain, _ = answered(engine, "httpx", STREAMED)
        asking, _ = answered(engine, "httpx", STREAMED | {"stream_options": {"include_usage": True}})
    assert b'"usage"' not in plain.body and b'"prompt_tokens"' in asking.body


def test_several_answers_are_given_when_asked_for() -> None:
    with ByteEngine("one of three") as engine:
        answer, step = answered(engine, "httpx", QUESTION | {"n": 3})
    texts = [choice["message"]["content"] for choice in msgspec.json.decode(answer.body)["choices"]]
    assert texts == ["one of three"] * 3
    assert step.reply is not None and len(step.reply.alternatives) == 2 and step.completion_ids is not None


def test_tool_calls_without_an_id_get_one_that_record_and_agent_share() -> None:
    nameless = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = Reply({"role": "assistant", "content": None, "tool_calls": [nameless, nameless]}, "tool_calls")
    with ByteEngine(said) as engine:
        answer, step = answered(engine, "httpx", QUESTION)
    calls = msgspec.json.decode(answer.body)["choices"][0]["message"]["tool_calls"]
    assert len({call["id"] for call in calls}) == 2
    assert step.reply is not None and step.reply.message["tool_calls"] == calls


def test_a_response_can_be_continued_by_its_id() -> None:
    def responses(**fields: Any) -> dict[str, Any]:
        answer = post("httpx", NOWHERE + "/v1/responses", {"model": "m", "instructions": "Be brief.", **fields})
        return msgspec.json.decode(answer.body)

    engine = ByteEngine(lambda call: f"answer {len(call.messages)}")
    with engine, rollout(responder=Answering(engine)) as recorder:
        first = responses(input="one")
        second = responses(input="two", previous_response_id=first["id"])
        responses(input="three", previous_response_id=second["id"], instructions="Be long.")
        unknown = responses(input="four", previous_response_id="resp_elsewhere")
    assert [(m["role"], m["content"]) for m in engine.calls[2].messages] == [
        ("system", "Be long."),
        ("user", "one"),
        ("assistant", "answer 2"),
        ("user", "two"),
        ("assistant", "answer 4"),
        ("user", "three"),
    ]
    assert "resp_elsewhere" in unknown["error"]["message"]
    assert [step.status for step in recorder.steps()] == [200, 200, 200, 400]
    assert recorder.steps()[2].call == engine.calls[2]


def test_a_key_in_a_prompt_takes_the_ids_that_spell_it_with_it() -> None:
    body = QUESTION | {"messages": [{"role": "user", "content": f"my key is {KEY}"}]}
    with ByteEngine() as engine:
        _, step = answered(engine, "httpx", body)
    assert step.call is not None and "[secret]" in str(step.call)
    assert (step.prompt_ids, step.completion_ids, step.logprobs) == (None, None, None)


def test_an_optimised_agent_is_answered_without_a_recorder() -> None:
    with ByteEngine("trained") as engine, entered(Scope("helper", responder=Answering(engine))):
        for transport in TRANSPORTS:
            assert b"trained" in post(transport, URL, QUESTION).body
    assert engine.asked == [("", "")] * len(TRANSPORTS)


def test_a_client_keeps_its_hooks_and_its_own_connections() -> None:
    seen: list[int] = []
    with ByteEngine() as engine, FakeOpenAI() as server:
        hooks = {"response": [lambda response: seen.append(response.status_code)]}
        with httpx.Client(event_hooks=hooks) as client:
            client.get(server.base_url + "/models")
            with rollout(responder=Answering(engine)):
                response = client.post(server.base_url + "/chat/completions", json=QUESTION)
            client.get(server.base_url + "/models")
    assert seen == [200, 200, 200] and server.num_connections == 1 and len(server.requests) == 2
    assert response.elapsed.total_seconds() >= 0 and response.request.method == "POST" and response.http_version


def test_a_requests_session_keeps_its_hooks() -> None:
    seen: list[int] = []
    with ByteEngine() as engine, rollout(responder=Answering(engine)), requests.Session() as session:
        session.hooks["response"].append(lambda response, **_: seen.append(response.status_code))
        response = session.post(URL, json=STREAMED, stream=True)
        lines = [line for line in response.iter_lines() if line]
    assert seen == [200] and lines[-1] == b"data: [DONE]" and response.url == URL and response.ok


def test_an_aiohttp_session_keeps_its_settings_and_stays_usable() -> None:
    async def main(url: str) -> None:
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            with rollout(responder=Answering(engine)):
                async with session.post(URL, json=QUESTION) as response:
                    assert (await response.json())["choices"][0]["message"]["content"] == "ok"
                engine.fail(ContextTooLong("too long"))
                with pytest.raises(aiohttp.ClientResponseError) as raised:
                    await session.post(URL, json=QUESTION)
            assert raised.value.status == 400
            async with session.get(url) as response:
                assert response.status == 200

    with ByteEngine() as engine, FakeOpenAI() as server:
        asyncio.run(main(server.base_url + "/models"))
    assert len(server.requests) == 1
