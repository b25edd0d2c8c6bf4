"""What a plugin must keep, as checks its author can run: plain functions that raise ContractBroken, no test framework.

from agentlightning.contracts import check_algorithm

def test_mine():
    check_algorithm(lambda: Mine())
"""

from agentlightning.contracts.adapter import check_adapter
from agentlightning.contracts.algorithm import check_algorithm
from agentlightning.contracts.broken import ContractBroken
from agentlightning.contracts.reward import check_reward
from agentlightning.contracts.store import check_store

__all__ = ["ContractBroken", "check_adapter", "check_algorithm", "check_reward", "check_store"]
