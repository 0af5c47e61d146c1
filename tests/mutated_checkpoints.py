"""Damage the checkpoints of a run as disks, copies and people do, by a seed; and use what is left as a user would."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from tiny_runs import Ran, run_in

from mobile_vla.data.dataset import OpenDataset
from mobile_vla.errors import UserError
from mobile_vla.policy.checkpoint_folder import CheckpointEntry, entries_of, find_checkpoint
from mobile_vla.policy.export.export import Export
from mobile_vla.policy.policy import Policy
from mobile_vla.sampler_report.run_scores import scores_of_run
from mobile_vla.window_losses.trained_run import RunLosses


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """What was done, in words, and the names of the checkpoints that are no longer as they were saved."""

    text: str
    damaged: frozenset[str]


def mutate(run: Path, seed: int) -> Mutation:
    """Damage one file or more of one checkpoint or more of ``run``, in place; the newest ones more often."""
    rng = random.Random(seed)
    before = contents_of(run)
    newest_first = sorted(before, key=lambda name: name.split("-")[1], reverse=True)
    chosen = newest_first[: rng.choice((1, 1, 1, 2, 2, len(newest_first)))]
    done = []
    for name in chosen:
        folder = run / "checkpoints" / name
        kind = rng.choice(sorted(MUTATIONS))
        file = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        MUTATIONS[kind](rng, file, folder)
        done.append(f"{kind} {name}/{file.relative_to(folder)}")
    after = contents_of(run)
    damaged = frozenset(name for name in before if before[name] != after.get(name))
    return Mutation(text=f"seed {seed}: {', '.join(done)}", damaged=damaged)


def contents_of(run: Path) -> dict[str, dict[str, bytes | str]]:
    """Return the files of each checkpoint of ``run``, by its name: their bytes, or what else they are."""
    contents: dict[str, dict[str, bytes | str]] = {}
    for folder in sorted((run / "checkpoints").iterdir()):
        contents[folder.name] = {
            path.relative_to(folder.parent).as_posix(): _content_of(path) for path in (folder, *folder.rglob("*"))
        }
    return contents


def _content_of(path: Path) -> bytes | str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    return path.read_bytes() if path.is_file() else "folder"


def _flip(rng: random.Random, file: Path, folder: Path) -> None:
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def _truncate(rng: random.Random, file: Path, folder: Path) -> None:
    os.truncate(file, rng.randrange(file.stat().st_size))


def _extend(rng: random.Random, file: Path, folder: Path) -> None:
    with file.open("ab") as end:
        end.write(rng.choice((b"\n", b"\0" * 512, rng.randbytes(100))))


def _zero_block(rng: random.Random, file: Path, folder: Path) -> None:
    content = bytearray(file.read_bytes())
    first = rng.randrange(len(content))
    block = content[first : first + 512]
    content[first : first + 512] = bytes(len(block)) if any(block) else b"\1" * len(block)
    file.write_bytes(content)


def _empty(rng: random.Random, file: Path, folder: Path) -> None:
    os.truncate(file, 0)


def _delete(rng: random.Random, file: Path, folder: Path) -> None:
    file.unlink()


def _swap_files(rng: random.Random, file: Path, folder: Path) -> None:
    other = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file() and path != file))
    _swap(file, other)


def _swap_between(rng: random.Random, file: Path, folder: Path) -> None:
    """Swap a file with the one of its name in another checkpoint; a whole checkpoint now and then."""
    others = [path for path in folder.parent.iterdir() if path.name[-8:] != folder.name[-8:]]
    other = rng.choice(sorted(others))
    if rng.random() < 0.3:
        _swap(folder, other)
    elif (twin := other / file.relative_to(folder)).is_file():
        _swap(file, twin)
    else:
        _delete(rng, file, folder)


def _swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def _folder_for_file(rng: random.Random, file: Path, folder: Path) -> None:
    file.unlink()
    file.mkdir()


def _link(rng: random.Random, file: Path, folder: Path) -> None:
    """Put a link in the place of a file or of the whole checkpoint: to what it was, elsewhere, or to nothing."""
    moved = rng.choice((file, folder))
    elsewhere = folder.parents[2] / f"elsewhere-{rng.randrange(2**32)}"
    if rng.random() < 0.7:
        moved.rename(elsewhere)
    elif moved == folder:
        shutil.rmtree(folder)
    else:
        file.unlink()
    moved.symlink_to(elsewhere)


def _pipe(rng: random.Random, file: Path, folder: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder_goes(rng: random.Random, file: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    if rng.random() < 0.5:
        folder.write_bytes(b"")


MUTATIONS: Mapping[str, Callable[[random.Random, Path, Path], None]] = {
    "flip a bit of": _flip,
    "truncate": _truncate,
    "extend": _extend,
    "zero a block of": _zero_block,
    "empty": _empty,
    "delete": _delete,
    "swap within its folder": _swap_files,
    "swap with another checkpoint": _swap_between,
    "put a folder in the place of": _folder_for_file,
    "put a link in the place of": _link,
    "put a named pipe in the place of": _pipe,
    "remove the folder of": _folder_goes,
}


@dataclass(frozen=True, kw_only=True)
class Pristine:
    """The done run whose copies are mutated, and its data."""

    ran: Ran
    data: OpenDataset

    def expected(self, mutation: Mutation, checkpoint: str) -> Path | None:
        """Return which checkpoint is to be used, as it was before the mutation; None where none may be."""
        entries = entries_of(self.ran.folder / "checkpoints")
        if checkpoint == "best":
            entries = [entry for entry in reversed(entries) if entry.step == max_best_step(entries)]
        return next((entry.path for entry in entries if entry.path.name not in mutation.damaged), None)


def max_best_step(entries: Sequence[CheckpointEntry]) -> int:
    return max(entry.step for entry in entries if entry.kind == "best")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A mutated copy of ``pristine`` in ``run``, and a new folder ``out`` for what comes out."""

    pristine: Pristine
    run: Path
    mutation: Mutation
    out: Path

    @classmethod
    def make(cls, pristine: Pristine, seed: int, root: Path) -> Trial:
        """Copy the run into the new folder ``root``, and damage it by ``seed``."""
        run = shutil.copytree(pristine.ran.folder, root / "run")
        (root / "out").mkdir()
        return cls(pristine=pristine, run=run, mutation=mutate(run, seed), out=root / "out")

    def check(self, use: str) -> bool:
        """Use the run as ``use`` says; return whether a whole checkpoint was used, False where it was refused.

        Raises ``AssertionError`` where a damaged one was used or a whole one was not, and whatever the use raises.
        """
        checkpoint = "best" if use.endswith("best") else "last"
        expected = self.pristine.expected(self.mutation, checkpoint)
        try:
            USES[use](self, expected)
            refused = ""
        except UserError as error:
            refused = str(error)
        told = f"{self.mutation.text}: {use}: expected {expected}; refused: {refused}"
        assert bool(refused) == (expected is None), told
        assert "\n" not in refused, told
        return not refused


