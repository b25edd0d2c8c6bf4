"""Wire formats of model APIs, as pure translation: request ⇄ call, response ⇄ reply."""

from agentlightning.interception.dialects.base import Body, Dialect, decode_object
from agentlightning.interception.dialects.chat import ChatCompletions
from agentlightning.interception.dialects.messages import Messages
from agentlightning.interception.dialects.ollama import OllamaChat, OllamaGenerate
from agentlightning.interception.dialects.responses import Responses

__all__ = [
    "DIALECTS",
    "Body",
    "ChatCompletions",
    "Dialect",
    "Messages",
    "OllamaChat",
    "OllamaGenerate",
    "Responses",
    "decode_object",
    "dialect_of",
]

DIALECTS: tuple[Dialect, ...] = (ChatCompletions(), Responses(), Messages(), OllamaChat(), OllamaGenerate())


def dialect_of(path: str, content: bytes | None = None) -> Dialect | None:
    """The dialect spoken at a URL path, or None when this is no model call we know.

    Paths such as `/v1/messages` are other APIs' too: `content`, the request's bytes, tells them apart.
    """
    for dialect in DIALECTS:
        if path.endswith(dialect.path_suffix):
            is_it = not dialect.marks or content is None or all(mark in content for mark in dialect.marks)
            return dialect if is_it else None
    return None
