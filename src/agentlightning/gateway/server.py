"""The gateway while it runs: a server in a thread of its own, on the loopback address unless asked otherwise.

with Gateway(served=Served(policy), providers=providers_of()) as gateway:
    openai.OpenAI(base_url=gateway.base_url, api_key=gateway.token)
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import threading

import uvicorn

from agentlightning.errors import ConfigError, ModelError
from agentlightning.gateway.app import GatewayApp
from agentlightning.gateway.passages import OpenPassage
from agentlightning.gateway.providers import Providers
from agentlightning.gateway.served import Served
from agentlightning.interception.scope import Scope, entered
from agentlightning.interception.transports import install

_START_SECONDS = 10
_STOP_SECONDS = 5


class Gateway:
    """Serves `served` (None: rollouts only) on `host` and `port` (0: a free one). Start it, stop it, or use `with`.

    Whoever calls must know `token`; one is made up when none is given, except for addresses other machines can reach:
    there it is a ConfigError not to give one.
    """

    def __init__(
        self,
        *,
        served: Served | None = None,
        providers: Providers | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
    ) -> None:
        if not token and not is_loopback(host):
            raise ConfigError(
                f"{host} can be reached from other machines, so this endpoint needs a token that you choose: "
                "give one with --token (callers send it as their API key), or listen on 127.0.0.1."
            )
        self.token = token or secrets.token_urlsafe(24)
        self._app = GatewayApp(served, self.token, providers)
        self._host, self._port = host, port
        self._server: uvicorn.Server | None = None
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """`http://HOST:PORT`; a ModelError while it does not run."""
        if self._socket is None:
            raise ModelError("the gateway is not running. Use it as `with Gateway() as gateway:`.")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._socket.getsockname()[1]}"

    @property
    def base_url(self) -> str:
        """What OpenAI's SDKs call base_url."""
        return f"{self.url}/v1"

    def open(self, scope: Scope, providers: Providers | None = None) -> OpenPassage:
        """Let programs in other processes take part in a scope; its calls go to `providers` (the environment's)."""
        return self._app.passages.open(scope, self.url, providers)

    def start(self) -> Gateway:
        """Begin to listen; gives itself back once it does."""
        install()
        self._socket = bound(self._host, self._port)
        config = uvicorn.Config(
            self._app.asgi(),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        self._server = server = uvicorn.Server(config)
        with entered(None):  # it serves many scopes, and belongs to none
            self._thread = threading.Thread(
                target=server.run, kwargs={"sockets": [self._socket]}, name="agentlightning-gateway", daemon=True
            )
            self._thread.start()
        for _ in range(_START_SECONDS * 200):
            if server.started:
                return self
            self._thread.join(0.005)
        self.stop()
        raise ModelError(f"the gateway did not start within {_START_SECONDS} seconds.")

    def stop(self) -> None:
        """Stop listening; answers under way have a second to end. Calling again is fine."""
        server, thread, listening = self._server, self._thread, self._socket
        self._server = self._thread = self._socket = None
        if server is not None and thread is not None and listening is not None:
            server.should_exit = True
            thread.join(_STOP_SECONDS)
            listening.close()

    def wait(self) -> None:
        """Until it is stopped, or interrupted."""
        while (thread := self._thread) is not None and thread.is_alive():
            thread.join(1)

    def __enter__(self) -> Gateway:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def is_loopback(host: str) -> bool:
    """Can only this machine reach it?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bound(host: str, port: int) -> socket.socket:
    """A listening socket; ConfigError when the address cannot be used."""
    # With the protocol named, asyncio switches Nagle's algorithm off; without, every answer waits 40 ms for an ACK.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(f"{host} port {port} cannot be used ({error.strerror}). Take another, or port 0.") from error
    bound.listen(128)
    return bound
