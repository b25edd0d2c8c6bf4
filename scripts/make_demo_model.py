"""Make the demo's model again, from nothing: `python scripts/make_demo_model.py [FOLDER] [--seed N]`.

Two minutes on one core. Without a folder, the model in the package is replaced; its tests say whether the new one is
as good.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IN_PACKAGE = ROOT / "src" / "agentlightning" / "demo" / "sql" / "model"


def main() -> None:
    import torch

    sys.path.insert(0, str(ROOT))
    from scripts.demo_model.making import Recipe, make_model

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=IN_PACKAGE)
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    make_model(given.folder, Recipe(seed=given.seed))
    size = sum(path.stat().st_size for path in given.folder.iterdir())
    print(f"{given.folder}: {size / 1e6:.2f} MB, {time.process_time() - began:.0f} CPU-seconds")


if __name__ == "__main__":
    main()
