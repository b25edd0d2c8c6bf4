"""An agent that is only ever seen on Messages, Responses or Ollama needs no other model for its own improvement.

The servers here know nothing but that one path: a question of ours in another dialect would find nobody.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from starlette.responses import JSONResponse, Response
from tests.servers import FakeOpenAI
from tests.trainer.worlds import CLIENT, PROMPT, loud_tasks, shouting_model

from agentlightning import Trainer, wrap_agent
from agentlightning.data.call import Reply, Usage
from agentlightning.interception.dialects import dialect_of
from agentlightning.trainer import runner

Ask = Callable[[FakeOpenAI, str], str]


def one_path(path: str, key: str) -> FakeOpenAI:
    """A server of the shouting model behind one endpoint that wants a key."""
    dialect = dialect_of(path)
    assert dialect is not None

    def answer(body: dict[str, Any]) -> Response:
        call = dialect.call(body, "", path)
        said = shouting_model({"messages": call.messages})
        reply = Reply({"role": "assistant", "content": said}, "stop", Usage(10, 5))
        return JSONResponse(dialect.respond(reply, call, id="r", created=0.0))

    server = FakeOpenAI()
    server.route(path, answer)
    return server


def by_messages(server: FakeOpenAI, question: str) -> str:
    with anthropic.Anthropic(base_url=server.url, api_key="sk-ant-0123456789") as sdk:
        answer = sdk.messages.create(
            model="claude", max_tokens=50, system=PROMPT, messages=[{"role": "user", "content": question}]
        )
    return answer.content[0].text  # type: ignore[union-attr]


def by_responses(server: FakeOpenAI, question: str) -> str:
    with openai.OpenAI(base_url=server.base_url, api_key="sk-0123456789") as sdk:
        return sdk.responses.create(model="gpt", instructions=PROMPT, input=question).output_text


def by_generate(server: FakeOpenAI, question: str) -> str:
    body = {"model": "llama", "system": PROMPT, "prompt": question, "stream": False}
    return CLIENT.post(f"{server.url}/api/generate", json=body).json()["response"]


@pytest.mark.parametrize(
    ("ask", "path", "header"),
    [
        (by_messages, "/v1/messages", ("authorization", "Bearer sk-ant-0123456789")),
        (by_responses, "/v1/responses", ("authorization", "Bearer sk-0123456789")),
    ],
)
def test_optimiser_and_judge_speak_as_the_agent_does(
    ask: Ask, path: str, header: tuple[str, str], tmp_path: Path
) -> None:
    with one_path(path, header[1]) as server:
        agent = wrap_agent(lambda question: ask(server, question), name="parrot")
        made = Trainer(agent, data_dir=tmp_path / "data", output_dir=tmp_path / "out", progress=False, max_epochs=1)
        result = made.train([task.input for task in loud_tasks(20)])
    assert result.final == 1.0 and result.cost.optimizer_calls and result.cost.judge_calls
    assert result.prompts == {"parrot:system": f"{PROMPT} Always shout."}
    assert {seen.path for seen in server.requests} == {path}
    assert all(seen.headers.get(header[0]) == header[1] for seen in server.requests)
    assert header[1].split()[1] not in "".join(file.read_text(errors="replace") for file in _files(tmp_path))


def test_an_agent_on_ollamas_generate_is_improved_through_its_chat(tmp_path: Path) -> None:
    with one_path("/api/generate", "") as server:
        server.route("/api/chat", _chat)
        agent = wrap_agent(lambda question: by_generate(server, question), name="parrot")
        made = Trainer(agent, data_dir=tmp_path / "data", output_dir=tmp_path / "out", progress=False, max_epochs=1)
        result = made.train([task.input for task in loud_tasks(20)])
    assert result.final == 1.0 and result.prompts == {"parrot:system": f"{PROMPT} Always shout."}
    ours = [seen.json for seen in server.requests if seen.path == "/api/chat"]
    assert len(ours) == result.cost.optimizer_calls + result.cost.judge_calls
    assert {body["model"] for body in ours} == {"llama"} and not any(body["stream"] for body in ours)


def _chat(body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": shouting_model(body)}
    return {"model": body["model"], "message": message, "done": True, "done_reason": "stop"}


def test_a_key_that_expires_is_taken_from_the_agent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK_AGAIN_SECONDS", 0.0)
    issued: list[str] = []

    def answer(question: str) -> str:
        issued.append(f"Bearer token-{len(issued):08d}")
        messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": question}]
        body = {"model": "m", "messages": messages}
        headers = {"authorization": issued[-1]}
        response = CLIENT.post(f"{server.base_url}/chat/completions", json=body, headers=headers)
        return response.json()["choices"][0]["message"]["content"]

    def model(body: dict[str, Any]) -> Any:
        is_ours = "<runs>" in str(body)
        if is_ours and server.requests[-1].headers["authorization"] in issued[:5]:
            return JSONResponse({"error": {"message": "the token has expired"}}, 401)
        return shouting_model(body)

    with FakeOpenAI(model) as server:
        agent = wrap_agent(answer, name="parrot")
        made = Trainer(agent, data_dir=tmp_path / "data", output_dir=tmp_path / "out", progress=False, max_epochs=1)
        result = made.train(loud_tasks(20))
    assert result.final == 1.0 and result.prompts == {"parrot:system": f"{PROMPT} Always shout."}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_configured_claude_is_the_optimiser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDES_KEY", "sk-ant-0123456789")
    with one_path("/v1/messages", "") as claude, FakeOpenAI(shouting_model) as server:
        optimizer = {"model": "big", "dialect": "messages", "base_url": claude.url, "api_key_env": "CLAUDES_KEY"}
        agent = wrap_agent(lambda question: _by_chat(server, question), name="parrot")
        made = Trainer(
            agent,
            data_dir=tmp_path / "data",
            output_dir=tmp_path / "out",
            progress=False,
            max_epochs=1,
            models={"optimizer": optimizer},
        )
        result = made.train(loud_tasks(20))
    assert result.final == 1.0 and len(claude.requests) == result.cost.optimizer_calls
    assert json.dumps(claude.requests[0].json["messages"]).count("<runs>")


def _by_chat(server: FakeOpenAI, question: str) -> str:
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": question}]
    response = CLIENT.post(f"{server.base_url}/chat/completions", json={"model": "m", "messages": messages})
    return response.json()["choices"][0]["message"]["content"]
