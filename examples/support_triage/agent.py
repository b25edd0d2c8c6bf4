"""Sorts the support tickets of a web shop into queues, with a language model that can look up orders."""

import csv
import datetime
import functools
import json
import os
import threading
from pathlib import Path
from typing import Any

from openai import OpenAI

SHOP = "Nordlicht Home"
MAX_TURNS = 4

with Path(__file__).with_name("orders.csv").open(encoding="utf-8", newline="") as file:
    ORDERS = {row["order_id"]: row for row in csv.DictReader(file)}

SYSTEM = (
    "You are the support assistant of {shop}. Today is {date}. "
    "Decide which queue a ticket belongs to: billing, shipping, technical, account, returns, escalation."
)

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "lookup_order",
            "description": "Look up an order's status",
            "parameters": {
                "type": "object",
                "properties": {"order_id": {"type": "string"}},
                "required": ["order_id"],
            },
        },
    }
]


@functools.cache
def client() -> OpenAI:
    return OpenAI()


one_at_a_time = threading.Lock()  # so that many tickets at once still share one client


def lookup_order(order_id: str) -> dict[str, str]:
    return ORDERS.get(order_id) or {"error": f"no order {order_id}"}


def triage(ticket: str) -> str:
    messages: list[Any] = [
        {"role": "system", "content": SYSTEM.format(shop=SHOP, date=datetime.date.today().isoformat())},
        {"role": "user", "content": ticket},
    ]
    with one_at_a_time:
        openai = client()
    for _ in range(MAX_TURNS):
        response = openai.chat.completions.create(
            model=os.environ.get("DEMO_MODEL", "gpt-4o-mini"), messages=messages, tools=TOOLS
        )
        message = response.choices[0].message
        if not message.tool_calls:
            return (message.content or "").strip()
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            if call.type == "function":
                result = lookup_order(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)})
    return ""
