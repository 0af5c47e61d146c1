"""What a stored config may name: all that this package's config groups name, each in its group, and nothing else."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest
from omegaconf import OmegaConf
from tiny_runs import compose_config, every, first_of_each, options_of

from mobile_vla.errors import UserError
from mobile_vla.untrusted.stored_config import plain
from mobile_vla.untrusted.targets import check_targets, defined_object, own_targets, targets_of

GROUPS = ("dataset", "sampler", "augmentation", "model", "trainer", "evaluation", "closed_loop", "logger")
FOREIGN = (
    "os.system",
    "builtins.eval",
    "joblib.load",
    "torch.load",
    "hydra.utils.instantiate",
    "mobile_vla.commands.cli.main",
    "mobile_vla.sampling.strategies.shuffled",
    "mobile_vla.sampling.strategies.static_scores.read_window_scores",
    "mobile_vla.compare.sweep.CompareAtEnd",
    "mobile_vla.sampling.strategies.shuffled.Shuffled ",
    "",
    7,
    None,
    ["os.system"],
    {"a": 1},
)


@pytest.mark.parametrize(
    ("group", "option"), first_of_each((group, option) for group in GROUPS for option in options_of(group))
)
def test_every_option_passes(group: str, option: str) -> None:
    written = plain(compose_config([f"{group}={option}"]))
    check_targets(written, place="config.yaml", trust=())
    assert targets_of(written) <= set().union(*own_targets().values())


def test_every_name_is_a_class_or_function_of_its_own_module() -> None:
    for names in own_targets().values():
        for name in names:
            found: Any = defined_object(name)
            assert inspect.isclass(found) or inspect.isfunction(found)
            assert f"{found.__module__}.{found.__qualname__}" == name


def placed(where: str, node: dict[str, Any]) -> dict[str, Any]:
    config = plain(compose_config())
    parts = where.split(".")
    inner: Any = config
    for part in parts[:-1]:
        inner = inner[part]
    inner[parts[-1]] = node
    return config


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize(
    "where", every(2, ["sampler", "model.head.history", "dataset.instruction", "study", "odd", "seed"])
)
def test_every_other_name_is_refused_wherever_it_stands_and_nothing_is_imported(where: str, name: object) -> None:
    before = set(sys.modules)
    for node in ({"_target_": name}, {"deep": [1, {"er": [{"_target_": name}]}]}):
        with pytest.raises(UserError, match=rf"(?s)config\.yaml: names targets that no option.*{where}.*_target_"):
            check_targets(placed(where, node), place="config.yaml", trust=())
    assert set(sys.modules) == before


@pytest.mark.parametrize("group", ["", "..", "/", "sampler/..", "/etc", "model"])
def test_a_name_of_one_group_is_none_of_another(group: str) -> None:
    with pytest.raises(UserError, match="names targets that no option"):
        check_targets(
            {group: {"_target_": "mobile_vla.sampling.strategies.static_scores.static_scores"}}, place="here", trust=()
        )
    with pytest.raises(UserError, match="names targets that no option"):
        check_targets({"_target_": "mobile_vla.sampling.strategies.shuffled.Shuffled"}, place="here", trust=())


def test_all_names_stand_in_one_message_with_what_to_do() -> None:
    config = {"sampler": {"_target_": "a.B"}, "model": {"head": [{"_target_": "c.D"}], "_target_": "e.F"}}
    with pytest.raises(UserError) as refused:
        check_targets(config, place="here", trust=["e.F"])
    for said in (
        "sampler._target_: 'a.B'",
        "model.head.0._target_: 'c.D'",
        "--trust a.B --trust c.D",
        "'trust=[a.B,c.D]'",
    ):
        assert said in str(refused.value)
    assert "e.F" not in str(refused.value)
    check_targets(config, place="here", trust=["a.B", "c.D", "e.F"])


@pytest.mark.parametrize("key", ["_args_", "_recursive_", "_convert_"])
def test_other_keys_of_hydra_are_refused(key: str) -> None:
    config = plain(compose_config())
    config["sampler"][key] = ["x"]
    with pytest.raises(UserError, match=rf"sets sampler\.{key}"):
        check_targets(config, place="here", trust=())
    config = plain(OmegaConf.create({"sampler": {"_target_": "x.Y", "_partial_": "yes"}}))
    with pytest.raises(UserError, match=r"sampler\._partial_: 'yes'"):
        check_targets(config, place="here", trust=["x.Y"])
