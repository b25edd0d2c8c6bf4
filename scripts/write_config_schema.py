"""Write the JSON Schema of the configuration into the package, where editors find it. Run after changing a setting."""

from __future__ import annotations

import json
from pathlib import Path

from agentlightning.trainer.config import config_schema

SCHEMA = Path(__file__).resolve().parent.parent / "src" / "agentlightning" / "trainer" / "config.schema.json"

if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
