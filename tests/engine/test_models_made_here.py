"""The models other tests stand on: small, of each family's shape, and loadable as published ones are."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.models_made_here import FAMILIES, Family, make_model, make_tokenizer, save_model


@pytest.mark.parametrize("family", FAMILIES)
def test_any_text_survives_a_tokenizer(family: Family) -> None:
    tokenizer = make_tokenizer(family)
    text = 'Grüße, 東京! {"name": "get_weather"}\n\n  two  spaces'
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize("family", FAMILIES)
def test_a_conversation_can_be_rendered_and_computed(family: Family) -> None:
    import torch

    tokenizer, model = make_tokenizer(family), make_model(family)
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert "What is the weather in Paris?" in text
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    assert model(ids).logits.shape == (1, ids.shape[1], 384)


def test_a_saved_model_loads_like_a_published_one(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = save_model(tmp_path / "small", "llama")
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() < 100_000
    assert AutoTokenizer.from_pretrained(folder).chat_template
