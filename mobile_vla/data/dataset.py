"""The data set: a folder of episode files, read, split and cut into windows with their readers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field, NonNegativeInt, PositiveInt

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.episodes import scan_episodes
from mobile_vla.data.frames import FrameStore, ImageOptions, Side, digest_files, open_frames
from mobile_vla.data.hdf5.instruction import Instruction
from mobile_vla.data.instruction_sources import odd_instructions
from mobile_vla.data.plausibility import implausible_actions, unmoving_columns
from mobile_vla.data.scenario import UNKNOWN, compile_grammars
from mobile_vla.data.split import Split, hold_out_inner, split_episodes
from mobile_vla.data.windows import NumFrames, Padding, build_windows
from mobile_vla.errors import ConfigError, DataError, UnreadableNowError
from mobile_vla.schema import ACTION_NAMES, Episode, WindowTable


class Generator(Protocol):
    """A generator of a data set, for options that create their episodes instead of reading a given folder."""

    def ensure(self, root: Path) -> Path:
        """Return the folder of episodes inside ``root``, generating it first where it is missing."""
        ...


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The result of reading all files of a folder.

    ``episodes`` are the usable ones, ``problems`` one error for each other file, ``digests`` the content digest of each
    file by episode name. ``warnings`` list what was left out of the folder and which actions may be lost.
    """

    episodes: Sequence[Episode]
    problems: Sequence[DataError]
    frames: FrameStore
    digests: Mapping[str, str]
    warnings: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class OpenDataset:
    """A data set that is ready to train on: all files are read and checked.

    ``data_hash`` covers the content of the files, what was read from their names and the window settings: runs with the
    same hash (and the same split) are measured on the same targets. ``windows`` has the parts ``train`` and ``val``
    and, where episodes are held out, ``unseen`` and ``inner``; ``episodes`` are those of the split, by name.
    ``problems`` are the errors of the files that were skipped, ``warnings`` the oddities that were tolerated.
    """

    episodes: Mapping[str, Episode]
    split: Split
    windows: Mapping[str, WindowTable]
    readers: Mapping[str, WindowReader]
    frames: FrameStore
    action_names: tuple[str, ...]
    image: ImageOptions
    data_hash: str
    problems: tuple[DataError, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The options of a data set: which episodes, and how they are read, split and cut into windows.

    Each option is explained in conf/dataset/h5.yaml.
    """

    path: str | None
    generator: Generator | None
    datasets_dir: str
    cache_dir: str
    num_workers: NonNegativeInt
    image_size: Side | tuple[Side, Side]
    resize: Literal["direct", "letterbox"]
    channel_order: Literal["rgb", "bgr"]
    actions: Sequence[Literal["linear_x", "linear_y", "angular_z"]]
    instruction: Instruction
    grammars: Mapping[str, str]
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
        compile_grammars(self.grammars)  # only for its errors: a bad expression must fail before any file is read
        if not self.actions or list(self.actions) != [name for name in ACTION_NAMES if name in self.actions]:
            raise ConfigError(
                f"dataset.actions={list(self.actions)}: expected one or more of {', '.join(ACTION_NAMES)}, each once, "
                "in that order."
            )
        if (self.path is None) == (self.generator is None):
            raise ConfigError(
                "dataset.path: exactly one of dataset.path and dataset.generator must be set. Give the folder of your "
                "episodes (dataset=h5 dataset.path=DIR) or choose a data set that makes its own (dataset=sim)."
            )

    @property
    def image(self) -> ImageOptions:
        """The image settings, which are part of the frame cache's key."""
        size = self.image_size
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

    def scan(self) -> Scan:
        """Return all episodes of the folder; every file is read, and its frames are decoded into the cache."""
        episodes, problems, warnings = scan_episodes(
            self.folder(),
            grammars=compile_grammars(self.grammars),
            instruction=self.instruction,
            action_names=self.actions,
        )
        cache_dir = Path(self.cache_dir)
        digests = digest_files([e.path for e in episodes], cache_dir=cache_dir)
        frames, undecodable = open_frames(
            episodes, options=self.image, digests=digests, cache_dir=cache_dir, num_workers=self.num_workers
        )
        usable = [e for e in episodes if e.name not in undecodable]
        problems += undecodable.values()
        return Scan(episodes=usable, problems=problems, frames=frames, digests=digests, warnings=warnings)

    def open(self, scan: Scan | None = None) -> OpenDataset:
        """Return the data set ready for training, from ``scan`` where the folder was scanned before.

        Raises ``DataError`` with the list of all bad files, unless ``on_bad_episode`` is ``skip``.
        """
        scan = scan or self.scan()
        episodes, problems = scan.episodes, scan.problems
        if problems and self.on_bad_episode == "error":
            raise DataError(summarise_problems(problems))
        if not episodes:
            raise DataError(f"no usable episode is left in {self.folder()}.\n{summarise_problems(problems)}")
        try:
            split = split_episodes(
                episodes,
                val_fraction=self.val_fraction,
                seed=self.split_seed,
                unseen=self.unseen,
                train_episodes=self.train_episodes,
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
                frames=scan.frames,
                window_size=self.window_size,
                fwd_pred_next_n=self.fwd_pred_next_n,
                action_names=self.actions,
            )
            for part, table in windows.items()
        }
        # Names and texts are hashed with the files' content because the file name gives scenario and instruction: the
        # same file under another name can be another target. All usable episodes count, also those in no part.
        content = json.dumps(
            [
                [self.window_size, self.fwd_pred_next_n, self.padding, list(self.actions)],
                sorted((e.name, scan.digests[e.name], e.instruction, e.scenario) for e in episodes),
            ]
        )
        return OpenDataset(
            episodes=by_name,
            split=split,
            windows=windows,
            readers=readers,
            frames=scan.frames,
            action_names=tuple(self.actions),
            image=self.image,
            data_hash=hashlib.blake2b(content.encode(), digest_size=8).hexdigest(),
            problems=tuple(problems),
            warnings=(
                *_oddities(scan, windows),
                *unmoving_columns(episodes, self.actions),
                *implausible_actions(episodes, self.actions),
                *odd_instructions(episodes),
            ),
        )

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


