"""Plain Python over an SDK: two functions with prompts of their own, and the one that runs them.

Each team is a module of its own, as its user's file would be. Functions that are agents of their own are marked so.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from tests.contract.adapters.case import Case
from tests.contract.adapters.model import CRITIC, WRITER
from tests.servers import FakeOpenAI

_MODULE = """
import json
import agentlightning
{imports}

ASYNC def said_by(messages, tools):
    while True:
        text, calls, turn = AWAIT {say}(messages, tools)
        if not calls:
            return text
        messages = [*messages, *turn]

def run(name, arguments):
    try:
        return FUNCTIONS[name](**arguments)
    except ValueError as error:
        return f"it failed: {{error}}"

@agentlightning.agent
ASYNC def writer(question):
    return AWAIT said_by([{{"role": "system", "content": WRITER}}, {{"role": "user", "content": question}}], TOOLS)

@agentlightning.agent
ASYNC def critic(question):
    return AWAIT said_by([{{"role": "system", "content": CRITIC}}, {{"role": "user", "content": question}}], [])

ASYNC def duo(question):
    AWAIT writer(question)
    return AWAIT critic(question)

async def duo_in_a_thread(question):
    import asyncio
    return await asyncio.to_thread(duo, question)
"""

_CHAT = """
ASYNC def chat(messages, tools):
    options = {"tools": tools} if tools else {}
    if not STREAM:
        completion = AWAIT create(messages=messages, **options)
        message = completion.choices[0].message
        if not message.tool_calls:
            return message.content, [], []
        calls = [call.model_dump() for call in message.tool_calls]
        turn = [{"role": "assistant", "content": None, "tool_calls": calls}]
        for call in message.tool_calls:
            result = run(call.function.name, json.loads(call.function.arguments))
            turn.append({"role": "tool", "tool_call_id": call.id, "content": result})
        return None, message.tool_calls, turn
    pieces = AWAIT create(messages=messages, stream=True, **options)
    return "".join([piece.choices[0].delta.content or "" ASYNC for piece in pieces]), [], []
"""

_ANTHROPIC = """
ASYNC def messages_of(messages, tools):
    system, rest = messages[0]["content"], messages[1:]
    options = dict(model="m", max_tokens=99, system=system, messages=rest, tools=tools)
    if STREAM:
        ASYNC with client.messages.stream(**options) as stream:
            message = AWAIT stream.get_final_message()
    else:
        message = AWAIT client.messages.create(**options)
    calls = [block for block in message.content if block.type == "tool_use"]
    if not calls:
        return message.content[0].text, [], []
    results = [{"type": "tool_result", "tool_use_id": c.id, "content": run(c.name, c.input)} for c in calls]
    used = [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.input} for c in calls]
    return None, calls, [{"role": "assistant", "content": used}, {"role": "user", "content": results}]
"""

_PARAMETERS = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}


class SDKCase(Case):
    has_known_members = False
    imports, say, body = "", "chat", _CHAT
    is_async = False
    """Coroutine functions over the SDK's asynchronous client."""

    def team(self, server: FakeOpenAI, *, stream: bool = False, tool: Callable[..., Any] | None = None) -> Any:
        module = ModuleType(f"users_{self.name}_agent")
        settings = {"URL": server.url, "STREAM": stream, "WRITER": WRITER, "CRITIC": CRITIC}
        if tool is not None:
            settings |= {tool.__name__: tool, "FUNCTIONS": {tool.__name__: tool}}
        vars(module).update(settings, TOOLS=[self.schema(tool)] if tool else [])
        source = _MODULE.format(imports=self.imports + self.body, say=self.say)
        for word in ("async ", "await "):
            source = source.replace(word.upper(), word if self.is_async else "")
        exec(compile(source, module.__name__, "exec"), vars(module))
        return self.entry(module)

    def entry(self, module: Any) -> Any:
        return module.duo

    def schema(self, tool: Callable[..., Any]) -> dict[str, Any]:
        described = {"name": tool.__name__, "description": tool.__doc__, "parameters": _PARAMETERS}
        return {"type": "function", "function": described}


class OpenAISDKCase(SDKCase):
    name, package = "openai_sdk", "openai"
    imports = """
import functools, openai
client = openai.OpenAI(api_key="k", base_url=URL + "/v1")
create = functools.partial(client.chat.completions.create, model="m")
"""


class OpenAISDKThreadCase(OpenAISDKCase):
    """The same functions behind a coroutine, in another thread."""

    def entry(self, module: Any) -> Any:
        return module.duo_in_a_thread


class OpenAISDKAsyncCase(OpenAISDKCase):
    is_async = True
    imports = OpenAISDKCase.imports.replace("openai.OpenAI(", "openai.AsyncOpenAI(")


class AzureOpenAICase(SDKCase):
    name, package = "azure_openai", "openai"
    imports = """
import functools
from openai import AzureOpenAI
client = AzureOpenAI(api_key="k", base_url=URL + "/v1", api_version="2024-10-21")
create = functools.partial(client.chat.completions.create, model="m")
"""


class AzureOpenAIAsyncCase(AzureOpenAICase):
    is_async = True
    imports = AzureOpenAICase.imports.replace("AzureOpenAI", "AsyncAzureOpenAI")


class LiteLLMCase(SDKCase):
    name, package = "litellm", "litellm"
    imports = """
import functools, litellm
create = functools.partial(litellm.completion, model="openai/m", api_key="k", api_base=URL + "/v1")
"""

    @property
    def can_use_tools(self) -> bool:
        """LiteLLM imports a name that older versions of mcp (which CrewAI asks for) do not have."""
        return find_spec("crewai") is None


class LiteLLMAsyncCase(LiteLLMCase):
    is_async = True
    imports = LiteLLMCase.imports.replace("litellm.completion", "litellm.acompletion")


class AnthropicSDKCase(SDKCase):
    name, package, dialect = "anthropic_sdk", "anthropic", "messages"
    say, body = "messages_of", _ANTHROPIC
    imports = """
import anthropic
client = anthropic.Anthropic(api_key="k", base_url=URL)
"""

    def schema(self, tool: Callable[..., Any]) -> dict[str, Any]:
        return {"name": tool.__name__, "description": tool.__doc__, "input_schema": _PARAMETERS}


class AnthropicSDKAsyncCase(AnthropicSDKCase):
    is_async = True
    imports = AnthropicSDKCase.imports.replace("anthropic.Anthropic(", "anthropic.AsyncAnthropic(")


CASES = [
    *(OpenAISDKCase(), OpenAISDKThreadCase(), OpenAISDKAsyncCase()),
    *(AzureOpenAICase(), AzureOpenAIAsyncCase()),
    *(LiteLLMCase(), LiteLLMAsyncCase()),
    *(AnthropicSDKCase(), AnthropicSDKAsyncCase()),
]
