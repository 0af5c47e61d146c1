"""The data set: a folder of episode files, read, split and cut into windows with their readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, NonNegativeInt, PositiveInt

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.chosen import Chosen, Names, idle_notes
from mobile_vla.data.data_hash import data_hash
from mobile_vla.data.episodes import episodes_of, read_recordings
from mobile_vla.data.findings.oddities import oddities_of
from mobile_vla.data.findings.plausibility import implausible_actions, unmoving_columns
from mobile_vla.data.findings.problems import summarise_problems
from mobile_vla.data.formats import Format, ReadingOptions, check_channel_order, cutting_option, open_source
from mobile_vla.data.frames import FrameStore, ImageOptions, Side, is_decoded, open_frames
from mobile_vla.data.labels.grammars import compile_grammars
from mobile_vla.data.labels.instruction import Instruction
from mobile_vla.data.labels.instruction_summary import odd_instructions
from mobile_vla.data.labels.rules import FirstImages, Label, Rule, label_episodes, parse_rules
from mobile_vla.data.sources.bags.options import BagOptions
from mobile_vla.data.sources.contract import Recording, Source
from mobile_vla.data.sources.hdf5.layout import Layout
from mobile_vla.data.sources.tubs.split import TubOptions
from mobile_vla.data.split import Split, hold_out_inner, split_episodes
from mobile_vla.data.windows import NumFrames, Padding, build_windows
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.process.cores import num_processes
from mobile_vla.process.garbage import without_garbage_collection
from mobile_vla.schema import Episode, WindowTable
from mobile_vla.spec import Spec, check_details


class Generator(Protocol):
    """A generator of a data set, for options that create their episodes instead of reading a given folder."""

    def ensure(self, root: Path) -> Path:
        """Return the folder of episodes inside ``root``, generating it first where it is missing."""
        ...


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The result of reading all recordings of a folder, without their pixels.

    ``format`` is what was recognised, for people.
    ``episodes`` are the usable ones and ``recordings`` those that they were made of, by name; ``problems`` has one
    error for each other recording or file. ``spec`` is what is used of the recordings; None without an episode.
    ``warnings`` list what was left out of the folder and which actions may be lost.
    """

    source: Source
    format: str
    recordings: Mapping[str, Recording]
    episodes: Sequence[Episode]
    spec: Spec | None
    problems: Sequence[DataError]
    warnings: Sequence[str]

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """The content digests of the recordings, by episode name."""
        return {name: recording.digest for name, recording in self.recordings.items()}


