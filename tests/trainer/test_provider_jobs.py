"""Fine-tuning at a provider, against a local server that speaks the openai SDK's own types."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob
from openai.types.fine_tuning.job_create_params import JobCreateParams
from pydantic import ConfigDict, TypeAdapter, with_config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.servers import completion_of

from agentlightning import Task, Trainer, TrainingResult, Trajectory, wrap_agent
from agentlightning.algorithms.provider_sft import examples_of
from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.trajectory import Step
from agentlightning.errors import ConfigError, ModelError
from agentlightning.models.endpoint import Endpoint
from agentlightning.models.fine_tuning import FineTuning, training_price

CREATE = TypeAdapter(with_config(ConfigDict(extra="forbid"))(JobCreateParams))
BASE = "gpt-4.1-nano-2025-04-14"


class Provider:
    """Files and jobs as the openai SDK types them. Its base model never says ok; a model trained on ok does."""

    def __init__(self) -> None:
        self.files: dict[str, list[dict[str, Any]]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.created: list[dict[str, Any]] = []
        self.queries: list[str] = []
        self.statuses = ["validating_files", "queued", "running", "succeeded"]
        self.drops_after_create = False
        self.locks_out = False
        self.refuses_jobs = 0
        self._asked: dict[str, int] = {}

    def __enter__(self) -> Provider:
        app = Starlette(
            routes=[
                Route("/v1/files", self.upload, methods=["POST"]),
                Route("/v1/fine_tuning/jobs", self.create, methods=["POST"]),
                Route("/v1/fine_tuning/jobs", self.listing, methods=["GET"]),
                Route("/v1/fine_tuning/jobs/{id}", self.job),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
            ]
        )
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def upload(self, request: Request) -> Response:
        parts = _parts(request.headers["content-type"], await request.body())
        assert parts["purpose"] == b"fine-tune"
        content = parts["file"]
        rows = [json.loads(line) for line in content.decode().splitlines()]
        assert all(set(row) <= {"messages", "tools", "parallel_tool_calls"} for row in rows)
        id = f"file-{len(self.files)}"
        self.files[id] = rows
        file = FileObject(
            id=id,
            bytes=len(content),
            created_at=0,
            filename="training.jsonl",
            object="file",
            purpose="fine-tune",
            status="processed",
        )
        return JSONResponse(file.model_dump())

    async def create(self, request: Request) -> Response:
        self.queries.append(request.url.query)
        if self.refuses_jobs:
            self.refuses_jobs -= 1
            return JSONResponse({"error": {"message": "try later"}}, status_code=503)
        body = await request.json()
        CREATE.validate_python(body)
        assert body["training_file"] in self.files
        self.created.append(body)
        id = f"ftjob-{len(self.jobs)}"
        self.jobs[id] = body
        if self.drops_after_create:
            self.drops_after_create = False
            return JSONResponse({"error": {"message": "lost"}}, status_code=502)
        return JSONResponse(self._job(id))

    async def listing(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._job(id) for id in self.jobs], "has_more": False})

    async def job(self, request: Request) -> Response:
        id = request.path_params["id"]
        if self.locks_out:
            return JSONResponse({"error": {"message": "the key was revoked"}}, status_code=401)
        self._asked[id] = self._asked.get(id, 0) + 1
        return JSONResponse(self._job(id))

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        trained = body["model"].startswith("ft:")
        return JSONResponse(completion_of("ok" if trained else "no", body))

    def _job(self, id: str) -> dict[str, Any]:
        status = self.statuses[min(self._asked.get(id, 0), len(self.statuses) - 1)]
        body, done = self.jobs[id], status == "succeeded"
        job = {
            "id": id,
            "created_at": 0,
            "error": {"code": "bad", "message": "the examples are unsafe", "param": None}
            if status == "failed"
            else None,
            "fine_tuned_model": f"ft:{body['model']}:us::1" if done else None,
            "hyperparameters": {"n_epochs": 3},
            "model": body["model"],
            "object": "fine_tuning.job",
            "organization_id": "org",
            "result_files": [],
            "seed": body.get("seed", 0),
            "status": status,
            "trained_tokens": 100_000 if done else None,
            "training_file": body["training_file"],
            "validation_file": body.get("validation_file"),
        }
        return FineTuningJob.model_validate(job).model_dump()


def _parts(kind: str, body: bytes) -> dict[str, bytes]:
    """The fields of a form with files."""
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    return {str(part.get_param("name", header="content-disposition")): _bytes(part) for part in message.iter_parts()}


def _bytes(part: Any) -> bytes:
    return part.get_payload(decode=True)


def says_ok(task: Task, trajectory: Trajectory) -> float:
    return float(trajectory.output == task.expected)


def demonstrations(folder: Path, count: int = 24) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": "ok"}]}
        for i in range(count)
    ]
    path = folder / "demonstrations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train(folder: Path, provider: Provider, *, config: dict[str, Any] | None = None, **params: Any) -> TrainingResult:
    tasks = [Task(f"q{i}", f"say {i}", expected="ok") for i in range(24)]
    http = httpx.Client(verify=False)
    with openai.OpenAI(base_url=provider.base_url, api_key="sk-test", http_client=http) as client:
        return trainer(folder, client, config, params).train(tasks)


def trainer(folder: Path, client: openai.OpenAI, config: dict[str, Any] | None, params: dict[str, Any]) -> Trainer:

    def ask(question: str) -> str | None:
        answer = client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": question}])
        return answer.choices[0].message.content

    given = {"data": str(demonstrations(folder)), "poll_seconds": 0.01, **params}
    return Trainer(
        wrap_agent(ask, name="asker"),
        algorithm={"name": "provider_sft", "params": given},
        reward=says_ok,
        config=config or {},
        data_dir=folder / "data",
        output_dir=folder / "out",
        progress=False,
    )


def test_a_run_has_the_provider_train_the_agents_model_and_steers_the_agent_to_it(tmp_path: Path) -> None:
    with Provider() as provider:
        result = train(tmp_path, provider, epochs=2, suffix="asker")
        (created,) = provider.created
        assert created["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
        assert len(provider.files[created["training_file"]]) == 22
        assert len(provider.files[created["validation_file"]]) == 2
        assert result.policy.models == {"asker": f"ft:{BASE}:us::1"}
        assert result.cost.usd == pytest.approx(0.15, abs=0.01), "100,000 tokens at 1.5 USD a million, and the calls"


def test_the_same_question_is_not_paid_twice_even_by_another_run(tmp_path: Path) -> None:
    with Provider() as provider:
        train(tmp_path, provider)
        train(tmp_path, provider)
        assert len(provider.created) == 1
        train(tmp_path, provider, epochs=1)
        assert len(provider.created) == 2, "other settings are another question"


def test_a_run_that_ended_while_the_job_went_on_finds_the_same_job_next_time(tmp_path: Path) -> None:
    with Provider() as provider:
        provider.locks_out = True
        with pytest.raises(ModelError, match="401"):
            train(tmp_path, provider)
        assert len(provider.created) == 1
        provider.locks_out = False
        assert train(tmp_path, provider).policy.models
        assert len(provider.created) == 1


def test_a_job_whose_creation_got_no_answer_is_found_and_not_created_again() -> None:
    async def create(provider: Provider) -> tuple[str, str]:
        jobs = FineTuning(Endpoint(model=BASE, base_url=provider.base_url), pause_seconds=0.01)
        file = await jobs.upload([{"messages": []}], "training.jsonl")
        body = {"model": BASE, "training_file": file, "method": {"type": "supervised", "supervised": {}}}
        provider.drops_after_create = True
        first = await jobs.create(body)
        second = await jobs.create(body)
        await jobs.close()
        return first.id, second.id

    with Provider() as provider:
        first, second = asyncio.run(create(provider))
        assert first == second
        assert len(provider.created) == 1


def test_a_provider_that_is_away_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    with Provider() as provider:
        provider.refuses_jobs = 2
        assert train(tmp_path, provider).policy.models
        assert len(provider.created) == 1


def test_a_failed_job_is_told_in_the_providers_words_and_may_be_tried_again(tmp_path: Path) -> None:
    with Provider() as provider:
        provider.statuses = ["running", "failed"]
        with pytest.raises(ModelError, match="the examples are unsafe"):
            train(tmp_path, provider)


def test_what_is_too_dear_is_not_begun(tmp_path: Path) -> None:
    with Provider() as provider:
        result = train(tmp_path, provider, config={"budget": {"usd": 0.5}}, usd_per_million_tokens=10_000.0)
        assert provider.created == []
        assert not result.policy.models


def test_a_capped_run_wants_to_know_the_price(tmp_path: Path) -> None:
    with Provider() as provider, pytest.raises(ConfigError, match="usd_per_million_tokens"):
        train(tmp_path, provider, config={"budget": {"usd": 5.0}}, model="some-model")


def test_azure_wants_its_version_with_every_request_and_a_deployment_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_TEST_KEY", "k")
    with Provider() as provider:
        spec = {
            "model": BASE,
            "base_url": f"{provider.base_url}/deployments/chat",
            "api_version": "2024-10-21",
            "api_key_env": "AZURE_TEST_KEY",
        }
        with pytest.raises(ModelError, match="Deploy it"):
            train(tmp_path, provider, model=spec)
        assert provider.queries == ["api-version=2024-10-21"]
        result = train(tmp_path, provider, model=spec, deployment="ft:deployed")
        assert len(provider.created) == 1
        assert result.policy.models == {"asker": "ft:deployed"}


def test_prices_of_training_are_known_by_model_and_not_guessed() -> None:
    assert training_price("gpt-4o-mini-2024-07-18") == 3.0
    assert training_price("gpt-3.5-turbo-0125") == 8.0
    assert training_price("mystery") is None


def test_only_what_the_model_said_in_the_chosen_rollouts_has_weight() -> None:
    def step(index: int, history: list[Message], said: str) -> Step:
        call = Call("asker", BASE, history)
        reply = Reply({"role": "assistant", "content": said}, "stop")
        id = f"s{index}"
        return Step(
            id=id, rollout_id="r", index=index, kind="model", agent="asker", started_at=0, call=call, reply=reply
        )

    history: list[Message] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello, from a template"},
        {"role": "user", "content": "say 1"},
    ]
    run = Trajectory(id="r", agent_id="asker", task="q", input="say 1", timestamp=0, steps=[step(0, history, "ok")])
    (row,) = examples_of([run], "asker")
    assert [message.get("weight") for message in row["messages"]] == [None, 0, None, 1]
    assert examples_of([run], "another") == []
