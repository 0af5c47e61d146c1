"""The usable episodes of a data set, with all signals and cameras that were recorded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from mobile_vla.data.chosen import Chosen
from mobile_vla.data.dataset import Dataset, Scan
from mobile_vla.data.exporters.outgoing import Outgoing, Outgoings
from mobile_vla.data.findings.problems import summarise_problems
from mobile_vla.data.labels.grammars import UNKNOWN
from mobile_vla.data.sources.lerobot.source import LeRobotSource
from mobile_vla.errors import ConfigError, DataError

NAME_FIELD = "episode_name"
"""The text about an episode that is its name, also for formats whose episodes have none."""


def read_outgoings(dataset: Dataset, *, rate_hz: float | None) -> Outgoings:
    """Return the episodes of ``dataset`` with all signals and cameras that were recorded; pixels are not decoded.

    ``rate_hz`` replaces the recorded rate; None keeps it. Raises ``DataError`` with the list of all bad files, unless
    ``on_bad_episode`` is ``skip``, and where no episode is left.
    """
    whole = replace(dataset, actions="all", state="all", cameras="all")
    if whole.looks_at_frames:
        raise ConfigError(
            "dataset.scenario, dataset.task: first_frames is a guess from decoded images, which is not exported. Leave "
            "it out; the exported recordings can be grouped in the same way."
        )
    scan = whole.scan()
    if scan.problems and whole.on_bad_episode == "error":
        raise DataError(summarise_problems(scan.problems))
    if not scan.episodes:
        raise DataError(f"no usable episode is left in {whole.folder()}.\n{summarise_problems(scan.problems)}")
    chosen = Chosen(actions="all", state="all", cameras="all", signals=whole.signals or {})
    names = _names(scan)
    # The constant is what policies are told where nobody said anything; as a recorded text it would be invented.
    is_stated = whole.instruction.order[0] == "constant"
    unsaid = {e.name for e in scan.episodes if e.instruction_source == "constant" and not is_stated}
    outgoings = []
    for episode in scan.episodes:
        recording = scan.recordings[episode.name]
        spec = chosen.spec_of(recording)
        scenario = {} if episode.scenario == UNKNOWN else {"scenario": episode.scenario}
        outgoings.append(
            Outgoing(
                recording=recording,
                spec=spec if rate_hz is None else replace(spec, rate_hz=rate_hz),
                name=names[episode.name],
                instruction="" if episode.name in unsaid else episode.instruction,
                fields={**episode.fields, **scenario, NAME_FIELD: names[episode.name]},
            )
        )
    return Outgoings(
        source=scan.source,
        episodes=outgoings,
        problems=scan.problems,
        warnings=[*scan.warnings, *_said_of(unsaid)],
        digests=scan.digests,
        is_bgr=whole.channel_order == "bgr",
    )


def _said_of(unsaid: Collection[str]) -> list[str]:
    if not unsaid:
        return []
    return [
        f"{len(unsaid)} episode(s) have no instruction and are written without one; yours would be written by "
        "dataset.instruction.order=[constant] \"dataset.instruction.constant='...'\""
    ]


def _names(scan: Scan) -> dict[str, str]:
    """Return the name to write of each episode, by that of its recording.

    The episodes of a LeRobot data set have numbers; one that was exported from another format knows its name there.
    """
    if isinstance(scan.source, LeRobotSource):
        before = {name: recording.fields.get(NAME_FIELD, name) for name, recording in scan.recordings.items()}
        if len(set(before.values())) == len(before):
            return before
    return {name: name for name in scan.recordings}
