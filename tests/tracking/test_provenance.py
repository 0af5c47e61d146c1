"""Two runs name the same code exactly when nothing that trains differs between them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mobile_vla.tracking import provenance


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed project of three files, which ``code_commit`` speaks of."""
    for name in ("mobile_vla/train.py", "mobile_vla/compare/page.py", "conf/experiment/heads.yaml", "run.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    monkeypatch.setattr(provenance, "_PROJECT", tmp_path)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def git(project: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout.strip()


def commit(project: Path) -> str:
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "x")
    return git(project, "rev-parse", "HEAD")


def code() -> str:
    return provenance.code_commit.__wrapped__()  # of this process, the answer is kept


@pytest.mark.parametrize("name", ["README.md", "mobile_vla/compare/page.py", "conf/experiment/heads.yaml"])
def test_what_trains_nothing_is_no_other_code(name: str, project: Path) -> None:
    before = code()
    (project / name).write_text("2")

    assert code() == before
    commit(project)
    assert code() == before


@pytest.mark.parametrize("name", ["mobile_vla/train.py", "run.py", "mobile_vla/new.py"])
def test_every_change_of_what_trains_has_a_name_of_its_own(name: str, project: Path) -> None:
    names = [code()]
    for content in ("2", "3"):
        (project / name).write_text(content)
        names.append(code())
    last = commit(project)

    assert len(set(names)) == 3
    assert names[1].startswith(f"{names[0]}-dirty-")
    assert code() == last


def test_without_git_the_files_name_the_code(project: Path) -> None:
    for path in sorted((project / ".git").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (project / ".git").rmdir()
    before = code()
    assert before.startswith("no-git-")

    (project / "conf/experiment/heads.yaml").write_text("2")
    assert code() == before
    (project / "run.py").write_text("2")
    assert code() != before


def test_every_file_of_a_sampler_is_named_by_its_option_and_told_by_its_content(tmp_path: Path) -> None:
    one, other = (tmp_path / name for name in ("one.csv", "other.csv"))
    one.write_text("1")
    other.write_text("2")

    def files(first: object, second: object) -> dict[str, str]:
        mixed = {"sources": [{"file": first}, {"base": {"file": second}}]}
        return provenance.files_of({"sampler": mixed, "dataset": {"file": str(one)}})

    both = files(str(one), str(other))
    assert both.keys() == {f"sampler.sources.0.file={one}", f"sampler.sources.1.base.file={other}"}
    assert len(set(both.values())) == 2
    assert files(str(one), None).keys() == {f"sampler.sources.0.file={one}"}
    assert files("???", str(tmp_path / "absent.csv")) == {}

    assert provenance.changed_files({"files": both}, {"sampler": {"file": str(one)}}) != []  # by another option
    config = {"sampler": {"file": str(one)}}
    manifest = {"files": provenance.files_of(config)}
    assert provenance.changed_files(manifest, config) == []
    one.write_text("3")
    (change,) = provenance.changed_files(manifest, config)
    assert change.startswith(f"the content of sampler.file={one} was {next(iter(manifest['files'].values()))}, now ")
