"""The episodes of a folder, with one error for each file that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from regex import Pattern

from mobile_vla.data.hdf5.episode_files import find_episode_files
from mobile_vla.data.hdf5.instruction import INSTRUCTION_KEY, Instruction
from mobile_vla.data.hdf5.recording import Recording, read_recording
from mobile_vla.data.reading.process import ask
from mobile_vla.data.scenario import parse_name
from mobile_vla.errors import DataError
from mobile_vla.schema import ACTION_NAMES, Episode
from mobile_vla.text import first_few


def read_episode(path: Path, *, grammars: Mapping[str, Pattern[str]], instruction: Instruction) -> Episode:
    """Return one episode without its pixels.

    Raises ``DataError``, which names the file, the key, what was found and what to do.
    """
    recording: Recording = ask(read_recording, path, tuple(instruction.order))
    scenario, fields = parse_name(path.stem, grammars)
    chosen = instruction.choose(recording.texts, fields=fields)
    if chosen is None:
        raise DataError(
            f"{path}: no instruction in key '{INSTRUCTION_KEY}', and dataset.instruction gives none for this name. "
            "Add 'constant' to dataset.instruction.order, or a template over the fields of the file name."
        )
    return Episode(
        name=path.stem,
        path=path,
        num_frames=recording.num_frames,
        actions=recording.actions,
        instruction=chosen.text,
        instruction_source=chosen.source,
        similar_names=recording.texts.similar_names,
        doubtful_row=recording.doubtful_row,
        scenario=scenario,
        fields=fields,
        image_shape=recording.image_shape,
    )


def scan_episodes(
    folder: Path, *, grammars: Mapping[str, Pattern[str]], instruction: Instruction, action_names: Sequence[str]
) -> tuple[list[Episode], list[DataError], list[str]]:
    """Return all usable episodes of a folder (without pixels), one error for each other file, and warnings.

    The warnings list what was left out of the folder, and episodes whose actions may be lost.
    """
    found = find_episode_files(folder)
    episodes, problems = [], list(found.problems)
    for path in found.paths:
        try:
            episode = read_episode(path, grammars=grammars, instruction=instruction)
            _check_action_names(episode, action_names)
            episodes.append(episode)
        except DataError as problem:
            problems.append(problem)
    return episodes, problems, [*found.warnings, *_lost_actions(episodes)]


def _lost_actions(episodes: Sequence[Episode]) -> list[str]:
    """Return a warning that lists the episodes whose last actions, or all actions, may never have been written.

    It is a warning and not an error because zero is also a valid action.
    """
    found = [
        f"{episode.name} (rows {episode.doubtful_row}..{episode.num_frames - 1})"
        for episode in episodes
        if episode.doubtful_row is not None
    ]
    if not found:
        return []
    return [
        f"the actions of {len(found)} episode(s) are zero up to the last row, most likely never written, as the camera "
        f"moves or all are zero: {first_few(found)}"
    ]


def _check_action_names(episode: Episode, action_names: Sequence[str]) -> None:
    columns = ACTION_NAMES[: episode.actions.shape[1]]
    missing = [name for name in action_names if name not in columns]
    if missing:
        raise DataError(
            f"{episode.path}: key 'actions' has the columns {', '.join(columns)}, but dataset.actions asks for "
            f"{', '.join(missing)}. Leave it out of dataset.actions or record it."
        )