def assert_same_tensors(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def _resume(trial: Trial, expected: Path | None) -> None:
    """Go on in place: rows and checkpoint are those of the run that nothing happened to."""
    whole = trial.pristine.ran
    before = {path: path.read_bytes() for path in trial.run.glob("*.json*")}
    resumed = run_in(trial.run, f"resume={trial.run}")
    if resumed.exit_code:
        assert {path: path.read_bytes() for path in trial.run.glob("*.json*")} == before
        assert resumed.message.startswith("error: resume="), resumed.message
        raise UserError(resumed.message)
    assert resumed.summary["status"] == "done"
    assert resumed.timeless_rows == whole.timeless_rows
    ends = [load_file(find_checkpoint(folder) / "model.safetensors") for folder in (trial.run, whole.folder)]
    assert_same_tensors(*ends)


def _load(trial: Trial, expected: Path | None, checkpoint: str = "last") -> None:
    policy = Policy.load(trial.run, checkpoint=checkpoint)
    if expected is not None:
        assert_same_tensors(policy._model.state_dict(), load_file(expected / "model.safetensors"))


def _export(trial: Trial, expected: Path | None) -> None:
    Export(source=trial.run, out=trial.out, checkpoint="last", merge=False, base=None, trust=()).run()
    if expected is not None:
        exported = load_file(trial.out / "model.safetensors")
        assert_same_tensors(exported, load_file(expected / "model.safetensors"))


def _losses(trial: Trial, expected: Path | None) -> None:
    def scored(source: Path, name: str) -> bytes:
        out = trial.out / name
        RunLosses(source=source, out=out, checkpoint="last", device="cpu", base=None, trust=()).run()
        return out.read_bytes()

    losses = scored(trial.run, "losses.csv")
    if expected is not None:
        assert losses == scored(expected, "expected.csv")


def _scores(trial: Trial, expected: Path | None) -> None:
    try:
        scores = scores_of_run(trial.run, trial.pristine.data)
    except UserError as error:
        if "is that of step 0" in str(error) and expected is not None and expected.name.endswith("-00000000"):
            return
        raise
    if expected is not None:
        arrays = load_file(expected / "arrays.safetensors")
        assert_same_tensors(scores.state(), {name: arrays[f"scores/{name}"] for name in scores.state()})


USES: Mapping[str, Callable[[Trial, Path | None], None]] = {
    "resume": _resume,
    "Policy.load": _load,
    "Policy.load best": partial(_load, checkpoint="best"),
    "export": _export,
    "losses": _losses,
    "sampler --scores": _scores,
}
"""What reads the checkpoints of a run, by name; each raises ``UserError`` where it refuses."""
