"""What runs between us and a program nobody trusts: it builds the walls, starts the program, and cleans up after it.

A program of its own (`python -I -S sandbox_launcher.py spec.json`), with the standard library alone, because walls are
built in a fresh process and never in one that has threads. Three modes, chosen by `rewards/sandbox.py`:

namespaces  own root, network, process ids and users: no file of the host but Python's, nothing to connect to, nobody to
            signal; when the program ends the kernel ends all it started
landlock    for containers that allow no namespaces: Landlock fences files, seccomp refuses sockets and signals
limits      resource limits only

A wall that cannot be built is an OSError, told on the status pipe as `refused`; the program is then never started.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)

_NEW_NAMESPACES = (
    0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
)  # mnt cgroup uts ipc pid net
_NEW_USER = 0x10000000
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/lib32", "/bin")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_ATTR_READ_ONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_STRANGER = 65534
"""Who the program is inside: the user nobody, owner of nothing."""
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 22, 36, 38

# Numbers of system calls, by architecture; those from 424 on are the same on all.
_CALLS = {
    "x86_64": {
        "pivot_root": 155, "socket": 41, "clone": 56, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
        "memfd_create": 319, "bpf": 321, "userfaultfd": 323, "perf_event_open": 298, "keyctl": 250, "add_key": 248,
        "request_key": 249, "unshare": 272, "setns": 308, "mount": 165, "kill": 62, "tkill": 200, "tgkill": 234,
        "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240,
    },
    "aarch64": {
        "pivot_root": 41, "socket": 198, "clone": 220, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
        "memfd_create": 279, "bpf": 280, "userfaultfd": 282, "perf_event_open": 241, "keyctl": 219, "add_key": 217,
        "request_key": 218, "unshare": 97, "setns": 268, "mount": 40, "kill": 129, "tkill": 130, "tgkill": 131,
        "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180,
    },
}  # fmt: skip
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NEWER_CALLS = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "clone3": 435, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
}  # fmt: skip
_SIGNALS = {"kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"}
_EACCES, _EPERM, _ENOSYS = 13, 1, 38


def main(spec_path: str) -> None:
    """Run what the spec says; every outcome is told on the status pipe as one line of JSON."""
    with open(spec_path, encoding="utf-8") as file:
        spec: dict[str, Any] = json.load(file)
    os.set_inheritable(spec["status_fd"], False)
    try:
        {"namespaces": _in_namespaces, "landlock": _fenced, "limits": _fenced}[spec["mode"]](spec)
    except OSError as error:
        _tell(spec, refused=str(error))


def _tell(spec: dict[str, Any], **what: Any) -> None:
    os.write(spec["status_fd"], json.dumps(what).encode() + b"\n")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _prctl(option: int, *values: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _check(_LIBC.prctl(option, *padded), f"prctl {option}")


def _syscall(number: int, what: str, *arguments: Any) -> int:
    return _check(_LIBC.syscall(ctypes.c_long(number), *arguments), what)


# ── mode 1: namespaces ──


def _in_namespaces(spec: dict[str, Any]) -> None:
    """Our child is process 1 of the new world; when it ends, so does everything in there."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    user, group = os.getuid(), os.getgid()
    _check(_LIBC.unshare(_NEW_NAMESPACES | (_NEW_USER if user else 0)), "unshare")
    if user:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{_STRANGER} {user} 1")
        _write("/proc/self/gid_map", f"{_STRANGER} {group} 1")
    first = os.fork()
    if first == 0:
        _guarded(spec, _rule_the_world)
    os.waitpid(first, 0)


