"""`agentlightning serve` and `gateway`, as programs that other programs call."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest
from tests.servers import FakeOpenAI

from agentlightning.data.resource import Policy, PromptSite
from agentlightning.trainer.policy_folder import WEIGHTS_FOLDER, SavedEngine, save_policy

ROOT = Path(__file__).parents[2]
SITE = PromptSite(id="helper:system", agent="helper", kind="system", template="Be kind.")
POLICY = Policy().with_prompt(SITE, "Be very kind.")
MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]


@contextmanager
def command(*arguments: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The command while it runs, and the environment it tells its callers to set."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env}
    code = "from agentlightning.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        told: dict[str, str] = {}
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            name, equals, value = line.strip().partition("=")
            if equals and name.startswith("OPENAI_"):
                told[name] = value
            if len(told) == 2:
                break
        assert len(told) == 2, "".join(lines)
        try:
            yield process, told
        finally:
            if process.poll() is None:
                process.kill()


def client(told: dict[str, str]) -> openai.OpenAI:
    return openai.OpenAI(base_url=told["OPENAI_BASE_URL"], api_key=told["OPENAI_API_KEY"], max_retries=0)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_policy_with_prompts_steers_what_it_passes_on(tmp_path: Path, ending: signal.Signals) -> None:
    save_policy(POLICY, tmp_path)
    env = {"OPENAI_API_KEY": "sk-real"}
    with FakeOpenAI("fine") as server:
        env["OPENAI_BASE_URL"] = server.base_url
        with command("serve", str(tmp_path), "--port", "0", **env) as (process, told), client(told) as sdk:
            answer = sdk.chat.completions.create(model="gpt-x", messages=MESSAGES)  # type: ignore[arg-type]
            assert [model.id for model in sdk.models.list()] == ["helper"]
            with pytest.raises(openai.AuthenticationError):
                sdk.with_options(api_key="other").models.list()
            process.send_signal(ending)
            said, _ = process.communicate(timeout=30)
    assert answer.choices[0].message.content == "fine"
    assert server.requests[0].json["messages"][0]["content"] == "Be very kind."
    assert server.requests[0].headers["authorization"] == "Bearer sk-real"
    assert process.returncode == 0 and said.strip().endswith("stopped")


def test_a_policy_with_weights_is_answered_by_its_engine(tmp_path: Path) -> None:
    policy = POLICY.with_weights("helper", "w-1")
    engine = SavedEngine({"name": "tests.engines:ServedEngine", "model": "tiny"}, ["helper"])
    save_policy(policy, tmp_path, engine=engine)
    (tmp_path / WEIGHTS_FOLDER / "w-1").mkdir(parents=True)
    with command("serve", str(tmp_path), "--port", "0", "--token", "chosen") as (_, told), client(told) as sdk:
        answer = sdk.chat.completions.create(model="helper", messages=MESSAGES)  # type: ignore[arg-type]
        chunks = list(sdk.chat.completions.create(model="helper", messages=MESSAGES, stream=True))  # type: ignore[call-overload]
        models = [model.id for model in sdk.models.list()]
    expected = "tiny with w-1: Be very kind."
    assert answer.choices[0].message.content == expected and told["OPENAI_API_KEY"] == "chosen"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected
    assert models == ["helper", "tiny"]


def test_the_gateway_passes_calls_on_and_refuses_itself_as_upstream() -> None:
    with (
        FakeOpenAI("passed on") as server,
        command("gateway", "--port", "0", "--upstream", server.base_url) as (_, told),
    ):
        headers = {"authorization": f"Bearer {told['OPENAI_API_KEY']}"}
        body = {"model": "m", "messages": MESSAGES, "max_tokens": 5}
        answer = httpx.post(told["OPENAI_BASE_URL"] + "/chat/completions", json=body, headers=headers)
        assert answer.json()["choices"][0]["message"]["content"] == "passed on"
    assert server.requests[0].json == body


def failed(*arguments: str, **env: str) -> str:
    code = "from agentlightning.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    return done.stderr


def test_what_cannot_be_served_is_one_message(tmp_path: Path) -> None:
    assert "there is no policy at" in failed("serve", str(tmp_path))
    save_policy(POLICY.with_weights("helper", "w-1"), tmp_path)
    assert "add --model FOLDER" in failed("serve", str(tmp_path))
    save_policy(POLICY, tmp_path)
    assert "needs a token" in failed("serve", str(tmp_path), "--host", "0.0.0.0", AGENTLIGHTNING_TOKEN="")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert "own address" in failed("gateway", "--port", str(port), "--upstream", f"http://127.0.0.1:{port}/v1")
