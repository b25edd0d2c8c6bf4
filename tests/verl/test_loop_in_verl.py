"""What verl makes of the rows it is given, and what it says where there is no GPU."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.models_made_here import save_model
from tests.verl.jobs_made_here import ON_CPU, small_plan, small_work

from agentlightning.engine.base import Order, Played
from agentlightning.engine.verl.configuration import Place, write
from agentlightning.engine.verl.desk import Desk
from agentlightning.engine.verl.environment import check, look
from agentlightning.engine.verl.launch import Job
from agentlightning.engine.verl.loop import outputs_of
from agentlightning.errors import ConfigError, MissingExtra, ModelError

PLAYED: dict[str, Any] = {
    "reward": 0.75,
    "num_turns": 2,
    "samples": [
        {
            "prompt_ids": [1, 2],
            "completion_ids": [3, 4, 9, 5],
            "mask": [1, 1, 0, 1],
            "logprobs": [-0.1, -0.2, 0.0, -0.3],
        },
        {"prompt_ids": [7], "completion_ids": [8], "mask": [1], "logprobs": [-1.5]},
    ],
}


def test_each_row_is_verls_own_output_token_for_token_with_the_rollouts_reward() -> None:
    from verl.experimental.agent_loop import AgentLoopOutput

    outputs = outputs_of(PLAYED, num_updates=3)
    assert [type(output) for output in outputs] == [AgentLoopOutput, AgentLoopOutput]
    fields = outputs[0].as_dict()
    assert fields["prompts"].tolist() == [1, 2]
    assert fields["responses"].tolist() == [3, 4, 9, 5]
    assert fields["response_mask"].tolist() == [1, 1, 0, 1]
    assert fields["rollout_log_probs"].tolist() == pytest.approx([-0.1, -0.2, 0.0, -0.3])
    assert fields["rm_scores"].tolist() == [0.0, 0.0, 0.0, 0.75]
    assert fields["num_turns"] == 2
    assert fields["extra_fields"]["min_global_steps"] == fields["extra_fields"]["max_global_steps"] == 3


def test_a_rollout_without_a_reward_is_no_row_of_verls() -> None:
    assert outputs_of({"reward": None, "samples": []}, num_updates=0) == []


def test_verl_counts_rollouts_and_not_rows_in_its_advantages() -> None:
    """Two rollouts of one task, the first of two rows: the baseline is the mean over two, and both rows share it."""
    import numpy as np
    import torch
    from verl.protocol import DataProto
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    scores = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    tensors = {"token_level_rewards": scores, "response_mask": torch.ones(3, 2)}
    data = DataProto.from_dict(tensors=tensors, non_tensors={"uid": np.array(["u", "u", "u"], dtype=object)})
    found = compute_advantage_for_multi_trajectories(
        data,
        batch_keys=["u_0_0", "u_0_1", "u_1_0"],
        adv_estimator="grpo",
        norm_adv_by_std_in_grpo=False,
        num_repeat=2,
    )
    assert found.batch["advantages"][:, 0].tolist() == pytest.approx([0.5, 0.5, -0.5])


def test_an_environment_with_verl_is_seen_as_it_is() -> None:
    import torch

    found = look(Path(sys.executable))
    assert found.verl.startswith("0.9.") and found.httpx and found.transferqueue
    assert found.gpus == torch.cuda.device_count()
    check(found, Path(sys.executable), gpus=2, needs_gpus=False)
    with pytest.raises((ConfigError, MissingExtra)):
        check(found, Path(sys.executable), gpus=found.gpus + 1)


def test_a_worker_asks_for_rollouts_and_answers_calls_over_http(tmp_path: Path) -> None:
    """The agent loop as verl's worker builds it, against the desk: two rollouts at once, each with a call."""
    import msgspec
    from hydra.utils import instantiate
    from verl.workers.rollout.replica import TokenOutput

    from agentlightning.data.call import Call, Reply
    from agentlightning.data.sample import Sample
    from agentlightning.engine.torch.loading import outline
    from agentlightning.engine.torch.speaking import Speaker, answered

    class Server:
        async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]) -> Any:
            await asyncio.sleep(0.05)
            return TokenOutput(token_ids=[5, 6], log_probs=[-0.5, -0.25], stop_reason="completed")

    async def scene() -> list[list[Any]]:
        speaker = Speaker(outline(save_model(tmp_path)), tool_format=None, max_context=128, max_answer=8, seed=0)

        async def play(order: Order) -> Played:
            call = Call("a", "m", [{"role": "user", "content": order.task}], params={"max_tokens": 2})
            reply: Reply = await answered(speaker, call, f"{order.task}-{order.draw}", desk.complete)
            drawn = {"completion_ids": reply.completion_ids, "logprobs": reply.logprobs, "mask": [1, 1]}
            row = {"prompt_ids": reply.prompt_ids, "agent": "a", "rollout_id": "r", "segment_id": 0} | drawn
            return Played([msgspec.convert(row, Sample)], 1.0, num_turns=1)

        desk = Desk(play)
        address = await desk.open()
        (tmp_path / "key").write_text(desk.key)
        loop = {"_target_": "agentlightning.engine.verl.loop.AgentLoop", "name": "agentlightning"}
        loop |= {"desk": address, "key_file": str(tmp_path / "key")}
        asked = [
            instantiate(loop, server_manager=Server(), tokenizer=None, trainer_config=None).run(
                {}, extra_info={"task": f"t{i}", "split": "train"}, global_steps=1, session_id=i
            )
            for i in range(2)
        ]
        found = await asyncio.gather(*asked)
        await desk.close("over")
        return found

    found = asyncio.run(scene())
    assert [output.response_ids for [output] in found] == [[5, 6], [5, 6]]
    assert [output.response_logprobs for [output] in found] == [[-0.5, -0.25]] * 2


@pytest.mark.timeout(600)
def test_verl_itself_reads_the_job_and_ends_where_it_wants_gpus(tmp_path: Path) -> None:
    """verl's own entry point: configuration, tokenizer, both data sets; then it counts the machine's GPUs."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    place = Place(tmp_path / "job")
    overrides = {name: value for name, value in ON_CPU.items() if name != "trainer.device"}
    model = save_model(tmp_path / "model")
    write(
        small_work(place.folder), small_plan(model, overrides=overrides), place, desk="http://127.0.0.1:1", start=None
    )

    async def run() -> None:
        job = Job(Path(sys.executable), place, num_rounds=6)
        try:
            await job.run(lambda text, figures: None)
        finally:
            await job.end()

    with pytest.raises(ModelError, match="Total available GPUs 0 is less than total desired GPUs 2"):
        asyncio.run(run())
    assert "dataset len: 12" in place.log.read_text() and "dataset len: 2" in place.log.read_text()
