"""The episodes of a source, with one error for each recording that cannot be used."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from regex import Pattern

from mobile_vla.data.chosen import Chosen, check_names, without_idle
from mobile_vla.data.digests import digests_of
from mobile_vla.data.findings.usual_signals import most_frequent, other_signals
from mobile_vla.data.labels.grammars import UNKNOWN, parse_name
from mobile_vla.data.labels.instruction import Instruction
from mobile_vla.data.reading.process import Request, ask_each
from mobile_vla.data.recordings_cache import RecordingsCache, status_of
from mobile_vla.data.sources.contract import Recording, RecordingFile, Source
from mobile_vla.data.sources.names import own_name
from mobile_vla.errors import DataError
from mobile_vla.process.progress_bar import track
from mobile_vla.schema import Episode
from mobile_vla.spec import Spec
from mobile_vla.text import first_few


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """All recordings of a source that can be used, the error of each other one, and warnings."""

    recordings: Sequence[Recording]
    problems: Sequence[DataError]
    warnings: Sequence[str]


def read_recordings(source: Source, *, cache_dir: Path, num_workers: int) -> Scanned:
    """Return the recordings of ``source`` in the order in which it finds them.

    ``num_workers`` processes read the files that ``cache_dir`` does not know.
    """
    found = source.find()
    cache = RecordingsCache(source, found.files, cache_dir=cache_dir)
    statuses = [status_of(file) for file in found.files]
    answers: list[Sequence[Recording | DataError] | None] = [cache.known(status) for status in statuses]
    unread = [index for index, answer in enumerate(answers) if answer is None]
    requests = [
        Request(work=read_file, path=found.files[index].path, arguments=(source, found.files[index]))
        for index in unread
    ]
    read = ask_each(requests, num_processes=num_workers)
    for place, answer in track(read, description="reading episodes", total=len(requests)):
        answers[unread[place]] = [answer] if isinstance(answer, DataError) else answer
    lacking = [e for entries in answers for e in entries or () if isinstance(e, Recording) and not e.digest]
    digests = dict(zip(map(id, lacking), digests_of(lacking, cache_dir=cache_dir), strict=True))
    recordings: dict[str, Recording] = {}
    problems = list(found.problems)
    sound: dict[str, list[Recording]] = {}
    for file, status, entries in zip(found.files, statuses, answers, strict=True):
        assert entries is not None
        whole = [
            replace(entry, digest=digests[id(entry)]) if isinstance(entry, Recording) and not entry.digest else entry
            for entry in entries
        ]
        usable = [entry for entry in whole if isinstance(entry, Recording)]
        if len(usable) == len(entries):
            sound[status] = [_as_kept(entry, file) for entry in usable]
        for entry in whole:
            if isinstance(entry, DataError):
                problems.append(entry)
            elif entry.name in recordings:
                first = recordings[entry.name].path
                problems.append(
                    DataError(
                        f"{entry.path}: has the same name as {first}, '{entry.name}'. Names identify episodes: rename "
                        "one."
                    )
                )
            else:
                recordings[entry.name] = entry
    cache.store(sound)
    warnings = [*found.warnings, *_lost_actions(list(recordings.values())), *_notes(list(recordings.values()))]
    return Scanned(recordings=list(recordings.values()), problems=problems, warnings=warnings)


def _as_kept(recording: Recording, file: RecordingFile) -> Recording:
    """Return ``recording`` without its digest where the status of ``file`` does not cover all content: pictures."""
    is_covered = recording.files == file.files or set(recording.files) <= set(file.files)
    return recording if is_covered else replace(recording, digest="")


def read_file(path: Path, source: Source, file: RecordingFile) -> Generator[None, None, list[Recording | DataError]]:
    """Return the recordings of ``file``; a function of a module, because it is called in a reading process."""
    return (yield from source.read(file))


def episodes_of(
    recordings: Sequence[Recording],
    *,
    root: Path | None,
    packaged: Sequence[str] = (),
    chosen: Chosen,
    grammars: Mapping[str, Pattern[str]],
    instruction: Instruction,
) -> tuple[list[Episode], list[DataError], Spec | None, list[str]]:
    """Return the episodes of ``recordings``, one error for each that cannot be used, their spec, and warnings.

    ``root`` is the folder whose subfolders mean something, as the user made them: an episode in one has the field
    ``folder``, without the folders of a path that ends as one of ``packaged``. The spec is that of the first episode
    with the signals and cameras of most; None without any episode. One with others cannot be used.
    """
    if recordings:
        check_names(chosen, recordings)
    chosen = without_idle(chosen, recordings)
    episodes, problems, specs = [], [], []
    by_recorded: dict[int, Spec] = {}  # most recordings share one object, whose content takes long to hash
    for recording in recordings:
        try:
            spec = by_recorded.get(id(recording.spec))
            if spec is None:
                spec = by_recorded[id(recording.spec)] = chosen.spec_of(recording)
            folder = _folder_field(recording.path, root, packaged)
            episode = _episode_of(recording, spec, folder=folder, grammars=grammars, instruction=instruction)
        except DataError as problem:
            problems.append(problem)
        else:
            episodes.append(episode)
            specs.append(spec)
    if not specs:
        return episodes, problems, None, []
    usual, count = most_frequent(specs)
    same = []
    for episode, spec in zip(episodes, specs, strict=True):
        if problem := other_signals(episode.path, spec, usual, whose=f"{count} of {len(specs)} episodes have"):
            problems.append(problem)
        else:
            same.append((episode, spec))
    return [episode for episode, _ in same], problems, usual, _mixed_rates([spec for _, spec in same])


def _episode_of(
    recording: Recording,
    spec: Spec,
    *,
    folder: Mapping[str, str],
    grammars: Mapping[str, Pattern[str]],
    instruction: Instruction,
) -> Episode:
    name = own_name(recording.name, recording.path)
    scenario, fields = parse_name(name, grammars)
    if (
        not fields and scenario == UNKNOWN and name != recording.name
    ):  # a grammar may also be written for the name with its folders
        scenario, fields = parse_name(recording.name, grammars)
    fields = {**folder, **recording.fields, **fields}
    chosen = instruction.choose(recording.texts, fields=fields)
    if chosen is None:
        raise DataError(
            f"{recording.path}: no instruction is recorded, and dataset.instruction gives none for this name. "
            "Add 'constant' to dataset.instruction.order, or a template over the fields of the episode."
        )
    recorded = recording.spec
    return Episode(
        name=recording.name,
        path=recording.path,
        num_frames=recording.num_frames,
        actions=_columns(recording.actions, recorded.action_names, spec.action_names),
        state=_columns(recording.state, recorded.state_names, spec.state_names),
        instruction=chosen.text,
        instruction_source=chosen.source,
        instruction_place=chosen.place,
        similar_names=recording.texts.similar_names,
        scenario=scenario,
        fields=fields,
        image_sizes=tuple((camera.rows, camera.columns) for camera in spec.cameras),
    )


def _folder_field(path: Path, root: Path | None, packaged: Sequence[str]) -> dict[str, str]:
    if root is None or path == root:
        return {}
    place = path.as_posix()
    levels = next((end.count("/") for end in packaged if place.endswith(f"/{end}")), 0)
    folder = path.parents[levels]
    return {"folder": str(folder.relative_to(root))} if folder != root and folder.is_relative_to(root) else {}


def _columns(values_FA: np.ndarray, recorded: Sequence[str], chosen: Sequence[str]) -> np.ndarray:
    return values_FA if recorded == chosen else values_FA[:, [recorded.index(name) for name in chosen]]


def _mixed_rates(specs: Sequence[Spec]) -> list[str]:
    rates = sorted({round(spec.rate_hz, 1) for spec in specs if spec.rate_hz is not None})
    if len(rates) < 2 or rates[-1] < 1.05 * rates[0]:
        return []
    return [
        f"the episodes were recorded at {rates[0]:g} to {rates[-1]:g} frames a second: a window of them covers "
        "different times"
    ]


def _lost_actions(recordings: Sequence[Recording]) -> list[str]:
    """Return a warning that lists the episodes whose last actions, or all actions, may never have been written.

    It is a warning and not an error because zero is also a valid action.
    """
    found = [
        f"{recording.name} (rows {recording.doubtful_row}..{recording.num_frames - 1})"
        for recording in recordings
        if recording.doubtful_row is not None
    ]
    if not found:
        return []
    return [
        f"the actions of {len(found)} episode(s) are zero up to the last row, most likely never written, as the camera "
        f"moves or all are zero: {first_few(found)}"
    ]


def _notes(recordings: Sequence[Recording]) -> list[str]:
    """Return each note once, with the episodes that have it."""
    by_note: dict[str, list[str]] = {}
    for recording in recordings:
        for note in recording.notes:
            by_note.setdefault(note, []).append(recording.name)
    return [f"{note}: {first_few(names)}" for note, names in by_note.items()]
