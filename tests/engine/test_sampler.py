"""Rows of one batch that come and go: each is sampled as if it were alone, and computes nothing twice."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from tests.models_made_here import Family, make_model, make_tokenizer

from agentlightning.engine.torch.drawing import Draws, draw
from agentlightning.engine.torch.group import Limits
from agentlightning.engine.torch.row import Row
from agentlightning.engine.torch.sampler import Sampler
from agentlightning.engine.torch.wishes import Wishes
from agentlightning.errors import ModelError

TOKENIZER = make_tokenizer()


class OneModel:
    """A library with a model for each name."""

    def __init__(self, **models: Any) -> None:
        self.models = models

    def using(self, name: str, /) -> AbstractContextManager[Any]:
        if name not in self.models:
            raise ModelError(f"weights {name!r} are not known here.")
        return nullcontext(self.models[name])


class Rows:
    """Rows of a test, and what became of them."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.errors: dict[int, BaseException | None] = {}

    def add(self, prompt: list[int], wishes: Wishes | None = None, *, weights: str = "a", **options: Any) -> Row:
        given = {"max_new": 8, "ends": frozenset[int](), "seed": 0} | options
        row = Row(prompt, wishes or Wishes(), tokenizer=TOKENIZER, on_end=self._ended, **given)
        self.sampler.add(row, weights)
        return row

    def run(self) -> None:
        while self.sampler.is_ready:
            self.sampler.step()

    def _ended(self, row: Row, error: BaseException | None) -> None:
        assert id(row) not in self.errors, "a row ends once"
        self.errors[id(row)] = error


def rows_of(model: Any, **limits: Any) -> Rows:
    return Rows(Sampler(OneModel(a=model), Limits(**limits)))


def prompt(length: int, seed: int = 0) -> list[int]:
    return [(seed * 31 + place * place * 7 + place) % 330 + 1 for place in range(length)]


def fresh_logprobs(model: Any, row: Row) -> list[float]:
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([row.ids])).logits[0, row.num_prompt - 1 : -1]
    scores = (logits / (row.temperature or 1)).log_softmax(-1)
    return scores.gather(1, torch.tensor(row.completion_ids)[:, None])[:, 0].tolist()


def assert_exact(model: Any, *rows: Row) -> None:
    for row in rows:
        assert row.logprobs == pytest.approx(fresh_logprobs(model, row), abs=1e-4)


SLIDING = {"sliding_window": 12}
MIXED = {"use_sliding_window": True, "sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]}


@pytest.mark.parametrize(
    ("family", "settings"), [("qwen", {}), ("llama", {}), ("mistral", SLIDING), ("qwen", MIXED)], ids=str
)
def test_logprobs_are_those_of_a_fresh_pass_while_neighbours_join_and_leave(
    family: Family, settings: dict[str, Any]
) -> None:
    model = make_model(family, **settings)
    rows = rows_of(model, max_rows=5)
    made = list[Row]()
    for place in range(12):
        wishes = Wishes(temperature=(1.0, 0.5, 0.0)[place % 3], top_p=0.9 if place % 4 == 0 else 1.0)
        made.append(rows.add(prompt(3 + place * 5 % 29, place), wishes, max_new=3 + place * 7 % 31, seed=place))
        rows.sampler.step()
    rows.run()
    assert list(rows.errors.values()) == [None] * 12
    assert [len(row.logprobs) for row in made] == [3 + place * 7 % 31 for place in range(12)]
    assert_exact(model, *made)


def test_a_long_prompt_is_read_in_parts() -> None:
    model = make_model()
    rows = rows_of(model, max_tokens_per_pass=16)
    made = [rows.add(prompt(length, length)) for length in (50, 3, 33, 16, 1)]
    rows.run()
    assert_exact(model, *made)


def test_gpt2_which_learns_its_positions_is_sampled_as_well() -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=384, n_positions=128, n_embd=32, n_layer=2, n_head=4)).eval()
    rows = rows_of(model)
    made = [rows.add(prompt(length, length)) for length in (5, 30, 1)]
    rows.run()
    assert_exact(model, *made)


def test_eager_attention_gives_the_same() -> None:
    model = make_model()
    model.set_attn_implementation("eager")
    rows = rows_of(model)
    made = [rows.add(prompt(length, length)) for length in (5, 30, 1)]
    rows.run()
    assert_exact(model, *made)


def test_a_seed_gives_the_same_tokens_whoever_is_beside_it() -> None:
    model = make_model()
    alone = rows_of(model)
    lonely = alone.add(prompt(20), seed=7, max_new=20)
    alone.run()
    crowd = rows_of(model, max_rows=4)
    for place in range(6):
        crowd.add(prompt(9 + place, place), seed=place)
        crowd.sampler.step()
    crowded = crowd.add(prompt(20), seed=7, max_new=20)
    other = crowd.add(prompt(20), seed=8, max_new=20)
    crowd.run()
    assert crowded.ids == lonely.ids
    assert other.ids != lonely.ids


def test_a_group_s_prompt_is_read_once() -> None:
    model = make_model()
    rows = rows_of(model)
    made = [rows.add(prompt(100), seed=seed) for seed in range(8)]
    rows.run()
    assert rows.sampler.num_read_tokens == 100
    assert len({tuple(row.completion_ids) for row in made}) > 1
    assert_exact(model, *made)


