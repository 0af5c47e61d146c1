"""Every command with the run folder of somebody who means harm: no code runs, nothing outside is read."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from rich.console import Console
from test_cli import call
from tiny_runs import Ran, run_in, run_py

from mobile_vla.errors import UserError
from mobile_vla.policy.checkpoint_folder import find_checkpoint
from mobile_vla.policy.digests import seal
from mobile_vla.policy.policy import Policy
from mobile_vla.untrusted.stored_config import say_data_read


class _Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


class Hostile:
    """A copy of a run, and two ways to leave a mark: a pickle, and a module that is imported."""

    def __init__(self, run: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = shutil.copytree(run, root / "run")
        self.mark, self.root = root / "mark", root
        (root / "bomb.pickle").write_bytes(pickle.dumps(_Bomb(self.mark)))
        (root / "modules").mkdir()
        (root / "modules" / "innocent.py").write_text(
            f"from pathlib import Path\nPath({str(self.mark)!r}).touch()\nclass Sampler: ...\n"
        )
        monkeypatch.syspath_prepend(root / "modules")
        self.payloads = (
            {"_target_": "joblib.load", "filename": str(root / "bomb.pickle")},
            {"_target_": "innocent.Sampler"},
        )

    def put(self, place: str) -> None:
        """Put one payload at ``place`` (dotted) of all configs of the run, and the other one deeper in it."""
        first, second = self.payloads
        payload = {**first, "more": [second]}
        for path in (self.run / "config.yaml", self.run / ".hydra" / "config.yaml"):
            content = yaml.safe_load(path.read_text())
            _set(content, place, payload)
            path.write_text(yaml.safe_dump(content))
        for path in self.run.glob("checkpoints/*/policy.json"):
            content = json.loads(path.read_text())
            if place.startswith("model"):
                _set(content, place, payload)
            path.write_text(json.dumps(content))
            seal(path.parent)  # as whoever made the folder can


def _set(content: dict[str, Any], place: str, value: object) -> None:
    *outer, last = place.split(".")
    for key in outer:
        content = content[key]
    content[last] = value


@pytest.fixture
def hostile(whole: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hostile:
    monkeypatch.chdir(tmp_path)  # a command may not find the repository's own outputs
    return Hostile(whole.folder, tmp_path, monkeypatch)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


READS_CONFIG: dict[str, Callable[[Path, Path], int | tuple[int, str]]] = {
    "losses": lambda run, out: call("losses", run, out / "losses.csv"),
    "resume": lambda run, out: run_py(f"resume={run}", "trainer.steps=6"),
}
READS_POLICY: dict[str, Callable[[Path, Path], int | tuple[int, str]]] = {
    "losses": lambda run, out: call("losses", run, out / "losses.csv"),
    "rollout": lambda run, out: call("rollout", run, "--out", out / "driven"),
    "serve": lambda run, out: call("serve", run, "--port", "0"),
    "export": lambda run, out: call("export", run, out / "exported"),
}


@pytest.mark.parametrize("place", ["dataset", "sampler", "model.head", "augmentation.transforms.x", "logger", "odd"])
@pytest.mark.parametrize("command", READS_CONFIG)
def test_what_a_stored_config_names_is_not_built(
    command: str, place: str, hostile: Hostile, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile.put(place)
    ended = READS_CONFIG[command](hostile.run, hostile.root)
    code, message = ended if isinstance(ended, tuple) else (ended, "")
    message += said(capsys)
    assert code == 1
    assert not hostile.mark.exists()
    for name in ("joblib.load", "innocent.Sampler"):
        assert name in message


@pytest.mark.parametrize("command", READS_POLICY)
def test_what_a_checkpoint_names_is_not_built(
    command: str, hostile: Hostile, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile.put("model.backbone")
    assert READS_POLICY[command](hostile.run, hostile.root) == 1
    assert not hostile.mark.exists()
    shown = said(capsys)
    for name in ("joblib.load", "innocent.Sampler"):
        assert name in shown


def test_hydras_own_way_to_run_a_folder_is_held_to_the_list_too(hostile: Hostile) -> None:
    hostile.put("sampler")
    config = hostile.run / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("trust: []", "trust: [joblib.load, innocent.Sampler]"))
    code, message = run_py("--config-path", str(config.parent), f"hydra.run.dir={hostile.root / 'new'}")
    assert code == 1
    assert not hostile.mark.exists()
    assert "joblib.load" in message


@pytest.mark.parametrize("command", ["compare", "dashboard", "sync", "sampler"])
def test_commands_that_build_nothing_of_a_run_do_not_begin_to(
    command: str, hostile: Hostile, tiny: tuple[str, ...]
) -> None:
    hostile.put("sampler")
    options = ("shuffled", *tiny, "--out", "drawn", "--scores") if command == "sampler" else ()
    call(command, *options, hostile.run)
    assert not hostile.mark.exists()


def test_a_class_that_is_trusted_by_name_is_built_and_what_the_run_trusted_is_not(
    hostile: Hostile, capsys: pytest.CaptureFixture[str]
) -> None:
    config = hostile.run / "config.yaml"
    own = "\n  _target_: innocent.Sampler\n"
    config.write_text(
        config.read_text()
        .replace("\n  _target_: mobile_vla.sampling.strategies.shuffled.Shuffled\n", own)
        .replace("trust: []", "trust: [innocent.Sampler]")
    )
    assert own in config.read_text()
    assert call("losses", hostile.run, hostile.root / "losses.csv") == 1
    assert not hostile.mark.exists()
    assert "--trust innocent.Sampler" in said(capsys)

    code, message = run_py(f"resume={hostile.run}", "trainer.steps=6", "trust=[innocent.Sampler]")
    assert (code, hostile.mark.exists()) == (1, True)
    assert "names targets that no option" not in message  # it is not a sampler, which the config check reports


def test_trust_without_a_stored_config_has_no_effect_and_says_so(tiny: tuple[str, ...], tmp_path: Path) -> None:
    assert "trust=['a.B']: has no effect" in run_in(tmp_path / "run", *tiny, "trust=[a.B]").message
    ran = run_in(tmp_path / "run", *tiny, f"resume={tmp_path}", "trust=yes")
    assert ran.exit_code == 1


def test_what_is_read_of_this_machine_is_said_first(
    whole: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(whole.folder, tmp_path / "run")
    assert call("losses", run, tmp_path / "losses.csv") == 0
    assert run_py(f"resume={run}", "trainer.steps=6")[0] == 0
    assert capsys.readouterr().out.count(f"{run / 'config.yaml'} names the data, which are read now: ") == 2


def test_every_file_that_a_config_names_is_said_too(tmp_path: Path) -> None:
    config = {
        "dataset": {"path": "/data", "cache_dir": "cache"},
        "sampler": {"base": {"file": "/scores.csv"}},
        "model": {"backbone": {"weights": "owner/name"}},
        "closed_loop": {"suites": {"mine": {"mjcf": "/room.xml", "seed": 3}}},
    }
    console = Console(file=io.StringIO(), width=40)
    say_data_read(tmp_path, OmegaConf.create(config), console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == (
        f"{tmp_path / 'config.yaml'} names the data, which are read now: /data (cached in cache); "
        "sampler.base.file=/scores.csv; model.backbone.weights=owner/name; closed_loop.suites.mine.mjcf=/room.xml\n"
    )


LINKS: dict[str, tuple[str, ...]] = {
    "config.yaml": ("losses", "resume"),
    "manifest.json": ("losses", "resume", "sampler", "export"),
    "summary.json": ("losses",),
    "split.json": ("export",),
    "metrics.jsonl": ("resume",),
    "run.log": ("resume",),
    "checkpoints": ("losses", "resume", "sampler", "export", "rollout", "serve"),
    "checkpoints/newest": ("losses", "resume"),
    "checkpoints/newest/policy.json": ("export",),
    "checkpoints/newest/model.safetensors": ("resume", "serve"),
    "checkpoints/newest/training.json": ("resume", "export"),
    "checkpoints/newest/arrays.safetensors": ("resume",),
}


@pytest.mark.parametrize(
    ("name", "command"),
    [
        pytest.param(name, command, marks=() if command == LINKS[name][0] else pytest.mark.slow)
        for name in LINKS
        for command in LINKS[name]
    ],
)
def test_a_link_that_leads_outside_is_not_followed(
    name: str, command: str, hostile: Hostile, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    newest = find_checkpoint(hostile.run)
    for other in newest.parent.iterdir():
        if other != newest:  # it would be used in place of the one that is refused
            shutil.rmtree(other)
    linked, elsewhere = hostile.run / name.replace("newest", newest.name), hostile.root / "elsewhere"
    if linked.exists():
        linked.rename(elsewhere)
    else:
        elsewhere.write_text("")
    linked.symlink_to(elsewhere)
    before = elsewhere.read_bytes() if elsewhere.is_file() else sorted(elsewhere.rglob("*"))
    commands = READS_CONFIG | READS_POLICY
    commands["sampler"] = lambda run, out: call("sampler", "shuffled", "--scores", run, "--out", out / "x", *tiny)
    if name.startswith("checkpoints"):  # in its own folder the run's log already stops it
        there = f"hydra.run.dir={hostile.root / 'resumed'}"
        commands["resume"] = lambda run, out: run_py(f"resume={run}", there, "trainer.steps=6")

    ended = commands[command](hostile.run, hostile.root)

    code, message = ended if isinstance(ended, tuple) else (ended, "")
    assert code == 1
    assert "which lies outside of it" in message + said(capsys)
    assert before == (elsewhere.read_bytes() if elsewhere.is_file() else sorted(elsewhere.rglob("*")))


def test_pretrained_weights_beside_a_checkpoint_lie_in_it(whole: Ran, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(find_checkpoint(whole.folder), tmp_path / "shared" / "checkpoint")
    (tmp_path / "private").mkdir()
    description = json.loads((checkpoint / "policy.json").read_text())
    description["model"]["backbone"]["weights"] = "../../private"
    (checkpoint / "policy.json").write_text(json.dumps(description))
    seal(checkpoint)
    with pytest.raises(UserError, match="which lies outside of it"):
        Policy.load(checkpoint)
