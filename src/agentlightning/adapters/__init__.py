"""Who is calling, and how to run the object: one short file per framework, none imported before it is needed."""

from agentlightning.registry import Registry

ADAPTERS = Registry(
    "adapter",
    {
        "langchain": "agentlightning.adapters.langchain:LangChainAdapter",
        "langgraph": "agentlightning.adapters.langgraph:LangGraphAdapter",
        "autogen": "agentlightning.adapters.autogen:AutoGenAdapter",
        "crewai": "agentlightning.adapters.crewai:CrewAIAdapter",
        "openai_agents": "agentlightning.adapters.openai_agents:OpenAIAgentsAdapter",
        "litellm": "agentlightning.adapters.litellm:LiteLLMAdapter",
        "anthropic_sdk": "agentlightning.adapters.anthropic_sdk:AnthropicSDKAdapter",
        "azure_openai": "agentlightning.adapters.azure_openai:AzureOpenAIAdapter",
        "openai_sdk": "agentlightning.adapters.openai_sdk:OpenAISDKAdapter",
        "process": "agentlightning.adapters.process:ProcessAdapter",
        "function": "agentlightning.adapters.function:FunctionAdapter",
    },
)
"""In the order of detection: the first that recognises an object gets it."""

COLLECTORS = Registry("collector", {"store": "agentlightning.trainer.live:collector"})
"""What keeps the calls of a wrapped agent in real use; it knows stores, which adapters do not."""
