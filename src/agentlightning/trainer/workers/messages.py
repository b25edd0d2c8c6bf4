"""What a run and its worker processes say to each other: JSON messages over two pipes, each with its length before it.

The agent runs in the worker, inside a scope of the worker's own. What only the run can know is asked for (`Ask…`): may
this call be made, what does the engine answer, what does the tape hold, what would the algorithm make of this call.
"""

from __future__ import annotations

import struct
import threading
from typing import IO, Any, Literal

import msgspec

from agentlightning.data.call import Call, Reply
from agentlightning.data.resource import Policy
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Step
from agentlightning.interception.endpoint import SeenEndpoint
from agentlightning.interception.tools import ToolMode
from agentlightning.trainer.workers.origin import Origin

_LENGTH = struct.Struct("!Q")


class _Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Tagged with the name of its kind."""


# -- from the run -----------------------------------------------------------------------------------------------------


class Load(_Message, frozen=True):
    """The first message: where the agent is found, and how it is run."""

    origin: Origin
    agent_id: str
    tools: dict[str, ToolMode]
    preparation: dict[str, Any]
    """How a fresh interpreter becomes like ours, in the words of `multiprocessing.spawn`."""


class Begin(_Message, frozen=True):
    """Run the agent once."""

    rollout_id: str
    task_input: Any
    policy: Policy
    attempt: int
    mode: str
    has_predict: bool
    has_responder: bool


class BeginAround(_Message, frozen=True):
    """Call the agent's `set_up` or `tear_down`."""

    name: Literal["set_up", "tear_down"]
    task: Task


class Told(_Message, frozen=True):
    """The answer to an `Ask…` with this number: a value, or what was raised."""

    number: int
    value: Any = None
    call: Call | None = None
    reply: Reply | None = None
    raised: str = ""
    """The name of an error of ours; "" for none."""
    why: str = ""


class GiveUp(_Message, frozen=True):
    """Time is up: tell what has not ended. The process is ended next."""


# -- from the worker --------------------------------------------------------------------------------------------------


class Loaded(_Message, frozen=True):
    """The agent is there."""


class NotLoaded(_Message, frozen=True):
    """It is not, and why."""

    why: str


class Opened(_Message, frozen=True):
    """A call begins. It is told so that there is something to see of it should the process die before its end."""

    index: int
    agent: str
    dialect: str = ""
    """Of a model call: its dialect, where it goes, and the request as the agent wrote it."""
    url: str = ""
    body: bytes = b""
    step: Step | None = None
    """Of a tool or an inner function: the step as far as it is known."""


class Stepped(_Message, frozen=True):
    """A call ended, or will not end any more."""

    step: Step
    endpoint: SeenEndpoint | None = None


class Rewarded(_Message, frozen=True):
    """The agent emitted a reward, or something that is none."""

    reward: Reward | None = None
    error: str | None = None


class AskAdmit(_Message, frozen=True):
    """May one more call be made?"""

    number: int


class AskPredict(_Message, frozen=True):
    """What does the algorithm make of a call?"""

    number: int
    call: Call


class AskReply(_Message, frozen=True):
    """Does the run's responder answer this call (`value`)? If so, its answer is told later, to `reply_number`."""

    number: int
    reply_number: int
    call: Call


class AskTape(_Message, frozen=True):
    """What do tools' recorded answers hold? `claim` is answered with whether to wait; `wait` once that is over."""

    number: int
    verb: Literal["has", "get", "put", "claim", "wait", "release"]
    tool: str
    arguments: Any
    value: Any = None
    owner: tuple[int, ...] = ()


class NoLonger(_Message, frozen=True):
    """Nobody waits for this answer any more."""

    number: int


class Ended(_Message, frozen=True):
    """The rollout, or what is done around it, is over."""

    status: Literal["succeeded", "failed", "stopped", "timeout"]
    output: Any = None
    error: str | None = None
    num_lost: int = 0


FromRun = Load | Begin | BeginAround | Told | GiveUp
FromWorker = (
    Loaded | NotLoaded | Opened | Stepped | Rewarded | AskAdmit | AskPredict | AskReply | AskTape | NoLonger | Ended
)  # fmt: skip


class Channel:
    """One end of the two pipes. `receive` is for one thread, `send` for all."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes], received: Any) -> None:
        """`received`: the union of what may come in."""
        self._incoming = incoming
        self._outgoing = outgoing
        self._decode = msgspec.json.Decoder(received).decode
        self._lock = threading.Lock()

    def send(self, message: _Message) -> None:
        """OSError when the other end is gone."""
        content = msgspec.json.encode(message)
        with self._lock:
            self._outgoing.write(_LENGTH.pack(len(content)) + content)
            self._outgoing.flush()

    def receive(self) -> Any:
        """The next message; None when the other end is gone."""
        head = self._incoming.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        content = self._incoming.read(length)
        return self._decode(content) if len(content) == length else None
