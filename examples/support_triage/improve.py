"""Improve the agent's prompt on its own tickets, and use the agent that comes back."""

from agent import triage

from agentlightning import Trainer, wrap_agent

trainer = Trainer(agent=wrap_agent(agent=triage), max_epochs=4, output_dir="./optimized_results")
result = trainer.train(tasks={"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"})
print(result.summary())

better = trainer.load_optimized_agent()
print(better("Hello, order N-4498 never came and I would like a refund."))
