"""The agents of a case as a worker process finds them: a variable of a module, made as the environment says."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from tests.contract.adapters.conftest import ALL


class _Elsewhere(NamedTuple):
    """The server of the process that runs the test."""

    url: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


def _team() -> Any:
    case = next(case for case in ALL if type(case).__name__ == os.environ["CASE"])
    server: Any = _Elsewhere(os.environ["CASE_SERVER"])
    return case.team(server)


team = _team()
