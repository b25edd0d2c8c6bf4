"""Wire formats of model APIs, as pure translation: request ⇄ call, response → reply."""

from agentlightning.interception.dialects.base import Body, Dialect, decode_object
from agentlightning.interception.dialects.chat import ChatCompletions

__all__ = ["DIALECTS", "Body", "Dialect", "decode_object", "dialect_of"]

DIALECTS: tuple[Dialect, ...] = (ChatCompletions(),)


def dialect_of(path: str) -> Dialect | None:
    """The dialect spoken at a URL path, or None when this is no model call we know."""
    for dialect in DIALECTS:
        if path.endswith(dialect.path_suffix):
            return dialect
    return None