def test_a_later_turn_reads_only_what_is_new() -> None:
    model = make_model()
    rows = rows_of(model)
    first = rows.add(prompt(60), rollout_id="r")
    rows.run()
    read = rows.sampler.num_read_tokens
    second = rows.add([*first.ids, 5, 6, 7], rollout_id="r")
    fork = rows.add([*first.ids[:50], 9, 9], rollout_id="s")
    rows.run()
    assert rows.sampler.num_read_tokens - read == 4 + 2  # the last sampled token was not read yet
    assert_exact(model, second, fork)


def test_what_is_kept_has_a_bound() -> None:
    model = make_model()
    rows = rows_of(model, max_cache_bytes=0)
    first = rows.add(prompt(60))
    rows.run()
    second = rows.add(first.ids)
    rows.run()
    assert second.num_cached_tokens == 0
    assert_exact(model, second)


def test_rows_of_several_weights_take_turns() -> None:
    models = {"a": make_model(), "b": make_model(seed=1)}
    rows = Rows(Sampler(OneModel(**models)))
    made = {name: [rows.add(prompt(20, i), weights=name, seed=i) for i in range(3)] for name in models}
    rows.run()
    for name, model in models.items():
        assert_exact(model, *made[name])


def test_rows_go_on_under_weights_that_changed_and_keep_the_logprobs_they_were_sampled_with() -> None:
    old, new = make_model(), make_model(seed=1)
    library = OneModel(a=old)
    rows = Rows(Sampler(library))
    made = [rows.add(prompt(20, i), seed=i, max_new=12) for i in range(3)]
    for _ in range(5):
        rows.sampler.step()
    rows.sampler.hold("a")
    assert not rows.sampler.is_ready
    library.models["a"] = new
    rows.sampler.changed("a")
    rows.run()
    for row in made:
        assert len(row.logprobs) == 12
        assert row.logprobs[:6] == pytest.approx(fresh_logprobs(old, row)[:6], abs=1e-4)
        assert row.logprobs[6:] == pytest.approx(fresh_logprobs(new, row)[6:], abs=1e-4)


def test_an_error_ends_the_rows_it_happened_to() -> None:
    rows = rows_of(make_model())
    good, bad = rows.add(prompt(5)), rows.add(prompt(5), weights="unknown")
    rows.run()
    assert rows.errors[id(good)] is None
    assert "'unknown'" in str(rows.errors[id(bad)])
    again = rows.add(prompt(5))
    rows.run()
    assert rows.errors[id(again)] is None


def test_running_out_of_memory_is_said_and_survived() -> None:
    model = make_model()
    rows = rows_of(model)
    handle = model.register_forward_pre_hook(_no_memory)
    failed = rows.add(prompt(5))
    rows.run()
    handle.remove()
    assert "out of memory while sampling" in str(rows.errors[id(failed)])
    later = rows.add(prompt(5))
    rows.run()
    assert_exact(model, later)


def _no_memory(*_: Any) -> None:
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")


def test_a_row_nobody_waits_for_makes_room() -> None:
    rows = rows_of(make_model(), max_rows=1)
    gone = rows.add(prompt(5), max_new=500)
    waiting = rows.add(prompt(6), max_new=2)
    rows.sampler.step()
    gone.is_cancelled = lambda: True
    rows.run()
    assert len(gone.logprobs) < 500
    assert len(waiting.logprobs) == 2


def test_models_that_keep_other_things_are_refused() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4)
    rows = rows_of(MambaForCausalLM(config).eval())
    refused = rows.add(prompt(5))
    rows.run()
    assert isinstance(rows.errors[id(refused)], ModelError)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    import torch

    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log().expand(40_000, 4)
    luck = (torch.arange(40_000, dtype=torch.float32)[:, None] + 0.5) / 40_000
    ids, logprobs = draw(logits, luck, Draws())
    assert (ids.flatten().bincount() / 40_000).tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125], abs=1e-3)
    assert logprobs[:, 0].exp().sum() / 40_000 == pytest.approx(0.5**2 + 0.25**2 + 2 * 0.125**2, abs=1e-2)


def test_top_p_and_top_k_cut_off_the_unlikely() -> None:
    import torch

    logits = torch.tensor([0.1, 0.2, 0.4, 0.3]).log().expand(3000, 4)
    luck = torch.rand(3000, 1)
    luck[:3] = 1 - 2**-24
    ones, most = torch.ones(3000, 1), torch.full((3000, 1), 4)
    assert set(draw(logits, luck, Draws(top_p=ones * 0.69, top_k=most))[0].flatten().tolist()) == {2, 3}
    assert set(draw(logits, luck, Draws(top_p=ones, top_k=most - 1))[0].flatten().tolist()) == {1, 2, 3}
    assert set(draw(logits, luck, Draws(top_p=ones * 1e-6, top_k=most))[0].flatten().tolist()) == {2}


def test_a_stop_text_ends_a_row_even_across_tokens() -> None:
    model = make_model()
    rows = rows_of(model)
    free = rows.add(prompt(10), max_new=40, seed=3)
    rows.run()
    text = TOKENIZER.decode(free.completion_ids)
    place = next(i for i in range(5, 30) if len(TOKENIZER.decode(free.ids[free.num_prompt :][i : i + 1]).strip()) > 1)
    before = TOKENIZER.decode(free.completion_ids[: place + 1])
    stop = before[-1] + text[len(before) : len(before) + 1]
    stopped = rows.add(prompt(10), Wishes(stop=(stop,)), max_new=40, seed=3)
    rows.run()
    assert stopped.finish_reason == "stop"
    assert stopped.text() == text[: text.index(stop)]
    assert stopped.completion_ids == free.completion_ids[: len(stopped.completion_ids)]
