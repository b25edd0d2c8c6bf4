"""The demo model's words and chat template: a tokenizer as any other on disk, small enough for two layers.

One token is a word, a number, a name, or a piece of SQL or JSON that always stands together. Decoding gives back the
very text, and a template that only ever appends keeps the ids of a conversation's earlier turns.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any

from agentlightning.demo.sql.agent import SYSTEM
from agentlightning.demo.sql.lines import LINES
from agentlightning.demo.sql.world import ASKED, CODES, COMPARED, MAX_NUMBER, TABLES, THINGS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>", "<unk>")

PIECES = (
    '<tool_call>\n{"name": "schema", "arguments": {"words": ["',
    '"]}}\n</tool_call>',
    '<tool_call>\n{"name": "sql", "arguments": {"query": "',
    '"}}\n</tool_call>',
    "select count(*) from ",
    "select max(",
    "select min(",
    ") from ",
    " where ",
    *(" > ", " < ", " = "),
    *('{"', '": "', '", "', '"}'),
    "error: no such column: ",
)

PUNCTUATION = " \n.,:;?!'()-"

TEMPLATE = r"""
{%- macro text(content) -%}
  {%- if content is string -%}{{- content -}}
  {%- elif content -%}{%- for part in content -%}{{- part.text or '' -}}{%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- macro offered() -%}
  tools:{% for tool in tools %} {{ (tool.function or tool).name }}{% endfor -%}
{%- endmacro -%}
{%- if tools and (not messages or messages[0].role not in ['system', 'developer']) -%}
  {{- '<|system|>' -}}{{- offered() -}}{{- '<|end|>' -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.role == 'assistant' -%}
    {{- '<|assistant|>' -}}{{- text(message.content) -}}
    {%- for call in message.tool_calls or [] -%}
      {%- set function = call.function or call -%}
      {%- if text(message.content) or not loop.first -%}{{- '\n' -}}{%- endif -%}
      {{- '<tool_call>\n{"name": "' + function.name + '", "arguments": ' -}}
      {%- if function.arguments is string -%}{{- function.arguments -}}
      {%- else -%}{{- function.arguments | tojson -}}{%- endif -%}
      {{- '}\n</tool_call>' -}}
    {%- endfor -%}
  {%- else -%}
    {{- '<|' + ('system' if message.role == 'developer' else message.role) + '|>' -}}{{- text(message.content) -}}
    {%- if loop.first and tools and message.role in ['system', 'developer'] -%}
      {{- '\n' -}}{{- offered() -}}
    {%- endif -%}
  {%- endif -%}
  {{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
""".strip()


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that knows every piece of what is said in the agent's world, lower-cased; the rest is `<unk>`."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=_model([*SPECIAL, *sorted(_known() - set(SPECIAL))]),
        pad_token="<|pad|>",
        eos_token="<|end|>",
        unk_token="<unk>",
        additional_special_tokens=list(SPECIAL[1:5]),
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        chat_template=TEMPLATE,
    )


def render(tokenizer: Any, messages: list[dict[str, Any]], tools: list[Any], *, is_open: bool = False) -> list[int]:
    """A conversation's ids; `is_open`: the assistant is about to speak."""
    text = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=is_open, tokenize=False)
    return tokenizer.encode(text, add_special_tokens=False)


def _known() -> set[str]:
    texts = chain(
        [SYSTEM, "\ntools: schema sql", "unknown", "None"], *LINES.values(), *ASKED.values(), COMPARED.values()
    )
    flat = (text if isinstance(text, str) else " ".join(f" {part}" for part in text) for text in texts)
    words = {piece for text in flat for piece in _splitter().findall(re.sub(r"{\w+}", "", text).lower())}
    return {*words, *PIECES, *THINGS, *TABLES, *CODES, *PUNCTUATION, *map(str, range(MAX_NUMBER + 1))}


def _model(words: list[str]) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_splitter().pattern), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    return tokenizer


def _splitter() -> re.Pattern[str]:
    """Plain words carry the space before them; names and numbers never do, so each is one token wherever it stands."""
    names = "|".join((*THINGS, *TABLES, *CODES))
    pieces = "|".join(re.escape(piece) for piece in sorted(PIECES, key=len, reverse=True))
    special = "|".join(re.escape(word) for word in SPECIAL)
    return re.compile(rf"{special}|{pieces}|(?:{names})\b|[0-9]+| ?(?!(?:{names})\b)[a-z]+|[\s\S]")