def _rule_the_world(spec: dict[str, Any]) -> None:
    """Process 1: walls first, then the program as another user, then wait for it and go, taking all others along."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    stranger = _build_root(spec)
    program = os.fork()
    if program == 0:
        _guarded(spec, lambda inner: _become_the_program(inner, stranger, hide_signals=False))
    while True:
        ended, status = os.wait()
        if ended == program:
            _tell(spec, ended=os.waitstatus_to_exitcode(status))
            return


def _build_root(spec: dict[str, Any]) -> int | None:
    """An empty root with Python's folders, read-only, and a scratch folder in memory. Who shall own the scratch."""
    root = spec["folder"] + "/root"
    os.mkdir(root)
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("none", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=256k,mode=755")
    for path in [*_SYSTEM_FOLDERS, *spec["readable"]]:
        _show(path, root)
    os.mkdir(root + "/dev")
    for device in _DEVICES:
        _write(root + device, "")
        _mount(device, root + device, None, _MS_BIND)
    os.mkdir(root + "/scratch")
    size = f"size={spec['limits']['scratch_bytes']},nr_inodes=4096,mode=755"
    _mount("none", root + "/scratch", "tmpfs", _MS_NOSUID | _MS_NODEV, size)
    stranger = _free_user() if os.getuid() == 0 else None
    _fill(spec, root + "/scratch", stranger)
    os.chdir(root)
    _syscall(_CALLS[platform.machine()]["pivot_root"], "pivot_root", b".", b".")
    _check(_LIBC.umount2(b".", 2), "leaving the old root")
    _set_attributes("/", _ATTR_READ_ONLY, is_recursive=False)
    os.chdir("/scratch")
    return stranger


def _show(path: str, root: str) -> None:
    """A folder of the host at the same place, read-only; system folders that are links stay links."""
    if os.path.lexists(root + path) or not os.path.exists(path):
        return
    if os.path.islink(path):
        os.symlink(os.readlink(path), root + path)
        return
    os.makedirs(root + path)
    _mount(path, root + path, None, _MS_BIND | _MS_REC)
    _set_attributes(root + path, _ATTR_READ_ONLY | _ATTR_NOSUID | _ATTR_NODEV, is_recursive=True)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    given = [None if text is None else text.encode() for text in (source, target, kind, data)]
    _check(_LIBC.mount(given[0], given[1], given[2], ctypes.c_ulong(flags), given[3]), f"mounting {target}")


def _set_attributes(path: str, attributes: int, *, is_recursive: bool) -> None:
    wanted = struct.pack("QQQQ", attributes, 0, 0, 0)
    arguments = (ctypes.c_int(-100), path.encode(), ctypes.c_uint(0x8000 if is_recursive else 0), wanted)
    _syscall(_NEWER_CALLS["mount_setattr"], f"making {path} read-only", *arguments, ctypes.c_size_t(len(wanted)))


# ── modes 2 and 3: in the host's world ──


def _fenced(spec: dict[str, Any]) -> None:
    """The program is our child, and what it leaves behind becomes ours: it is ended before we go."""
    is_linux = sys.platform == "linux"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if is_linux:
        _prctl(_PR_SET_SUBREAPER, 1)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    scratch = spec["folder"] + "/scratch"
    os.mkdir(scratch)
    stranger = _free_user() if os.getuid() == 0 else None
    _fill(spec, scratch, stranger)
    program = os.fork()
    if program == 0:
        os.chdir(scratch)
        _guarded(spec, lambda inner: _become_the_program(inner, stranger, hide_signals=True))
    try:
        while True:
            ended, status = os.wait()
            if ended == program:
                _tell(spec, ended=os.waitstatus_to_exitcode(status))
                return
    finally:
        _end_descendants(program)


def _end_descendants(program: int) -> None:
    """Kill until nobody is left; who is orphaned meanwhile becomes our child."""
    while True:
        for process in _descendants(os.getpid()) or [program]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.wait()
        except ChildProcessError:
            return


def _descendants(ancestor: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else []:
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue  # gone by now
        children.setdefault(parent, []).append(int(name))
    found, waiting = list[int](), [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


# ── in the process that becomes the program ──


def _become_the_program(spec: dict[str, Any], stranger: int | None, *, hide_signals: bool) -> None:
    if stranger is not None:
        os.setgroups([])
        os.setresgid(stranger, stranger, stranger)
        os.setresuid(stranger, stranger, stranger)
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _set_limits(spec["limits"], is_alone=stranger is not None or spec["mode"] == "namespaces")
    if spec["mode"] == "landlock":
        _fence_files(spec)
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.getcwd(), "TMPDIR": os.getcwd(), "LANG": "C.UTF-8"}
    if spec["mode"] != "limits":
        _refuse_calls(hide_signals)
    _tell(spec, started=True)
    os.execve(spec["program"][0], spec["program"], environment)


def _set_limits(limits: dict[str, int], *, is_alone: bool) -> None:
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_AS": limits["memory_bytes"],
        "RLIMIT_CPU": limits["cpu_seconds"],
        "RLIMIT_FSIZE": limits["file_bytes"],
        "RLIMIT_NOFILE": limits["max_open_files"],
        "RLIMIT_NPROC": limits["max_processes"] + (0 if is_alone else _processes_of_this_user()),
    }
    for name, value in wanted.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
            spared = 1 if name == "RLIMIT_CPU" and lowest != hard else 0  # for the signal that says which limit it was
            resource.setrlimit(kind, (lowest, lowest + spared))


def _processes_of_this_user() -> int:
    """Where the program shares our user, the limit counts our processes (and threads) with its own."""
    count = 0
    for name in os.listdir("/proc") if sys.platform == "linux" else []:
        try:
            is_ours = name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid()
            count += len(os.listdir(f"/proc/{name}/task")) if is_ours else 0
        except OSError:
            continue  # gone by now
    return count


def _fence_files(spec: dict[str, Any]) -> None:
    """Landlock: Python's folders can be read, the scratch folder written, TCP and signals to outsiders are refused."""
    version = _syscall(444, "landlock", None, ctypes.c_size_t(0), ctypes.c_uint(1))
    everything = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    fields = [everything] + ([3] if version >= 4 else []) + ([3] if version >= 6 else [])
    rules = struct.pack(f"{len(fields)}Q", *fields)
    ruleset = _syscall(444, "landlock", rules, ctypes.c_size_t(len(rules)), ctypes.c_uint(0))
    read, write = 1 | 4 | 8, 2 | 4
    allowed = dict.fromkeys([*_SYSTEM_FOLDERS, *spec["readable"]], read)
    allowed |= dict.fromkeys(_DEVICES, write) | {os.getcwd(): everything}
    for path, access in allowed.items():
        if not os.path.exists(path):
            continue
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", access, place)
        _syscall(445, f"landlock rule for {path}", ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0))
        os.close(place)
    _syscall(446, "landlock", ctypes.c_int(ruleset), ctypes.c_uint(0))
    os.close(ruleset)


