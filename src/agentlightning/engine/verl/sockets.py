"""A socket to listen on, at a port that was free."""

from __future__ import annotations

import socket

from agentlightning.errors import ConfigError


def bound(host: str) -> socket.socket:
    """Listening already. ConfigError for an address that is not this machine's."""
    listening = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    try:
        listening.bind((host, 0))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"engine.host: {host} is no address of this machine ({error.strerror}). Give the one at which the machines "
            "of the cluster reach it."
        ) from error
    listening.listen(1024)
    listening.setblocking(False)
    return listening
