"""Programs that try to get out: each attempt is a program, run behind every kind of wall this system can build."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from agentlightning.errors import ConfigError
from agentlightning.rewards import sandbox
from agentlightning.rewards.sandbox import Limits, Mode, Outcome, Program, available_mode, health, run_sandboxed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox's walls are Linux's")

QUICK = Limits(wall_seconds=20.0, cpu_seconds=2, memory_bytes=256 << 20, max_processes=6)


def python_of(mode: Mode) -> str:
    """Root's own Python may lie where the user that programs become cannot reach it, unless it is shown to them."""
    is_hidden = mode != "namespaces" and os.getuid() == 0 and not (os.stat(sys.base_prefix).st_mode & 1 and _is_open())
    return "/usr/bin/python3" if is_hidden else ""


def _is_open() -> bool:
    return all(os.stat(folder).st_mode & 1 for folder in Path(os.path.realpath(sys.base_prefix)).parents)


@pytest.fixture(params=["namespaces", "landlock"])
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    try:
        sandbox._run(found, Program(arguments=["-c", "pass"], python=python_of(found)), Limits())
    except sandbox.SandboxRefused:
        pytest.skip("this system cannot build these walls")
    return found


def run(mode: Mode, code: str, limits: Limits = QUICK, **fields: object) -> Outcome:
    program = Program(arguments=["-I", "-B", "-c", code], python=python_of(mode), **fields)  # type: ignore[arg-type]
    return sandbox._run(mode, program, limits)


def attempt(mode: Mode, code: str, limits: Limits = QUICK) -> str:
    """What the code prints: `got out`, or the error that stopped it."""
    indented = "\n    ".join(code.strip().splitlines())
    return run(
        mode, f"try:\n    {indented}\n    print('got out')\nexcept Exception as error:\n    print(repr(error))", limits
    ).stdout.strip()


def test_a_program_runs_and_its_output_comes_back(mode: Mode):
    done = run(mode, "import sys; print(sys.stdin.read().upper()); sys.exit(3)", stdin="hé")
    assert (done.ending, done.exit_code, done.stdout, done.mode) == ("exited", 3, "HÉ\n", mode)
    assert done.describe() == "it exited with 3"


def test_files_given_lie_in_its_folder_and_it_may_write_there(mode: Mode, tmp_path: Path):
    original = tmp_path / "original.txt"
    original.write_text("from the host")
    code = "print(open('a.txt').read(), open('b.txt').read()); open('a.txt', 'w').write('x'); open('c', 'w').write('y')"
    done = run(mode, code, files={"a.txt": "given"}, copies={"b.txt": str(original)})
    assert (done.stdout, done.exit_code) == ("given from the host\n", 0), done.stderr
    assert original.read_text() == "from the host"


def test_it_cannot_connect_to_this_machine(mode: Mode):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        said = attempt(mode, f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)")
        assert "PermissionError" in said
        with pytest.raises(TimeoutError):
            server.accept()


def test_it_cannot_open_a_socket_by_another_door(mode: Mode):
    code = "import ctypes\nassert ctypes.CDLL(None).syscall(425, 8, None) < 0\nprint('refused')"
    assert "refused" in attempt(mode, code)
    assert "PermissionError" in attempt(mode, "import socket\nsocket.socket(socket.AF_UNIX)")


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/proc/1/environ", str(Path(__file__))])
def test_it_cannot_read_files_of_the_host(mode: Mode, path: str):
    assert "Error" in attempt(mode, f"open({path!r}).read()")