def summarise_problems(problems: Sequence[DataError]) -> str:
    """Return one message that lists all problems, one per line: damaged files and temporarily unreadable ones apart."""
    passing = [problem for problem in problems if isinstance(problem, UnreadableNowError)]
    bad = [problem for problem in problems if not isinstance(problem, UnreadableNowError)]
    blocks = [
        f"{len(listed)} episode file(s) {what}:\n" + "\n".join(f"  {problem}" for problem in listed) + f"\n{remedy}"
        for listed, what, remedy in (
            (bad, "cannot be used", "Mend or remove them"),
            (passing, "cannot be read now, and may be good", "Mend the causes"),
        )
        if listed
    ]
    return "\n".join(f"{block}, or set dataset.on_bad_episode=skip to go on without them." for block in blocks)


def _oddities(scan: Scan, windows: Mapping[str, WindowTable]) -> list[str]:
    found, episodes = list(scan.warnings), scan.episodes
    passing = [problem for problem in scan.problems if isinstance(problem, UnreadableNowError)]
    bad = [problem for problem in scan.problems if not isinstance(problem, UnreadableNowError)]
    if bad:
        listed = "; ".join(str(problem).split(":", 1)[0] for problem in bad)
        found.append(f"{len(bad)} bad episode file(s) skipped: {listed}")
    # Also skipped: `skip` means to go on. Runs that read different files then have a different data_hash, and the
    # comparison does not rank them together.
    if passing:
        listed = "; ".join(str(problem) for problem in passing)
        found.append(f"{len(passing)} episode file(s) left out that may be good, for causes outside of them: {listed}")
    copies = Counter(scan.digests[e.name] for e in episodes)
    num_copies = sum(count - 1 for count in copies.values())
    if num_copies:
        found.append(f"{num_copies} episode file(s) are copies of another: train and val may hold the same episode")
    sizes = Counter(e.image_shape[:2] for e in episodes)
    if len(sizes) > 1:
        listed = ", ".join(f"{count} of {rows}x{columns}" for (rows, columns), count in sizes.most_common())
        found.append(f"mixed image sizes, all are resized: {listed}")
    num_unknown = sum(e.scenario == UNKNOWN for e in episodes)
    if num_unknown:
        found.append(f"{num_unknown} of {len(episodes)} episode names contain no scenario: they count as '{UNKNOWN}'")
    for part, table in windows.items():
        without = set(table.episode_names) - {table.episode_names[e] for e in set(table.episode.tolist())}
        if without:
            found.append(f"{len(without)} {part} episode(s) are shorter than a window and are never used")
    return found
