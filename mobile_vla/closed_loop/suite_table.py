"""Print the closed-loop results: one line per suite, and the types of failure of its drives."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mobile_vla.closed_loop.failures import FAILURES

_HEADERS = ("closed loop", "success", "95 %", "hit", "wrong", "out", "time-out", "error", "path", "time")


def print_suites(metrics: Mapping[str, float | str], console: Console) -> None:
    """Print rates, means and failures of every suite in flat ``closed_loop/<suite>/...`` metrics."""
    suites = [key.split("/")[1] for key in metrics if key.endswith("/success_rate") and key.count("/") == 2]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for header in _HEADERS:
        table.add_column(header, justify="left" if header == _HEADERS[0] else "right", no_wrap=True)
    failures = []
    for suite in suites:
        prefix = f"closed_loop/{suite}/"
        values = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
        table.add_row(suite, *_cells(values))
        failures.append(f"{suite}, {values['episodes']} drives: {_failures(values)}")
    console.print(table)
    for line in failures:
        console.print(Text(line, style="dim"))


def _cells(values: Mapping[str, float | str]) -> list[str]:
    return [
        f"{values['success_rate']:.1%}",
        f"{values['success_low']:.0%} to {values['success_high']:.0%}",
        *(f"{values[f'{name}_rate']:.0%}" for name in ("collision", "wrong_target", "left_room", "timeout")),
        f"{values['final_error_m']:.2f} m",
        f"x{values['path_ratio']:.2f}" if "path_ratio" in values else "",
        f"{values['time_to_goal_s']:.1f} s" if "time_to_goal_s" in values else "",
    ]


def _failures(values: Mapping[str, float | str]) -> str:
    shares = {name: float(values[f"failure/{name}"]) for name in FAILURES}
    by_share = sorted((name for name in shares if shares[name]), key=lambda name: -shares[name])
    return ", ".join(f"{name.replace('_', ' ')} {shares[name]:.1%}" for name in by_share) or "no failure"
