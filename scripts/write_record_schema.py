"""Write the JSON Schema of every record kind to docs/schema. Run after changing a noun that is stored."""

from __future__ import annotations

import json
from pathlib import Path

from agentlightning.store.schema import record_schemas

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schema"

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, schema in record_schemas().items():
        text = json.dumps(schema, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
