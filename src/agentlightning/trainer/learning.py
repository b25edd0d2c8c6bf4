"""How an algorithm's own functions are called, whether they are async or not."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from agentlightning.algorithms import ALGORITHMS
from agentlightning.algorithms.base import BaseAlgorithm
from agentlightning.data.call import Call
from agentlightning.data.resource import Policy
from agentlightning.errors import ConfigError
from agentlightning.interception.scope import Predict
from agentlightning.trainer.own_loop import on_own_loop
from agentlightning.trainer.policy_folder import SavedPolicy
from agentlightning.trainer.session import BlockingSession, RunSession


async def learn(algorithm: BaseAlgorithm[Any], session: RunSession) -> Any:
    """What `train` gives back. Async on this loop; a plain one on a thread, with a session whose calls wait."""
    if inspect.iscoroutinefunction(algorithm.train):
        return await algorithm.train(session)
    blocking: Any = BlockingSession(session, asyncio.get_running_loop())
    result = await asyncio.to_thread(algorithm.train, blocking)
    return await result if inspect.isawaitable(result) else result


def predictor(algorithm: BaseAlgorithm[Any]) -> Predict | None:
    """The algorithm's own `predict`, or None where it is the default (applying the policy).

    An async one runs on a loop of its own, and the call that it is about waits.
    """
    predict = algorithm.predict
    if type(algorithm).predict is BaseAlgorithm.predict:
        return None
    if not inspect.iscoroutinefunction(predict):
        return predict

    def waited_for(call: Call, policy: Policy) -> Call:
        return on_own_loop(lambda: predict(call, policy))

    return waited_for


def saved_predict(algorithm: BaseAlgorithm[Any]) -> dict[str, Any]:
    """What `policy.yaml` says of an algorithm whose `predict` it needs: its class, and the settings that were given.

    ConfigError for settings that no file can hold.
    """
    kind = type(algorithm)
    try:
        params = algorithm.config.model_dump(mode="json", exclude_defaults=True)
    except ValueError as error:  # pydantic's of what JSON cannot say
        raise ConfigError(
            f"algorithm {algorithm.name or kind.__name__} has a predict of its own, so policy.yaml must name its "
            f"settings, and one of them cannot be written there: {error}. Give it by name, or as plain data."
        ) from error
    return {"predict": f"{kind.__module__}:{kind.__qualname__}", "predict_params": params}


def loaded_predict(saved: SavedPolicy) -> Predict | None:
    """What a saved policy steers calls by, where that is not the default."""
    return predictor(ALGORITHMS.load(saved.predict)(**saved.predict_params)) if saved.predict else None