@dataclass(frozen=True, kw_only=True)
class OpenDataset:
    """A data set that is ready to train on: all files are read and checked.

    ``format`` is what was recognised, for people. ``spec`` is what policies get and predict: the chosen signals and
    cameras, in their order.
    ``data_hash`` covers the content of the files, the labels of the episodes, the predicted signals and the window
    settings: runs with the same hash (and the same split) are measured on the same targets. ``windows`` has the parts
    ``train`` and ``val`` and, where episodes are held out, ``unseen`` and ``inner``; ``episodes`` are those of the
    split, by name.
    ``problems`` are the errors of the files that were skipped, ``warnings`` the oddities that were tolerated.
    """

    format: str
    spec: Spec
    episodes: Mapping[str, Episode]
    split: Split
    windows: Mapping[str, WindowTable]
    readers: Mapping[str, WindowReader]
    frames: FrameStore
    image: ImageOptions
    data_hash: str
    problems: tuple[DataError, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The options of a data set: which episodes, and how they are read, split and cut into windows.

    Each option is explained in conf/dataset/auto.yaml, and ``state`` is ``model.state``. ``image_size`` is ``auto``
    only until the model is known.
    """

    path: str | None
    format: Format
    layout: Layout
    bag: BagOptions
    tub: TubOptions
    generator: Generator | None
    datasets_dir: str
    cache_dir: str
    num_workers: NonNegativeInt | None
    image_size: Side | tuple[Side, Side] | Literal["auto"]
    resize: Literal["direct", "letterbox"]
    channel_order: Literal["rgb", "bgr"]
    actions: Names
    state: Names
    cameras: Names
    signals: Mapping[str, Mapping[str, Any]]
    instruction: Instruction
    grammars: Mapping[str, str]
    scenario: Sequence[str]
    task: Sequence[str]
    window_size: NumFrames
    fwd_pred_next_n: NumFrames
    padding: Padding
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    split_seed: NonNegativeInt
    unseen: Sequence[str]
    train_episodes: PositiveInt | None
    inner_fraction: Annotated[float, Field(gt=0, lt=1)] | None
    world: Literal["sim"] | None
    on_bad_episode: Literal["error", "skip"]

    def __post_init__(self) -> None:
        # Only for their errors, which must come before any file is read.
        compile_grammars(self.grammars)
        self._rules()
        check_details(self.signals or {}, option="dataset.signals")
        for option, names in (("actions", self.actions), ("cameras", self.cameras)):
            if names == "none" or not names:
                raise ConfigError(f"dataset.{option}={names}: a policy needs at least one. Give names, or 'all'.")
        for option, names in (("actions", self.actions), ("cameras", self.cameras), ("state", self.state)):
            if not isinstance(names, str) and len(set(names)) < len(names):
                raise ConfigError(f"dataset.{option}={list(names)}: expected each name once.")
        if (self.path is None) == (self.generator is None):
            raise ConfigError(
                "dataset.path: exactly one of dataset.path and dataset.generator must be set. Give the folder of your "
                "episodes (dataset=h5 dataset.path=DIR) or choose a data set that makes its own (dataset=sim)."
            )

    def _rules(self) -> dict[Label, tuple[Rule, ...]]:
        return {
            "scenario": parse_rules(self.scenario, option="dataset.scenario"),
            "task": parse_rules(self.task, option="dataset.task"),
        }

    @property
    def _chosen(self) -> Chosen:
        return Chosen(actions=self.actions, state=self.state, cameras=self.cameras, signals=self.signals)

    @property
    def image(self) -> ImageOptions:
        """The image settings, which are part of the frame cache's key."""
        size = self.image_size
        assert size != "auto", "the size goes with the model, which a data set does not know"
        return ImageOptions(
            size=(size, size) if isinstance(size, int) else (size[0], size[1]),
            resize=self.resize,
            channel_order=self.channel_order,
        )

    def folder(self) -> Path:
        """Return the folder of episode files, generating them first where ``generator`` is set."""
        if self.generator is not None:
            return self.generator.ensure(Path(self.datasets_dir))
        assert self.path is not None
        return Path(self.path).expanduser()

    @without_garbage_collection()
    def scan(self) -> Scan:
        """Return all episodes of the folder; every file is read, but no pixels."""
        options = ReadingOptions(layout=self.layout, bag=self.bag, tub=self.tub, order=tuple(self.instruction.order))
        opened = open_source(self.folder(), self.format, options)
        check_channel_order(opened, self.channel_order)
        scanned = read_recordings(
            opened.source, cache_dir=Path(self.cache_dir), num_workers=num_processes(self.num_workers)
        )
        episodes, problems, spec, warnings = episodes_of(
            scanned.recordings,
            root=opened.root,
            packaged=opened.packaged,
            chosen=self._chosen,
            grammars=compile_grammars(self.grammars),
            instruction=self.instruction,
        )
        if not self.looks_at_frames:
            episodes, said = self._label(episodes, first_images=None)
            warnings += said
        by_name = {recording.name: recording for recording in scanned.recordings}
        recordings = {episode.name: by_name[episode.name] for episode in episodes}
        return Scan(
            source=opened.source,
            format=opened.described,
            recordings=recordings,
            episodes=episodes,
            spec=spec,
            problems=[*scanned.problems, *problems],
            warnings=[*scanned.warnings, *warnings],
        )

    def _decode(self, scan: Scan) -> tuple[Scan, FrameStore]:
        """Return the frames of all episodes, decoded into the cache, and ``scan`` without those that cannot be."""
        assert scan.spec is not None
        frames, undecodable = open_frames(
            scan.source,
            list(scan.recordings.values()),
            cameras=scan.spec.camera_names,
            options=self.image,
            digests=scan.digests,
            cache_dir=Path(self.cache_dir),
            num_workers=num_processes(self.num_workers),
        )
        episodes = [episode for episode in scan.episodes if episode.name not in undecodable]
        return replace(scan, episodes=episodes, problems=[*scan.problems, *undecodable.values()]), frames

    def _label(self, episodes: Sequence[Episode], first_images: FirstImages | None) -> tuple[list[Episode], list[str]]:
        """Return ``episodes`` with their scenarios and tasks by the configured rules, and warnings."""
        return label_episodes(episodes, self._rules(), first_images=first_images)

    def is_decoded(self, scan: Scan) -> bool:
        """Return whether the cache has all frames of ``scan``, so that ``open`` decodes nothing."""
        return scan.spec is not None and is_decoded(
            list(scan.recordings.values()),
            cameras=scan.spec.camera_names,
            options=self.image,
            digests=scan.digests,
            cache_dir=Path(self.cache_dir),
        )

    @property
    def looks_at_frames(self) -> bool:
        """Whether the scenario or the task of an episode depends on its images."""
        return any(rule.needs_frames for rules in self._rules().values() for rule in rules)

    @without_garbage_collection()
    def open(self, scan: Scan | None = None, *, with_pixels: bool = True) -> OpenDataset:
        """Return the data set ready for training, from ``scan`` where the folder was scanned before.

        Without ``with_pixels`` nothing is decoded and readers have no images, unless ``looks_at_frames``. Raises
        ``DataError`` with the list of all bad files, unless ``on_bad_episode`` is ``skip``.
        """
        scan = scan or self.scan()
        self._check_problems(scan)  # before all frames are decoded
        if scan.spec is not None and (with_pixels or self.looks_at_frames):
            scan, frames = self._decode(scan)
        else:
            frames = FrameStore.without_pixels(list(scan.recordings.values()))
        episodes, problems, spec = scan.episodes, scan.problems, scan.spec
        self._check_problems(scan)
        if not episodes or spec is None:
            raise DataError(f"no usable episode is left in {self.folder()}.\n{summarise_problems(problems)}")
        if self.looks_at_frames:
            first_images = {
                episode.name: [images_FYXC[frames.first_row[episode.name]] for images_FYXC in frames.cameras.values()]
                for episode in episodes
            }
            episodes, said = self._label(episodes, first_images)
            scan = replace(scan, episodes=episodes, warnings=[*scan.warnings, *said])
        try:
            split = split_episodes(
                episodes,
                val_fraction=self.val_fraction,
                seed=self.split_seed,
                unseen=self.unseen,
                train_episodes=self.train_episodes,
                cut_by=cutting_option(scan.source),
            )
            if self.inner_fraction is not None:
                split = hold_out_inner(split, episodes, fraction=self.inner_fraction, seed=self.split_seed)
        except ConfigError as error:
            skipped = f"\n{summarise_problems(problems)}" if problems else ""
            raise ConfigError(f"{error}{skipped}") from error
        parts = {"train": split.train, "val": split.val, "unseen": split.unseen, "inner": split.inner}
        used = {name for names in parts.values() for name in names}
        by_name = {e.name: e for e in episodes if e.name in used}
        windows = {part: self._cut(part, [by_name[n] for n in names]) for part, names in parts.items() if names}
        readers = {
            part: WindowReader(
                windows=table,
                episodes=by_name,
                frames=frames,
                window_size=self.window_size,
                fwd_pred_next_n=self.fwd_pred_next_n,
            )
            for part, table in windows.items()
        }
        return OpenDataset(
            format=scan.format,
            spec=spec,
            episodes=by_name,
            split=split,
            windows=windows,
            readers=readers,
            frames=frames,
            image=self.image,
            data_hash=data_hash(
                episodes,
                spec=spec,
                digests=scan.digests,
                window_size=self.window_size,
                fwd_pred_next_n=self.fwd_pred_next_n,
                padding=self.padding,
            ),
            problems=tuple(problems),
            warnings=(
                *scan.warnings,
                *oddities_of(episodes, scan.problems, digests=scan.digests, windows=windows),
                *idle_notes(self._chosen, [scan.recordings[e.name] for e in episodes], spec),
                *unmoving_columns([scan.recordings[e.name] for e in episodes], spec),
                *implausible_actions(episodes, spec),
                *odd_instructions(episodes),
            ),
        )

    def _check_problems(self, scan: Scan) -> None:
        if scan.problems and self.on_bad_episode == "error":
            raise DataError(summarise_problems(scan.problems))

    def _cut(self, part: str, episodes: Sequence[Episode]) -> WindowTable:
        try:
            return build_windows(
                episodes,
                window_size=self.window_size,
                fwd_pred_next_n=self.fwd_pred_next_n,
                padding=self.padding,
            )
        except ConfigError as error:
            raise ConfigError(f"{part}: {error}") from error
