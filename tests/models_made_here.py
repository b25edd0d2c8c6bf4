"""Small causal language models with tokenizers and chat templates of the main families, made from nothing in a second.

The templates have the shapes of the published ones (Qwen 3, Llama 3.1, Mistral v3, one that knows no tools) in words of
our own. A model is random: what it says is noise, and its logprobs are as exact as any other's.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

Family = Literal["qwen", "llama", "mistral", "plain"]
FAMILIES: tuple[Family, ...] = ("qwen", "llama", "mistral", "plain")

QWEN_TEMPLATE = """
{%- macro call_text(call) -%}
<tool_call>\n{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>
{%- endmacro -%}
{%- set start = 1 if messages[0].role == 'system' else 0 -%}
{%- if tools -%}
{{- '<|im_start|>system\n' }}{{ messages[0].content + '\n\n' if start else '' -}}
{{- '# Tools\n\nFunctions that may be called:\n<tools>' -}}
{%- for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor -%}
{{- '\n</tools>\n\nTo call one, write JSON with its name and arguments inside <tool_call></tool_call>.<|im_end|>\n' -}}
{%- elif start -%}
{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' -}}
{%- endif -%}
{%- set seen = namespace(last_question=-1) -%}
{%- for message in messages -%}
{%- if message.role == 'user' %}{% set seen.last_question = loop.index0 %}{% endif -%}
{%- endfor -%}
{%- for message in messages[start:] -%}
{%- set place = loop.index0 + start -%}
{%- if message.role == 'tool' -%}
{{- '<|im_start|>user' if loop.first or loop.previtem.role != 'tool' else '' -}}
{{- '\n<tool_response>\n' + message.content + '\n</tool_response>' -}}
{{- '<|im_end|>\n' if loop.last or loop.nextitem.role != 'tool' else '' -}}
{%- elif message.role == 'assistant' -%}
{{- '<|im_start|>assistant\n' -}}
{%- if message.reasoning_content and place > seen.last_question -%}
{{- '<think>\n' + message.reasoning_content.strip('\n') + '\n</think>\n\n' -}}
{%- endif -%}
{{- message.content or '' -}}
{%- for call in message.tool_calls or [] -%}
{{- '\n' if message.content or not loop.first else '' }}{{ call_text(call) -}}
{%- endfor -%}
{{- '<|im_end|>\n' -}}
{%- else -%}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
{%- endif -%}
{%- endfor -%}
{{- '<|im_start|>assistant\n' if add_generation_prompt else '' -}}
"""

LLAMA_TEMPLATE = """
{%- set first = messages[0] if messages[0].role == 'system' else none -%}
{%- set rest = messages[1:] if first else messages -%}
{{- bos_token + '<|start_header_id|>system<|end_header_id|>\n\n' -}}
{{- 'Environment: ipython\n' if tools else '' }}{{ first.content if first else '' }}{{ '<|eot_id|>' -}}
{%- for message in rest -%}
{%- if message.role == 'tool' -%}
{{- '<|start_header_id|>ipython<|end_header_id|>\n\n' + (message.content | tojson) + '<|eot_id|>' -}}
{%- elif message.tool_calls -%}
{%- if message.tool_calls | length != 1 %}{{ raise_exception('this model makes one tool call at a time') }}{% endif -%}
{%- set call = message.tool_calls[0].function -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "' + call.name + '", "parameters": ' -}}
{{- (call.arguments | tojson) + '}<|eot_id|>' -}}
{%- else -%}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' -}}
{%- if tools and loop.first and message.role == 'user' -%}
{{- 'Functions:\n' }}{% for tool in tools %}{{ (tool | tojson) + '\n\n' }}{% endfor -%}
{{- 'To call one, answer {"name": its name, "parameters": {...}}.\n\n' -}}
{%- endif -%}
{{- message.content | trim }}{{ '<|eot_id|>' -}}
{%- endif -%}
{%- endfor -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' if add_generation_prompt else '' -}}
"""

MISTRAL_TEMPLATE = """
{%- set system = messages[0].content if messages[0].role == 'system' else '' -%}
{%- set rest = messages[1:] if messages[0].role == 'system' else messages -%}
{%- set seen = namespace(last_question=-1) -%}
{%- for message in rest -%}
{%- if message.role == 'user' %}{% set seen.last_question = loop.index0 %}{% endif -%}
{%- endfor -%}
{{- bos_token -}}
{%- for message in rest -%}
{%- if message.role == 'user' -%}
{%- if tools and loop.index0 == seen.last_question -%}
{{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' -}}
{%- endif -%}
{%- set before = system + '\n\n' if system and loop.index0 == seen.last_question else '' -%}
{{- '[INST] ' + before + message.content + '[/INST]' -}}
{%- elif message.role == 'tool' -%}
{{- '[TOOL_RESULTS] {"content": ' + (message.content | tojson) + ', "call_id": "' + message.tool_call_id + '"}' -}}
{{- '[/TOOL_RESULTS]' -}}
{%- elif message.tool_calls -%}
{{- '[TOOL_CALLS] [' -}}
{%- for call in message.tool_calls -%}
{%- if call.id | length != 9 %}{{ raise_exception('ids of tool calls must have nine characters') }}{% endif -%}
{{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}{{ ', ' if not loop.last else ']' + eos_token -}}
{%- endfor -%}
{%- elif message.role == 'assistant' -%}
{{- ' ' + (message.content | trim) + eos_token -}}
{%- else -%}
{{- raise_exception('only user, tool and assistant messages may follow the first') -}}
{%- endif -%}
{%- endfor -%}
"""

PLAIN_TEMPLATE = """
{%- for message in messages -%}
{{- '<' + message.role + '>\n' + message.content + eos_token + '\n' -}}
{%- endfor -%}
{{- '<assistant>\n' if add_generation_prompt else '' -}}
"""

_QWEN_WORDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA_WORDS = ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>")
_MISTRAL_WORDS = ("<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]")
SPECIAL: dict[str, tuple[str, ...]] = {
    "qwen": _QWEN_WORDS,
    "llama": _LLAMA_WORDS,
    "mistral": (*_MISTRAL_WORDS, "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
    "plain": ("<|end|>",),
}
"""Marks of a family that the tokenizer counts as special; they are single tokens."""
ADDED: dict[str, tuple[str, ...]] = {"qwen": ("<think>", "</think>", "<tool_call>", "</tool_call>")}
"""Marks that are single tokens, and ordinary text."""
ENDS = {"qwen": "<|im_end|>", "llama": "<|eot_id|>", "mistral": "</s>", "plain": "<|end|>"}
STARTS = {"llama": "<|begin_of_text|>", "mistral": "<s>"}
TEMPLATES = {"qwen": QWEN_TEMPLATE, "llama": LLAMA_TEMPLATE, "mistral": MISTRAL_TEMPLATE, "plain": PLAIN_TEMPLATE}

_CORPUS = (
    "What is the weather in Paris? The weather is fine, and the answer is ready.",
    '{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}',
    '{"name": "search", "parameters": {"query": "select count(*) from orders"}}',
    "You are a helpful assistant. Functions that may be called, and how to call them. user system tool",
)


@cache
def _backend(family: Family) -> Any:
    """Byte-level BPE with a few merges, so that any text can be written and words have several spellings."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in SPECIAL[family]])
    tokenizer.add_tokens([AddedToken(word, special=False) for word in ADDED.get(family, ())])
    return tokenizer


def make_tokenizer(family: Family = "qwen", *, template: str | None = None) -> Any:
    """A tokenizer of a family's shape. `template`: another chat template; empty for none."""
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=_backend(family).from_str(_backend(family).to_str()),
        eos_token=ENDS[family],
        pad_token=SPECIAL[family][0],
        bos_token=STARTS.get(family),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATES[family].lstrip("\n") if template is None else template or None
    return tokenizer


def make_model(
    family: Family = "qwen",
    *,
    hidden_size: int = 32,
    num_layers: int = 2,
    vocab_size: int = 384,
    max_context_tokens: int = 2048,
    seed: int = 0,
    **settings: Any,
) -> Any:
    """A random model in eval mode, in 32 bits. Its logits are spread enough that answers differ."""
    import torch
    from transformers import LlamaConfig, MistralConfig, Qwen3Config

    makers: dict[str, Any] = {"qwen": Qwen3Config, "llama": LlamaConfig, "mistral": MistralConfig, "plain": Qwen3Config}
    end = make_tokenizer(family).eos_token_id
    given = {"sliding_window": None} | settings if family == "mistral" else settings
    config = makers[family](
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 3,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden_size // 4,
        max_position_embeddings=max_context_tokens,
        tie_word_embeddings=True,
        initializer_range=0.2,
        eos_token_id=end,
        bos_token_id=None,
        pad_token_id=0,
        **given,
    )
    return _made(config, seed, torch)


def _made(config: Any, seed: int, torch: Any) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def save_model(folder: Path, family: Family = "qwen", *, template: str | None = None, **settings: Any) -> str:
    """A folder that loads as any published model does; gives its path."""
    make_model(family, **settings).save_pretrained(str(folder))
    make_tokenizer(family, template=template).save_pretrained(str(folder))
    return str(folder)
