"""Write a data set in another format: the whole new folder appears at the end, or nothing of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mobile_vla.data.dataset import Dataset
from mobile_vla.data.digests import digest_recordings
from mobile_vla.data.exporters.episodes import read_outgoings
from mobile_vla.data.exporters.hdf5 import write_hdf5
from mobile_vla.data.exporters.lerobot import check_exportable, rate_of, write_lerobot
from mobile_vla.data.exporters.outgoing import Outgoings
from mobile_vla.data.findings.problems import summarise_problems
from mobile_vla.data.frames import WRITTEN_MEANWHILE
from mobile_vla.errors import ConfigError, DataError, UnreadableNowError
from mobile_vla.process.cores import num_processes
from mobile_vla.spec import Spec
from mobile_vla.storage.disk import bytes_in
from mobile_vla.storage.new_folder import check_new, new_folder
from mobile_vla.text import counted, first_few, shortened, sizes

ExportFormat = Literal["lerobot", "hdf5"]

_WHAT = "the exported data"


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """The result of an export: what was written to ``out``, what was left out, and what the user should know."""

    out: Path
    format: ExportFormat
    is_video: bool
    num_episodes: int
    num_frames: int
    num_bytes: int
    spec: Spec
    problems: Sequence[DataError]
    warnings: Sequence[str]

    def __str__(self) -> str:
        cameras = ", ".join(f"{c.name} {c.columns}x{c.rows}" for c in self.spec.cameras)
        stored = "as H.264 video, which is lossy" if self.is_video else "without a loss"
        lines = [
            f"{self.out}: {counted(self.num_episodes, 'episode')}, {self.num_frames:,} frames, "
            f"{sizes(self.num_bytes)[0]}",
            f"  actions: {shortened(self.spec.action_names, limit=12)}",
            *([f"  state: {shortened(self.spec.state_names, limit=12)}"] if self.spec.state else []),
            f"  cameras: {cameras}; {stored}",
            *([] if self.spec.rate_hz is None else [f"  rate: {self.spec.rate_hz:g} frames a second"]),
            *(f"  note: {warning}" for warning in self.warnings),
        ]
        if self.problems:
            lines.append(f"  left out: {counted(len(self.problems), 'recording')}\n{summarise_problems(self.problems)}")
        return "\n".join(lines)


def export_data(
    dataset: Dataset, out: Path, *, format: ExportFormat, is_video: bool = False, rate_hz: float | None = None
) -> ExportReport:
    """Write all usable episodes of ``dataset`` to the new folder ``out`` and return a report.

    All signals and cameras that were recorded are written, in the recorded sizes, whatever the data set's options
    choose of them. ``rate_hz`` replaces the recorded rate. Raises ``UserError`` for recordings that cannot be used
    (unless ``on_bad_episode`` is ``skip``) or not be written in this format, for an ``out`` that is not empty, and for
    a disk that does not accept the data.
    """
    if is_video and format != "lerobot":
        raise ConfigError(f"--video: has no effect with --format {format}, whose images are stored without a loss")
    check_new(out, what=_WHAT)
    folder = dataset.folder()
    if out.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"--out {out}: is inside {folder}, and would be read as a part of it. Name another place.")
    outgoings = read_outgoings(dataset, rate_hz=rate_hz)
    if format == "lerobot":
        check_exportable(outgoings, is_video=is_video)
    with new_folder(out, what=_WHAT) as place:
        if format == "lerobot":
            problems = write_lerobot(
                outgoings, place, out=out, is_video=is_video, num_workers=num_processes(dataset.num_workers)
            )
        else:
            problems = write_hdf5(outgoings, place, out=out, num_workers=num_processes(dataset.num_workers))
        if problems and dataset.on_bad_episode == "error":
            raise DataError(summarise_problems(list(problems.values())))
        written = [outgoing for outgoing in outgoings.episodes if outgoing.recording.name not in problems]
        if not written:
            raise DataError(f"no usable episode is left in {folder}.\n{summarise_problems(list(problems.values()))}")
        _check_unchanged(outgoings, cache_dir=Path(dataset.cache_dir))
        num_bytes = bytes_in(place)
    return ExportReport(
        out=out,
        format=format,
        is_video=is_video,
        num_episodes=len(written),
        num_frames=sum(outgoing.recording.num_frames for outgoing in written),
        num_bytes=num_bytes,
        spec=written[0].spec,
        problems=[*outgoings.problems, *problems.values()],
        warnings=[
            *outgoings.warnings,
            *(_changed_rates(outgoings) if format == "lerobot" else _mixed_sizes(outgoings)),
        ],
    )


def _check_unchanged(outgoings: Outgoings, *, cache_dir: Path) -> None:
    recordings = [outgoing.recording for outgoing in outgoings.episodes]
    after = digest_recordings(recordings, cache_dir=cache_dir)
    for recording in recordings:
        if after[recording.name] != outgoings.digests[recording.name]:
            raise UnreadableNowError(f"{recording.path}: {WRITTEN_MEANWHILE}")


def _mixed_sizes(outgoings: Outgoings) -> list[str]:
    found = Counter(camera for outgoing in outgoings.episodes for camera in outgoing.spec.cameras)
    names = [name for name, count in Counter(camera.name for camera in found).items() if count > 1]
    return [f"the episodes have images of several sizes, of the cameras {first_few(names)}"] if names else []


def _changed_rates(outgoings: Outgoings) -> list[str]:
    rates = [float(outgoing.spec.rate_hz or 0) for outgoing in outgoings.episodes]
    if min(rates) == max(rates):
        return []
    return [
        f"the episodes were recorded at {min(rates):g} to {max(rates):g} frames a second, and the data set has one "
        f"rate: {rate_of(outgoings):g}"
    ]
