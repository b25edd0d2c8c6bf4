"""Installing covers what was imported and built before, and what comes later, and costs nothing twice."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest
from tests.interception.rollout import QUESTION, rollout
from tests.servers import FakeOpenAI

from agentlightning.interception.transports import install

LIBRARIES = ("httpx", "httpx2", "requests", "aiohttp")
PATCHED = {
    "httpx": "httpx.Client.send, httpx.AsyncClient.send",
    "httpx2": "httpx2.Client.send, httpx2.AsyncClient.send",
    "requests": "requests.Session.send, requests.Session.send",
    "aiohttp": "aiohttp.ClientSession._request, aiohttp.ClientSession._request",
}


def ran(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_library_is_patched_whenever_it_is_imported(library: str, is_first: bool) -> None:
    load, ready = f"import {library}", "from agentlightning.interception.transports import install; install()"
    program = "\n".join([*((load, ready) if is_first else (ready, load)), f"send, other = {PATCHED[library]}"])
    assert ran(program + "\nprint(all('agentlightning' in f.__code__.co_filename for f in (send, other)))") == "True"


def test_installing_imports_no_library() -> None:
    program = (
        "import sys\nfrom agentlightning.interception.transports import install\ninstall()\n"
        f"print([name for name in {LIBRARIES} if name in sys.modules])"
    )
    assert ran(program) == "[]"


def test_installing_twice_is_installing_once() -> None:
    before = httpx.Client.send
    install()
    assert httpx.Client.send is before


def test_a_client_built_before_is_covered() -> None:
    program = (
        "import httpx\n"
        "client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={'choices': [{}]})))\n"
        "from agentlightning.interception.recorder import Recorder\n"
        "from agentlightning.interception.scope import Scope, entered\n"
        "from agentlightning.interception.transports import install\n"
        "install()\n"
        "recorder = Recorder()\n"
        "with entered(Scope('a', recorder=recorder)):\n"
        "    client.post('http://h/v1/chat/completions', json={'messages': []})\n"
        "print([step.status for step in recorder.steps()])"
    )
    assert ran(program) == "[200]"


def test_a_subclass_with_a_send_of_its_own_is_covered() -> None:
    class Logged(httpx.Client):
        def send(self, request: httpx.Request, **options: object) -> httpx.Response:
            logged.append(str(request.url))
            return super().send(request, **options)  # type: ignore[arg-type]

    logged: list[str] = []
    with FakeOpenAI() as server, rollout() as recorder, Logged(verify=False) as client:
        client.post(f"{server.base_url}/chat/completions", json=QUESTION)
    assert len(logged) == len(recorder.steps()) == 1


def test_a_request_may_be_sent_again_and_is_steered_again() -> None:
    from tests.interception.test_steering import POLICY

    with FakeOpenAI() as server, rollout(policy=POLICY) as recorder, httpx.Client(verify=False) as client:
        request = client.build_request("POST", f"{server.base_url}/chat/completions", json=QUESTION)
        body, headers = request.content, dict(request.headers)
        for _ in range(2):
            client.send(request)
        assert (request.content, dict(request.headers)) == (body, headers)
    assert [step.steered_sites for step in recorder.steps()] == [["s1"], ["s1"]]
