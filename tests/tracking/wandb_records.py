"""Read back what wandb wrote to its own transaction log."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any


def transaction_log(folder: Path, run_id: str, *, kind: str = "offline-run") -> Path:
    (file,) = folder.glob(f"wandb/{kind}-*-{run_id}/*.wandb")
    return file


def inspect(file: Path, *options: str) -> str:
    from wandb.util import get_core_path

    # As `wandb leet inspect` calls it, without importing wandb once more.
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", *options]
    command += ["--run-file", str(file), str(file.parents[1])]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def records(file: Path) -> dict[str, list[dict[str, Any]]]:
    by_type = defaultdict(list)
    for line in inspect(file).splitlines():
        entry = json.loads(line)
        by_type[entry["type"]].append(entry[entry["type"]])
    return by_type


def rows(of: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row["item"].items() if not k.startswith("_")} for row in of["history"]]


def history(file: Path) -> list[dict[str, Any]]:
    return rows(records(file))


def state(file: Path) -> dict[str, Any]:
    return json.loads(inspect(file, "--summary"))
