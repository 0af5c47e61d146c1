"""Assemble the data page: one HTML file that contains its pictures and loads no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from mobile_vla.data.dataset import Dataset, OpenDataset, Scan
from mobile_vla.data.findings.problems import summarise_problems
from mobile_vla.data.sources.contract import Recording
from mobile_vla.errors import DataError
from mobile_vla.evaluation.data_report import DataReport
from mobile_vla.html_pages.document import asset, html_document
from mobile_vla.inspection.contents import Contents
from mobile_vla.inspection.page.choice import MAX_PLAYABLE, chosen_for_page
from mobile_vla.inspection.page.decoding import looks_of
from mobile_vla.inspection.page.oddities import LooksByEpisode, copies, odd_pictures, odd_states
from mobile_vla.inspection.page.pictures import EpisodePictures, decode_episodes, in_base64
from mobile_vla.inspection.page.sections import (
    balance_html,
    histograms_html,
    numbers_html,
    odd_html,
    orders_html,
    scenario_beside,
    sheet_html,
)
from mobile_vla.inspection.page.signals import Charts, charts_of, lines_of
from mobile_vla.inspection.page.texts import html_text, plain
from mobile_vla.process.cores import num_processes
from mobile_vla.schema import Episode
from mobile_vla.storage.disk import write_atomically
from mobile_vla.text import counted

_RATE_HZ = 10.0
"""Frames a second at which an episode is played that has no rate."""


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """All that ``inspect`` knows of a data set. ``warnings`` are those that it prints."""

    title: str
    dataset: Dataset
    scan: Scan
    data: OpenDataset
    contents: Contents
    report: DataReport
    warnings: Sequence[str]


def write_data_page(inspected: Inspected, path: Path) -> None:
    """Write the page to ``path``. Only the episodes that it shows are decoded, and only as far as it shows them."""
    scan, data = inspected.scan, inspected.data
    episodes = list(data.episodes.values())
    shown = chosen_for_page(episodes, scan.recordings)
    pictures = decode_episodes(
        shown,
        scan.recordings,
        scan.source,
        num_playable=MAX_PLAYABLE,
        is_bgr=inspected.dataset.channel_order == "bgr",
        num_workers=num_processes(inspected.dataset.num_workers),
    )
    played = [episode for episode in shown if pictures[episode.name].strip_rows and pictures[episode.name].decoded]
    playable = {episode.name: index for index, episode in enumerate(played)}
    recordings = [scan.recordings[episode.name] for episode in episodes]
    looks, looked_at = _looks(data, pictures)
    findings = [*odd_pictures(looks, data.episodes), *copies(scan, episodes)]
    charts = charts_of(inspected.contents)
    body = Template(_part("page.html")).substitute(
        title=html_text(inspected.title),
        headline=html_text(_headline(inspected)),
        numbers=numbers_html(inspected.contents, inspected.report, data_hash=data.data_hash),
        problems=_problems_html(data.problems),
        odd=odd_html(
            findings, [*inspected.warnings, *odd_states(scan, episodes)], looked_at=looked_at, playable=playable
        ),
        sheet=sheet_html(shown, pictures, num_all=len(episodes), playable=playable),
        options="".join(_option(index, episode) for index, episode in enumerate(played)),
        key=_key(charts),
        player_notes=_player_notes(charts, played, pictures, scan.recordings),
        orders=orders_html(shown, pictures, is_stated=scan.source.states_channel_order),
        histograms=histograms_html(inspected.contents, recordings),
        balance=balance_html(
            inspected.contents,
            inspected.report,
            episodes,
            num_train_frames=sum(data.episodes[name].num_frames for name in data.split.train),
        ),
    )
    page = html_document(
        title=plain(inspected.title),
        style=_part("page.css"),
        body=body,
        data={
            "charts": charts.to_json(),
            "episodes": [
                _playable(episode, scan.recordings[episode.name], pictures[episode.name], charts, len(played))
                for episode in played
            ],
        },
        scripts=[_part("player.js")],
    )
    write_atomically(path, page)


def _looks(data: OpenDataset, pictures: Mapping[str, EpisodePictures]) -> tuple[LooksByEpisode, str]:
    """Return what the frames look like, of all frames where all are decoded, and a sentence that says of how many."""
    num_all = sum(episode.num_frames for episode in data.episodes.values())
    if data.frames.cameras:
        looks = {
            name: {
                camera: looks_of(images_FYXC[data.frames.first_row[name] :][: episode.num_frames])
                for camera, images_FYXC in data.frames.cameras.items()
            }
            for name, episode in data.episodes.items()
        }
        return looks, f"All {num_all:,} frames were looked at, in the size that a policy gets."
    looks = {name: found.looks for name, found in pictures.items() if found.looks}
    num_seen = sum(max(map(len, cameras.values())) for cameras in looks.values())
    if num_seen == num_all:
        return looks, f"All {num_all:,} frames were looked at."
    return looks, (
        f"{num_seen:,} of {num_all:,} frames were decoded for this page and looked at: those of "
        f"{counted(len(looks), 'episode')}. With --pixels all are."
    )


def _headline(inspected: Inspected) -> str:
    report = inspected.report
    num_episodes = sum(report.num_episodes.values())
    cameras = counted(len(inspected.contents.cameras), "camera")
    parts = [counted(num_episodes, "episode"), f"{report.num_frames:,} frames", cameras]
    parts.append(counted(len(inspected.contents.actions), "action"))
    return " · ".join([inspected.contents.format, *parts])


def _problems_html(problems: Sequence[DataError]) -> str:
    if not problems:
        return ""
    return f'<div class="problems" role="note">{_lines(summarise_problems(problems))}</div>'


def _lines(text: str) -> str:
    lines = text.splitlines()
    more = [f"... and {len(lines) - 20} more lines"] if len(lines) > 20 else []
    return "".join(f"<p>{html_text(line, limit=600)}</p>" for line in [*lines[:20], *more])


def _option(index: int, episode: Episode) -> str:
    text = escape(plain(f"{episode.scenario} · {episode.name}", limit=100))
    return f'<option value="{index}">{text}</option>'


def _key(charts: Charts) -> str:
    kinds = {
        "action": any(chart.has_action for chart in charts.shown),
        "state": any(chart.has_state for chart in charts.shown),
        "value at rest": any(chart.rest is not None for chart in charts.shown),
    }
    return "".join(
        f'<span class="line {name.split()[-1]}"></span>{name}' for name, is_drawn in kinds.items() if is_drawn
    )


def _player_notes(
    charts: Charts,
    played: Sequence[Episode],
    pictures: Mapping[str, EpisodePictures],
    recordings: Mapping[str, Recording],
) -> str:
    notes = []
    if charts.constant:
        listed = ", ".join(f"{name} = {value:.4g}" for name, value in charts.constant[:60])
        notes.append(f"Never change in this data set: {listed}{', ...' if len(charts.constant) > 60 else ''}.")
    if any(not chart.is_used for chart in charts.shown):
        notes.append("Signals with grey names are recorded, but not chosen by dataset.actions or model.state.")
    if charts.num_left_out:
        notes.append(f"{counted(charts.num_left_out, 'more signal')} not drawn.")
    if any(recordings[episode.name].spec.rate_hz is None for episode in played):
        notes.append(f"No frame rate is recorded: 1x is {_RATE_HZ:g} frames a second.")
    if any(len(pictures[episode.name].strip_rows) < episode.num_frames for episode in played):
        notes.append("Of long episodes not all frames are in this page; the number of the frame says which is shown.")
    if not played:
        notes.append("No episode could be decoded.")
    return "".join(f'<p class="note">{html_text(note, limit=3000)}</p>' for note in notes)


def _playable(
    episode: Episode, recording: Recording, pictures: EpisodePictures, charts: Charts, num_played: int
) -> dict[str, Any]:
    return {
        "name": plain(episode.name, limit=120),
        "scenario": plain(scenario_beside(episode), limit=120),
        "instruction": plain(episode.instruction),
        "numFrames": episode.num_frames,
        "rate": recording.spec.rate_hz or _RATE_HZ,
        "hasRate": recording.spec.rate_hz is not None,
        "rows": list(pictures.strip_rows),
        "cameras": [
            {"name": plain(camera, limit=60), "frames": [in_base64(frame) for frame in found.strip]}
            for camera, found in pictures.decoded.items()
        ],
        "lines": lines_of(recording, charts, num_episodes=num_played),
    }


def _part(name: str) -> str:
    return asset("mobile_vla.inspection.page", name)
