"""The contents of a data set on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mobile_vla.inspection.contents import Contents, RecordedSplit, ScenarioChoice, SignalRange
from mobile_vla.inspection.first_comparison import BASELINE, WorthTrying, num_seeds
from mobile_vla.inspection.time_estimate import TimeEstimate
from mobile_vla.process.typed_commands import typed
from mobile_vla.text import in_lines

_MAX_SIGNALS = 40


def print_contents(contents: Contents, console: Console) -> None:
    """Print what was recognised, the cameras, lengths and rate, and the signals with their ranges."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    grid.add_row("format", contents.format)
    grid.add_row("length", _lengths(contents))
    cameras = [
        f"{camera.name} {camera.columns}x{camera.rows}{'' if is_used else ' (not used)'}"
        for camera, is_used in contents.cameras
    ]
    grid.add_row("cameras", Text(", ".join(cameras)))
    for split in contents.splits:
        grid.add_row("split", Text(_split_line(split)))
    if not contents.states_channel_order:
        # An ALOHA recorder that gives OpenCV an RGB image to compress writes a JPEG with red and blue swapped.
        grid.add_row(
            "colours", "read as RGB or as dataset.channel_order says; inspect --html shows if they are swapped"
        )
    parts: list[object] = [Text("What is recorded", style="bold underline"), grid]
    for title, ranges in (("action", contents.actions), ("state", contents.state)):
        if ranges:
            parts.append(_signal_table(title, ranges))
    console.print(Group(*parts))  # pyright: ignore[reportArgumentType]
    for split in contents.splits:
        if split.override is not None:
            print_entry(
                f"This keeps the held-out part of '{split.field}' out of train and val and measures it as unseen/...; "
                "val is still drawn from the other episodes:",
                console,
            )
            print_command([split.override], console)


def _split_line(split: RecordedSplit) -> str:
    parts = ", ".join(f"{part} {count}" for part, count in list(split.parts.items())[:8])
    more = f", and {len(split.parts) - 8} more" if len(split.parts) > 8 else ""
    return f"recorded as {split.field}: {parts}{more} episodes. It is used only where dataset.unseen names a part"


def _lengths(contents: Contents) -> str:
    lengths = contents.lengths
    middle = lengths[len(lengths) // 2]
    text = f"{lengths[0]} to {lengths[-1]} frames, half of the episodes at most {middle}"
    if not contents.rates_hz:
        return f"{text}; no frame rate is recorded"
    rates = " and ".join(f"{rate:g}" for rate in contents.rates_hz[:3])
    total = "" if contents.duration_s is None else f", {contents.duration_s / 60:.1f} minutes in all"
    return f"{text}; {rates} frames a second{total}"


def _signal_table(title: str, ranges: Sequence[SignalRange]) -> Group:
    shown = ranges[:_MAX_SIGNALS]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(title, no_wrap=True)
    # What nobody said of any signal would be a column of question marks.
    details = {
        "unit": [entry.signal.unit for entry in shown],
        "kind": [None if entry.signal.kind == "unknown" else entry.signal.kind for entry in shown],
        "rest": [None if entry.signal.rest is None else f"{entry.signal.rest:g}" for entry in shown],
        "mirror": [{None: None, True: "flips", False: "stays"}[entry.signal.flips] for entry in shown],
    }
    known = {heading: texts for heading, texts in details.items() if any(text is not None for text in texts)}
    for heading in ("smallest", "largest", *known):
        table.add_column(heading, justify="left" if heading in known else "right", no_wrap=True)
    for index, entry in enumerate(shown):
        table.add_row(
            Text(entry.signal.name),
            f"{entry.smallest:.4g}",
            f"{entry.largest:.4g}",
            *(Text(texts[index] or "?") for texts in known.values()),
            style=None if entry.is_used else "dim",
        )
    if len(ranges) > _MAX_SIGNALS:
        table.add_row(f"and {len(ranges) - _MAX_SIGNALS} more")
    unsaid = [heading for heading in details if heading not in known]
    note = f"not recorded: {', '.join(unsaid)} (dataset.signals states them)" if unsaid else ""
    return Group(table, Text(note, style="dim")) if note else Group(table)


def print_choices(choices: Sequence[ScenarioChoice], console: Console) -> None:
    """Print what each way to tell scenarios apart gives, with its overrides; nothing where there is no other way."""
    others = [choice for choice in choices if not choice.is_current]
    if not others:
        return
    console.print(Text("Other scenarios that these episodes could have (add to the command)", style="bold underline"))
    for choice in others:
        listed = list(choice.scenarios.items())
        shown = ", ".join(f"{name} {count}" for name, count in listed[:6])
        more = f", and {len(listed) - 6} more" if len(listed) > 6 else ""
        print_command(choice.overrides, console)
        print_entry(f"{len(listed)} scenarios: {shown}{more}", console, indent=4)


def print_first_comparison(
    worth: WorthTrying, estimate: TimeEstimate | None, *, command: Sequence[str], console: Console
) -> None:
    """Print the samplers to compare first, each with its question, the command that compares them, and its time."""
    console.print(Text("A first comparison", style="bold underline"))
    for name, question in worth.questions.items():
        print_entry(f"{name}: {question}", console)
    for name, reason in worth.left_out.items():
        print_entry(f"not {name}: it {reason}", console, style="dim")
    print_command(command, console, style="bold")
    seeds = num_seeds()
    num_runs = seeds * (1 + len(worth.questions))
    said = f"{1 + len(worth.questions)} samplers (with {BASELINE}) x {seeds} seeds"
    print_entry(f"{said}: {estimate.sentence(num_runs) if estimate else 'time not estimated'}", console)


def print_entry(text: str, console: Console, *, indent: int = 2, style: str = "") -> None:
    """Print ``text`` in lines that fit the terminal, broken between words."""
    console.print(Text(in_lines(text, width=console.width, indent=indent), style=style), soft_wrap=True)


def print_command(words: Sequence[str], console: Console, *, style: str = "") -> None:
    """Print ``words`` as they are typed into a shell, in lines that can be pasted together."""
    console.print(Text(typed(words, width=max(console.width, 40)), style=style), soft_wrap=True)
