"""A program in any language, started anew for every rollout: `node agent.js`, `./agent`, `python agent.py {input}`.

It gets the task's input on stdin (fields as JSON), or in its arguments where they say `{input}` or a field's name, and
answers on stdout. Inside a rollout its environment leads every SDK through a gateway, so its calls are captured and
steered, and the provider's key stays here. When its time is up, or we are killed, it ends with all it started.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from agentlightning import offspring
from agentlightning.adapters.base import Adapter
from agentlightning.data.structure import Member, Structure
from agentlightning.errors import AgentError
from agentlightning.interception.handover import Passage, passage_of
from agentlightning.interception.scope import current_scope

Output = Literal["auto", "text", "last_line", "json"]
_PLACE = re.compile(r"\{(\w+)\}")
_TAIL = 2000
"""Characters of what a failed program said that its error shows."""
_GRACE_SECONDS = 2.0
"""Between asking a program to end and ending it."""


class ProgramError(AgentError):
    """The program ended with an error, or answered with something other than was asked for."""


class Program(msgspec.Struct, frozen=True):
    """What to start, where, and how to read its answer.

    `auto`: a JSON object on the last line is the answer, else everything it printed.
    """

    command: tuple[str, ...]
    folder: str | None = None
    output: Output = "auto"

    @classmethod
    def of(cls, command: str | Sequence[str] | Program, folder: str | Path | None = None) -> Program:
        """A program from a command as one types it, or as a list. AgentError when there is nothing to start."""
        if isinstance(command, Program):
            return command
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
        if not words:
            raise AgentError("an agent of type 'process' needs a command, such as: node agent.js")
        return cls(tuple(words), str(folder) if folder is not None else None)

    @property
    def label(self) -> str:
        """The script's name where one is started by an interpreter, else the program's."""
        files = [word for word in self.command[1:] if (Path(self.folder or ".") / word).is_file()]
        return Path(files[0] if files else self.command[0]).stem

    def missing(self) -> str | None:
        """What keeps it from being started, or None."""
        first, folder = self.command[0], Path(self.folder or ".")
        found = (folder / first) if os.sep in first else shutil.which(first)
        if found is None or not os.access(found, os.X_OK):
            return f"there is no program {first!r} that can be started (looked in {folder.resolve()} and in PATH)"
        return None


class ProcessAdapter(Adapter):
    """A command, as text or as a list of words, or a `Program`."""

    name = "process"

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        return isinstance(agent, Program)

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        if not isinstance(agent, Program | str | list | tuple):
            return f"a {type(agent).__name__} is no command; give text or a list, such as 'node agent.js'"
        return Program.of(agent).missing()

    def __init__(self, agent: Any) -> None:
        super().__init__(agent)
        self.program = Program.of(agent)

    def label(self) -> str:
        return self.program.label

    def structure(self) -> Structure:
        member = Member(self.label(), kind="program", description=shlex.join(self.program.command))
        return Structure(self.label(), self.name, [member])

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Run it and wait for its answer. One input, or its fields as keyword arguments."""
        if len(args) + bool(kwargs) != 1:
            raise TypeError(f"{self.label()} takes one input, or the input's fields as keyword arguments")
        answer = self.invoke(args[0] if args else kwargs)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(answer)
        with ThreadPoolExecutor(1) as executor:  # a loop is running in this thread
            return executor.submit(asyncio.run, answer).result()

    async def invoke(self, task_input: str | dict[str, Any]) -> Any:
        """As `call`, without holding up the loop; cancelling it ends the program."""
        scope = current_scope()
        if scope is None:
            return await _answer(self.program, task_input, None)
        passage = await asyncio.to_thread(passage_of, scope)
        try:
            answer = await _answer(self.program, task_input, passage)
        except ProgramError:
            _stop_if_asked(passage)
            raise
        _stop_if_asked(passage)
        return answer


def _stop_if_asked(passage: Passage) -> None:
    """A program cannot be stopped by an exception; we are, once it has ended."""
    if passage.stopped is not None:
        raise passage.stopped


async def _answer(program: Program, task_input: str | dict[str, Any], passage: Passage | None) -> Any:
    environment = dict(os.environ) if passage is None else passage.environment(os.environ)
    command, content = _filled(program.command, task_input)
    # files, not pipes: what the program leaves running may keep those open for ever
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(content)
        given.seek(0)
        status = await _run(command, program.folder, environment, given, out, err)
        said, complained = _text(out), _text(err)
    if status != 0:
        ending = f"exit status {status}" if status > 0 else f"signal {signal.Signals(-status).name}"
        raise ProgramError(f"{program.label} ended with {ending}: {(complained or said)[-_TAIL:].strip()}")
    return _read(program, said)


async def _run(
    command: list[str],
    folder: str | None,
    environment: dict[str, str],
    given: IO[bytes],
    out: IO[bytes],
    err: IO[bytes],
) -> int:
    try:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environment, stdin=given, stdout=out, stderr=err, start_new_session=True
        )
    except OSError as error:
        raise ProgramError(f"{command[0]!r} cannot be started: {error}") from error
    offspring.keep(process.pid)
    try:
        return await process.wait()
    except BaseException:
        offspring.signal_group(process.pid, "SIGTERM")
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.wait()), _GRACE_SECONDS)
        raise
    finally:
        offspring.signal_group(process.pid)  # with all it left behind
        await asyncio.shield(process.wait())
        offspring.forget(process.pid)


def _filled(command: Sequence[str], task_input: str | dict[str, Any]) -> tuple[list[str], bytes]:
    """The command with the input in its places, and what is left for stdin: all of it, when there were none."""
    text = _as_text(task_input)
    fields = task_input if isinstance(task_input, dict) else {}
    values = {"input": text} | {name: _as_text(value) for name, value in fields.items()}
    found = {name for word in command for name in _PLACE.findall(word)} & values.keys()
    filled = [_PLACE.sub(lambda place: values.get(place[1], place[0]), word) for word in command]
    return filled, b"" if found else text.encode()


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _read(program: Program, said: str) -> Any:
    text = said.strip()
    last = text.rpartition("\n")[2].strip()
    match program.output:
        case "text":
            return text
        case "last_line":
            return last
        case "json":
            return _json(program, text)
        case "auto":
            found = _object(last)
            return _object(text) or text if found is None else found


def _object(text: str) -> dict[str, Any] | None:
    with suppress(msgspec.DecodeError):
        value = msgspec.json.decode(text) if text.startswith("{") else None
        return value if isinstance(value, dict) else None
    return None


def _json(program: Program, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ProgramError(f"{program.label} was to print JSON, and printed {text[:200]!r}: {error}") from error


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
