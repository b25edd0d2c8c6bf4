"""An MCP server with one tool, as a program; with the interface of mcp 1 and of mcp 2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def server() -> Any:
    try:
        from mcp.server.fastmcp import FastMCP
    except ImportError:
        from mcp.server import MCPServer

        return MCPServer("books")
    return FastMCP("books", log_level="ERROR")


books = server()


@books.tool()
def lookup(word: str) -> str:
    """Look a word up."""
    with Path(sys.argv[1]).open("a") as log:
        log.write(f"{word}\n")
    return f"meaning of {word}"


books.run()
