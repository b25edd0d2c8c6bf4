"""For every test: a terminal's Ctrl-C, whatever the tests were started from, and no scope left behind by another test.

A shell that starts a command in the background lets it ignore SIGINT, and so do the programs it starts; those of the
tests that interrupt a program would then wait for ever.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from agentlightning.interception.scope import current_scope, current_speaker

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _leaves_no_scope() -> Iterator[None]:
    yield
    assert current_scope() is None and current_speaker() is None, "this test left its scope behind"