def _refuse_calls(hide_signals: bool) -> None:
    """seccomp: no sockets (pairs aside), no new namespaces, no tracing, none of the calls exploits begin with."""
    machine = platform.machine()
    if machine not in _CALLS:
        raise OSError(f"there is no list of system calls for {machine}")
    refused = {name: _EACCES if name == "socket" else _EPERM for name in {**_CALLS[machine], **_NEWER_CALLS}}
    del refused["clone"]
    refused["clone3"] = _ENOSYS  # whose flags lie in memory, out of a filter's sight; callers then use clone
    if not hide_signals:
        refused = {name: error for name, error in refused.items() if name not in _SIGNALS}
    number_of = {**_CALLS[machine], **_NEWER_CALLS}
    load, equal, any_bit, at_least, answer = 0x20, 0x15, 0x45, 0x35, 0x06
    allow, errno, kill = 0x7FFF0000, 0x00050000, 0x80000000
    steps = [(load, 0, 0, 4), (equal, 1, 0, _AUDIT_ARCH[machine]), (answer, 0, 0, kill), (load, 0, 0, 0)]
    steps += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, kill)]  # the second table of x86
    for name, error in refused.items():
        steps += [(equal, 0, 1, number_of[name]), (answer, 0, 0, errno | error)]
    steps += [(equal, 0, 3, number_of["clone"]), (load, 0, 0, 16), (any_bit, 0, 1, _NEW_NAMESPACES | _NEW_USER)]
    steps += [(answer, 0, 0, errno | _EPERM), (answer, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
    _prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(program))


# ── small things ──


def _guarded(spec: dict[str, Any], work: Callable[[dict[str, Any]], None]) -> None:
    """Run a child's work; it never returns into its parent's code."""
    try:
        work(spec)
    except Exception as error:  # noqa: BLE001 - a process of its own: the pipe is its only way to say so
        _tell(spec, refused=f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _free_user() -> int:
    """A user nobody else is, so that its processes can be counted; `nobody` where this container has no such one."""
    if sys.platform != "linux":
        return _STRANGER
    wanted = 2_000_000_000 + int(os.readlink("/proc/self"))
    with open("/proc/self/uid_map", encoding="ascii") as file:
        ranges = [[int(word) for word in line.split()] for line in file]
    return wanted if any(first <= wanted < first + count for first, _, count in ranges) else _STRANGER


def _fill(spec: dict[str, Any], scratch: str, owner: int | None) -> None:
    for name, text in spec["files"].items():
        _write(os.path.join(scratch, name), text)
    for name, path in spec["copies"].items():
        shutil.copyfile(path, os.path.join(scratch, name))
    for name in ["", *os.listdir(scratch)]:
        if owner is not None:
            os.chown(os.path.join(scratch, name), owner, owner)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)


if __name__ == "__main__":
    main(sys.argv[1])