def test_it_sees_nothing_of_our_environment(mode: Mode, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    code = """
import os
print(sorted(os.environ))
print(open(f"/proc/{os.getppid()}/environ").read())
"""
    said = attempt(mode, code)
    assert "sk-secret" not in said and "OPENAI_API_KEY" not in said and "Error" in said


def test_it_cannot_write_outside_its_folder(mode: Mode, tmp_path: Path):
    tmp_path.chmod(0o777)
    target = tmp_path / "left.txt"
    for path in (str(target), "/left.txt", "/tmp/agentlightning-left.txt", "/usr/left.txt", "/dev/shm/left"):
        assert "Error" in attempt(mode, f"open({path!r}, 'w').write('x')"), path
        assert not os.path.exists(path)


def test_it_cannot_become_root_or_make_namespaces(mode: Mode):
    assert "PermissionError" in attempt(mode, "import os\nos.setuid(0)") or os.getuid()
    code = "import ctypes\nlibc = ctypes.CDLL(None)\nassert libc.unshare(0x10000000) < 0\nprint('refused')"
    assert "refused" in attempt(mode, code)
    assert "refused" in attempt(mode, code.replace("libc.unshare(0x10000000)", "libc.mount(b'/', b'/usr', 0, 4096, 0)"))


def test_a_fork_bomb_is_stopped(mode: Mode):
    code = """
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except BlockingIOError as error:
    print("stopped after", made)
"""
    done = run(mode, code)
    assert done.stdout.startswith("stopped after") and int(done.stdout.split()[-1]) <= QUICK.max_processes
    assert done.seconds < 30  # and did not wait for the children


def test_a_bomb_whose_children_multiply_ends_with_the_time(mode: Mode):
    done = run(
        mode,
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        Limits(wall_seconds=1.0, max_processes=6),
    )
    assert done.ending == "timeout" and done.seconds < 30
    assert not running_with("os.fork()\n    except")


def test_a_memory_bomb_is_an_error_of_its_own(mode: Mode):
    assert "MemoryError" in attempt(mode, "held = bytearray(1 << 30)")


def test_an_infinite_loop_ends_with_its_cpu_time(mode: Mode):
    done = run(mode, "while True: pass", Limits(cpu_seconds=1, wall_seconds=20))
    assert done.ending == "killed" and "CPU time" in done.describe()


def test_a_program_that_sleeps_ends_with_the_wall_time(mode: Mode):
    done = run(mode, "import time; print('began', flush=True); time.sleep(60)", Limits(wall_seconds=2.0))
    assert (done.ending, done.exit_code, done.stdout) == ("timeout", None, "began\n") and done.seconds < 30
    assert "still running" in done.describe()


def test_a_program_that_never_stops_talking_ends_with_the_wall_time(mode: Mode):
    code = "import time\nwhile True:\n    print('.', flush=True)\n    time.sleep(0.001)"
    done = run(mode, code, Limits(wall_seconds=0.7))
    assert done.ending == "timeout" and done.seconds < 30


def test_it_cannot_leave_memory_behind(mode: Mode):
    code = "import ctypes\nassert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1666) < 0\nprint('refused')"
    assert "refused" in attempt(mode, code)


def test_it_cannot_write_to_its_standard_input(mode: Mode):
    assert "Error" in attempt(mode, "import os\nos.write(0, b'x')")


def test_endless_output_is_cut_and_ended(mode: Mode):
    done = run(mode, "while True: print('x' * 1000)", Limits(output_bytes=100_000, cpu_seconds=20))
    assert done.ending == "output" and len(done.stdout) == 100_000


def test_a_huge_file_is_refused(mode: Mode):
    said = attempt(mode, "open('big', 'wb').write(bytes(1 << 20))", Limits(file_bytes=1 << 16))
    assert "File too large" in said


def test_many_files_are_refused_where_the_scratch_is_in_memory(mode: Mode):
    code = "for i in range(100): open(f'f{i}', 'wb').write(bytes(1 << 16))"
    said = attempt(mode, code, Limits(scratch_bytes=1 << 20))
    assert said == "got out" if mode == "landlock" else "No space left" in said  # landlock does not claim this one


def test_it_cannot_end_or_see_whoever_started_it(mode: Mode):
    code = f"""
import os, signal
for victim in {{os.getppid(), {os.getpid()}, 1}}:
    try:
        os.kill(victim, signal.SIGKILL)
    except (PermissionError, ProcessLookupError):
        pass
print("still here")
"""
    done = run(mode, code)
    assert done.stdout == "still here\n" and done.ending == "exited"


def test_a_daemon_does_not_outlive_its_program(mode: Mode):
    mark = f"daemon-{os.getpid()}-{mode}"
    code = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import ctypes
        mark = {mark!r}
        for number in (0, 1, 2):
            os.close(number)
        os.execv({(python_of(mode) or os.path.realpath(sys.executable))!r}, [mark, "-c", "import time; time.sleep(60)"])
    os._exit(0)
os.wait()
time.sleep(0.3)
print("gone")
"""
    done = run(mode, code)
    assert done.stdout == "gone\n", done.stderr
    assert not running_with(mark)


def running_with(mark: str) -> list[str]:
    """Processes of this machine whose command line holds a text, after the kernel had a moment to end them."""
    deadline = time.monotonic() + 2
    while (found := _command_lines(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _command_lines(mark: str) -> list[str]:
    found: list[str] = []
    for name in os.listdir("/proc"):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace") if name.isdigit() else ""
        except OSError:
            continue
        if mark in line and "pytest" not in line:
            found.append(line)
    return found


def test_it_cannot_trace_or_read_another_process(mode: Mode):
    code = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(16, {os.getpid()}, 0, 0) < 0
print("refused")
"""
    assert "refused" in attempt(mode, code)


def test_nothing_is_left_in_the_temporary_folder(mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(0o755)
    run(mode, "import os; os.makedirs('a/b'); open('a/b/c', 'w').write('x'); os.chmod('a', 0)")
    assert list(tmp_path.iterdir()) == []


def test_health_says_which_walls_stand(monkeypatch: pytest.MonkeyPatch):
    said = health()
    assert ("own files, no network" in said) == (available_mode() == "namespaces")
    monkeypatch.setattr(sandbox, "_probe", lambda python: ("limits", {"namespaces": "unshare: not permitted"}))
    assert "ONLY" in health() and "unshare: not permitted" in health()


def test_without_walls_nothing_is_run_unless_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandbox, "_probe", lambda python: ("limits", {"landlock": "not there"}))
    program = Program(arguments=["-c", "print(1)"], python=python_of("limits"))
    with pytest.raises(ConfigError, match="allow_weak_isolation"):
        run_sandboxed(program)
    done = run_sandboxed(program, allow_weak=True)
    assert (done.mode, done.stdout) == ("limits", "1\n")


def test_a_wall_that_cannot_be_built_is_no_run_at_all():
    program = Program(arguments=["-c", "print(1)"], copies={"a": "/nowhere/at/all"})
    with pytest.raises(sandbox.SandboxRefused, match="/nowhere/at/all"):
        sandbox._run(available_mode(), program, Limits())
