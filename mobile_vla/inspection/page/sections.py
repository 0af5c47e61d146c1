"""The sections of the page, as HTML."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

import numpy as np
from PIL import Image

from mobile_vla.data.labels.grammars import task_of
from mobile_vla.data.labels.rules import clean_label
from mobile_vla.data.sources.contract import Recording
from mobile_vla.errors import DataError
from mobile_vla.evaluation.data_report import DataReport
from mobile_vla.inspection.contents import Contents, SignalRange
from mobile_vla.inspection.page.decoding import Pictures, encode_jpeg
from mobile_vla.inspection.page.histograms import histogram_of, histogram_svg, values_of
from mobile_vla.inspection.page.oddities import Finding, Place
from mobile_vla.inspection.page.pictures import EpisodePictures, in_base64
from mobile_vla.inspection.page.texts import html_text, listed_html, plain, section, shares_table
from mobile_vla.schema import NUM_PHASES, Episode
from mobile_vla.text import counted

_MAX_HISTOGRAMS = 240
MAX_FEW = 4
"""Most signals whose histograms are drawn larger; player.js has the same number for the charts."""

_MAX_PLACES = 6
"""Places of one finding that have a button."""

_LENGTH_BINS = 12


def numbers_html(contents: Contents, report: DataReport, *, data_hash: str) -> str:
    """Return how much there is: episodes, frames, minutes, cameras, rate, windows."""
    lengths = contents.lengths
    rates = " and ".join(f"{rate:g}" for rate in contents.rates_hz[:3])
    parts = ", ".join(f"{part} {count}" for part, count in report.num_episodes.items() if count)
    rows = [
        ("Format", contents.format),
        ("Episodes", f"{sum(report.num_episodes.values())} ({parts})"),
        (
            "Frames",
            f"{report.num_frames:,}; {lengths[0]} to {lengths[-1]} an episode, median {lengths[len(lengths) // 2]}",
        ),
        ("Rate", f"{rates} frames a second" if rates else "not recorded"),
        *([("Duration", f"{contents.duration_s / 60:.1f} minutes")] if contents.duration_s is not None else []),
        (
            "Cameras",
            "; ".join(
                f"{camera.name}, {camera.columns} x {camera.rows}{'' if is_used else ' (not used)'}"
                for camera, is_used in contents.cameras
            ),
        ),
        ("Signals", f"{counted(len(contents.actions), 'action')}, {counted(len(contents.state), 'state signal')}"),
        ("Windows", ", ".join(f"{part} {count:,}" for part, count in report.num_windows.items())),
        ("Data hash", data_hash),
    ]
    items = "".join(f"<dt>{name}</dt><dd>{html_text(text)}</dd>" for name, text in rows)
    return f'<dl class="numbers">{items}</dl>'


def odd_html(
    findings: Sequence[Finding], warnings: Sequence[str], *, looked_at: str, playable: Mapping[str, int]
) -> str:
    """Return what is odd; frames of episodes that can be played get a button that shows them."""
    items = "".join(_finding(finding, playable) for finding in findings)
    nothing = '<p class="absent">Nothing odd was found in the pictures, and no episode is a copy.</p>'
    more = f"<h3>Warnings of inspect</h3>{listed_html(warnings)}" if warnings else ""
    return section("odd", "What is odd", looked_at, (items or nothing) + more)


def _finding(finding: Finding, playable: Mapping[str, int]) -> str:
    places = "".join(_place(place, playable) for place in _spread(finding.places))
    more = len(finding.places) - _MAX_PLACES
    rest = f'<span class="more">and {more} more</span>' if more > 0 else ""
    row = f'<p class="places">{places}{rest}</p>' if places else ""
    return (
        f'<article class="finding"><h3>{html_text(finding.title)}</h3><p>{html_text(finding.text, limit=1000)}</p>'
        f"{row}</article>"
    )


def _spread(places: Sequence[Place]) -> list[Place]:
    if len(places) <= _MAX_PLACES:
        return list(places)
    return [places[step * len(places) // _MAX_PLACES] for step in range(_MAX_PLACES)]


def _place(place: Place, playable: Mapping[str, int]) -> str:
    text = f"{html_text(place.episode, limit=60)}, {html_text(place.camera, limit=30)}, frame {place.frame}"
    if place.episode not in playable:
        return f"<span>{text}</span>"
    return f'<button type="button" data-episode="{playable[place.episode]}" data-frame="{place.frame}">{text}</button>'


def scenario_beside(episode: Episode) -> str:
    """Return the scenario as it is shown beside the instruction; empty where it was made of the instruction."""
    return "" if episode.scenario == clean_label(episode.instruction) else episode.scenario


def sheet_html(
    episodes: Sequence[Episode], pictures: Mapping[str, EpisodePictures], *, num_all: int, playable: Mapping[str, int]
) -> str:
    """Return the contact sheet: first, middle and last frame of ``episodes``, by camera."""
    cards = "".join(_card(episode, pictures[episode.name], playable) for episode in episodes)
    caption = (
        f"First, middle and last frame of {len(episodes)} of {counted(num_all, 'episode')}, of every scenario as far "
        "as there is room. Are the colours right, does the camera see what the instruction speaks of, does the last "
        "frame show the task done?"
    )
    return section("sheet", "Contact sheet", caption, f'<div class="sheet">{cards}</div>')


def _card(episode: Episode, pictures: EpisodePictures, playable: Mapping[str, int]) -> str:
    rows = "".join(
        f'<p class="absent">{html_text(camera)}: {html_text(str(found))}</p>'
        if isinstance(found, DataError)
        else _card_row(episode, camera, found, has_several=len(pictures.cameras) > 1)
        for camera, found in pictures.cameras.items()
    )
    play = (
        f'<button type="button" data-episode="{playable[episode.name]}" data-frame="0">Play</button>'
        if episode.name in playable
        else ""
    )
    scenario = f"<b>{html_text(said, limit=120)}</b> " if (said := scenario_beside(episode)) else ""
    return (
        f'<figure class="card">{rows}<figcaption>{scenario}<span class="words">{html_text(episode.instruction)}</span>'
        f'<span class="name">{html_text(episode.name, limit=120)} · {counted(episode.num_frames, "frame")} {play}'
        "</span>"
        "</figcaption></figure>"
    )


def _card_row(episode: Episode, camera: str, pictures: Pictures, *, has_several: bool) -> str:
    name = plain(episode.name, limit=120)
    images = "".join(
        f'<img loading="lazy" src="data:image/jpeg;base64,{in_base64(picture)}" '
        f'alt="{escape(name)}, {escape(plain(camera, limit=60))}, frame {row}">'
        for picture, row in zip(pictures.sheet, pictures.sheet_rows, strict=True)
    )
    label = f'<span class="camera">{html_text(camera, limit=60)}</span>' if has_several else ""
    return f'<div class="three">{images}</div>{label}'


def orders_html(episodes: Sequence[Episode], pictures: Mapping[str, EpisodePictures], *, is_stated: bool) -> str:
    """Return one frame of each camera twice: as it is read, and with red and blue swapped."""
    rows: dict[str, str] = {}
    for episode in episodes:
        for camera, found in pictures[episode.name].decoded.items():
            rows.setdefault(camera, _both_orders(camera, found.sheet[len(found.sheet) // 2]))
    remedy = (
        "the encoding that these images state is wrong: mend it where they are written"
        if is_stated
        else "set dataset.channel_order=bgr (or rgb, where bgr is set)"
    )
    caption = (
        "Many programs swap red and blue when they write images, and no statistic tells it for sure. So look: if the "
        f"second picture is the natural one, {remedy}."
    )
    return section("colours", "Red and blue", caption, f'<div class="orders">{"".join(rows.values())}</div>')


def _both_orders(camera: str, picture: bytes) -> str:
    swapped = encode_jpeg(Image.fromarray(np.ascontiguousarray(np.asarray(Image.open(io.BytesIO(picture)))[..., ::-1])))
    name = escape(plain(camera, limit=60))
    images = "".join(
        f'<figure><img src="data:image/jpeg;base64,{in_base64(content)}" alt="{name}, {what}">'
        f"<figcaption>{name}, {what}</figcaption></figure>"
        for content, what in ((picture, "as it is read"), (swapped, "red and blue swapped"))
    )
    return f'<div class="pair">{images}</div>'


def histograms_html(contents: Contents, recordings: Sequence[Recording]) -> str:
    """Return a histogram of every signal that changes, actions and state apart."""
    blocks = []
    left = _MAX_HISTOGRAMS
    for title, entries, of_state in (("Actions", contents.actions, False), ("State", contents.state, True)):
        changing = [entry for entry in entries if entry.num_values > 1]
        shown = changing[:left]
        left -= len(shown)
        if not shown:
            continue
        items = "".join(_histogram(entry, recordings, of_state=of_state) for entry in shown)
        rest = f'<p class="note">and {len(changing) - len(shown)} more</p>' if len(changing) > len(shown) else ""
        blocks.append(
            f'<h3>{title}</h3><div class="histograms"{" data-few" * (len(shown) <= MAX_FEW)}>{items}</div>{rest}'
        )
    caption = (
        "Values of all frames of all episodes; signals that never change are left out. A range is cut where a few "
        "values are far from all others, and those are counted below it."
    )
    return section("histograms", "Values of the signals", caption, "".join(blocks))


def _histogram(entry: SignalRange, recordings: Sequence[Recording], *, of_state: bool) -> str:
    signal = entry.signal
    found = histogram_of(values_of(recordings, signal.name, of_state=of_state), entry)
    unit = f" {signal.unit}" if signal.unit else ""
    label = plain(f"histogram of {signal.name}: {entry.smallest:.4g} to {entry.largest:.4g}{unit}", limit=160)
    outside = [
        f"{number:,} {where} (to {end:.4g})"
        for number, where, end in (
            (found.num_below, "below", entry.smallest),
            (found.num_above, "above", entry.largest),
        )
        if number
    ]
    notes = f'<p class="note">{"; ".join(outside)}</p>' if outside else ""
    details = ", ".join(filter(None, (signal.unit, None if signal.kind == "unknown" else signal.kind)))
    return (
        f"<figure><figcaption><b>{html_text(signal.name, limit=60)}</b> {html_text(details)}</figcaption>"
        f'{histogram_svg(found, escape(label))}<div class="ends"><span>{found.low:.4g}</span><span>{found.high:.4g}'
        f"</span></div>{notes}</figure>"
    )


def balance_html(contents: Contents, report: DataReport, episodes: Sequence[Episode], *, num_train_frames: int) -> str:
    """Return how often each scenario, task, instruction, length, phase and kind of action occurs."""
    shortest, longest = contents.lengths[0], contents.lengths[-1]
    edges = np.unique(np.linspace(shortest, longest + 1, _LENGTH_BINS + 1).astype(int))
    counts, _ = np.histogram(contents.lengths, edges)
    names = [f"{low} to {high - 1}" if high - low > 1 else str(low) for low, high in pairwise(edges.tolist())]
    by_length = dict(zip(names, counts.tolist(), strict=True))
    num_windows = report.num_windows["train"]
    phases = {
        f"{10 * phase} to {10 * phase + 10} %": round(share * num_windows)
        for phase, share in enumerate(report.phase_shares[:NUM_PHASES])
    }
    by_action = {name: round(share * num_train_frames) for name, share in report.action_shares.items()}
    by_signal = {name: round(share * num_train_frames) for name, share in report.moving_shares.items()}
    by_value = {
        f"{name} {value}": round(share * num_train_frames)
        for name, shares in report.binary_shares.items()
        for value, share in shares.items()
    }
    instructions = Counter(episode.instruction for episode in episodes)
    beside = [scenario_beside(episode) for episode in episodes]
    tasks = {task_of(episode.fields) for episode in episodes}
    has_tasks = len(tasks) > 1 and not tasks <= {clean_label(text) for text in instructions}
    tables = [
        *([shares_table("Episodes by scenario", report.episodes_by_scenario)] if any(beside) else []),
        *([shares_table("Episodes by task", report.episodes_by_task)] if has_tasks else []),
        shares_table("Episodes by instruction", dict(instructions.most_common())),
        shares_table("Episodes by number of frames", by_length),
        shares_table("Train windows by part of the episode", phases),
        *([shares_table("Train frames by action", by_action)] if by_action else []),
        *(
            shares_table(caption, counts, whole=num_train_frames)
            for caption, counts in (
                ("Train frames in which an action moves", by_signal),
                ("Train frames by value of a binary action", by_value),
            )
            if counts
        ),
    ]
    return section(
        "balance", "Balance", "What is rare here is learnt badly.", f'<div class="shares">{"".join(tables)}</div>'
    )
