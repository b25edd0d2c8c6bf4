"""The quickstart with today's OpenAI SDK (1.x to 3.x)."""

from openai import OpenAI

from agentlightning import Trainer, wrap_agent

client = OpenAI()


def simple_agent(question: str) -> str:
    response = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": question}],
    )
    return response.choices[0].message.content


if __name__ == "__main__":
    agent = wrap_agent(agent=simple_agent, agent_type="openai_sdk", algorithm="apo")
    trainer = Trainer(agent=agent, max_epochs=3, data_dir="./trajectory_data", output_dir="./optimized_results")
    trainer.train(
        tasks=[
            "什么是强化学习?用一句话解释",
            "如何用Python实现简单的加法函数?",
            "介绍下微软的Agent Lightning项目",
        ]
    )
    better = trainer.load_optimized_agent()
    print(better("什么是强化学习?用一句话解释"))
