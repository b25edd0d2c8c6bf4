# The published sample, its four steps joined, nothing changed but the blank lines.
import openai
from agentlightning import wrap_agent, Trainer


# 原始代理:根据问题生成回答(提示词简单,可能效果差)
def simple_agent(question: str) -> str:
    response = openai.ChatCompletion.create(model="gpt-3.5-turbo", messages=[{"role": "user", "content": question}])
    return response.choices[0].message["content"]


# 封装代理,指定优化算法为APO
wrapped_agent = wrap_agent(
    agent=simple_agent,
    agent_type="openai_sdk",  # 声明代理类型,AL自动适配
    algorithm="apo",  # 选择自动提示优化算法
)

# 配置训练器:设置优化轮次、数据存储路径等
trainer = Trainer(
    agent=wrapped_agent,
    max_epochs=3,  # 优化3轮
    data_dir="./trajectory_data",  # 轨迹数据存储路径
    output_dir="./optimized_results",  # 优化结果存储路径
)

# 准备任务数据(如用户问题列表)
tasks = ["什么是强化学习?用一句话解释", "如何用Python实现简单的加法函数?", "介绍下微软的Agent Lightning项目"]

# 运行优化:AL会自动让代理执行任务、收集轨迹、生成优化提示
trainer.train(tasks=tasks)

# 加载优化后的提示词
optimized_agent = trainer.load_optimized_agent()

# 测试效果:优化后的代理会使用APO生成的更优提示词
print(optimized_agent("什么是强化学习?用一句话解释"))
