"""The simulated worlds live with the benchmarks, which are no package of ours: make them importable from here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
