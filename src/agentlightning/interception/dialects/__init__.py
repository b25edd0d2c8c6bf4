"""Wire formats of model APIs, as pure translation: request ⇄ call, response ⇄ reply."""

from functools import cache

from agentlightning.errors import ConfigError
from agentlightning.interception.dialects.base import Body, Dialect, decode_object
from agentlightning.interception.dialects.chat import ChatCompletions
from agentlightning.interception.dialects.messages import Messages
from agentlightning.interception.dialects.ollama import OllamaChat, OllamaGenerate
from agentlightning.interception.dialects.responses import Responses
from agentlightning.registry import Registry

__all__ = ["DIALECTS", "REGISTERED", "Body", "Dialect", "decode_object", "dialect_of", "dialects"]

DIALECTS: tuple[Dialect, ...] = (ChatCompletions(), Responses(), Messages(), OllamaChat(), OllamaGenerate())
REGISTERED = Registry("dialect", {d.name: f"{type(d).__module__}:{type(d).__name__}" for d in DIALECTS})


@cache
def dialects() -> tuple[Dialect, ...]:
    """Ours, and those that plugins bring (entry points of `agentlightning.dialect`: a class, made without arguments).

    Raises ConfigError for one that cannot be loaded.
    """
    return (*DIALECTS, *(_of_plugin(name) for name in REGISTERED.names() if name not in REGISTERED.builtin))


def _of_plugin(name: str) -> Dialect:
    try:
        return REGISTERED.load(name)()
    except Exception as error:
        whose = REGISTERED.origins()[name]
        raise ConfigError(
            f"the dialect {name!r} of the package {whose} cannot be loaded: {type(error).__name__}: {error}. "
            "Repair or remove the package; `agentlightning plugins --check` tells about all of them."
        ) from error


def dialect_of(path: str, content: bytes | None = None) -> Dialect | None:
    """The dialect spoken at a URL path, or None when this is no model call we know.

    Paths such as `/v1/messages` are other APIs' too: `content`, the request's bytes, tells them apart.
    """
    for dialect in dialects():
        if path.endswith(dialect.path_suffix):
            return dialect if content is None or all(mark in content for mark in dialect.marks) else None
    return None
