"""Who is calling, and how to run the object: one short file per framework, none imported before it is needed."""

from agentlightning.registry import Registry

ADAPTERS = Registry(
    "adapter",
    {
        "openai_sdk": "agentlightning.adapters.openai_sdk:OpenAISDKAdapter",
        "function": "agentlightning.adapters.function:FunctionAdapter",
    },
)
"""In the order of detection: the first that recognises an object gets it."""
