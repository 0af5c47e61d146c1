"""Load a pretrained vision-language model from a folder or from the hub; a missing one is an error within seconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import httpx2
import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging

from mobile_vla.errors import ConfigError
from mobile_vla.policy.backbones.families.family import find_family
from mobile_vla.policy.backbones.families.preprocessing import ImageProcessor

_ANSWER_WITHIN_S = 5.0
_fetch = partial(snapshot_download, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"])
_HASHED_VALUES = 1024

_SETTINGS_FILES = (
    *("config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer.model", "vocab.json"),
)
_WRITERS_KEYS = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")

DType = Literal["fp32", "bf16", "fp16"]
_COMMON_SIDE = 224

Attention = Literal["sdpa", "eager", "flash_attention_2"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Config, tokenizer and image processor of a pretrained model, read before any weight; ``folder`` is local.

    ``hash`` identifies config, tokenizer and image processor.
    """

    folder: Path
    hash: str
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    processor: ImageProcessor


def read_settings(weights: str) -> Settings:
    """Return config, tokenizer and image processor of ``weights``, a folder or a hub name.

    Raises ``ConfigError`` within seconds, with advice: for an unknown folder or name, a licence that was not accepted,
    no network, and missing or damaged files.
    """
    folder = _find(weights)
    try:
        return Settings(
            folder=folder,
            hash=_settings_hash(folder),
            config=AutoConfig.from_pretrained(folder, trust_remote_code=False),
            tokenizer=AutoTokenizer.from_pretrained(folder, trust_remote_code=False),
            # Always the Pillow backend, even where torchvision is installed: our preprocessing reproduces Pillow's
            # arithmetic.
            processor=AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, backend="pil"),
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"model.backbone.weights={weights}: {folder} cannot be read ({_first_line(error)}). Expected a model "
            "saved by transformers: config.json, tokenizer files, preprocessor_config.json and *.safetensors."
        ) from error


def image_side(settings: Settings) -> int:
    """Return the number of rows and columns that the model's own image processor makes of a square image.

    Where it takes images of any size, and the model then sees more tokens of larger ones: 224, which is common and
    still cheap.
    """
    family = find_family(settings.config)(settings.config, settings.tokenizer, settings.processor)
    found = {family.preprocessing((side, side)).size for side in (_COMMON_SIDE, 4 * _COMMON_SIDE)}
    return found.pop()[0] if len(found) == 1 else _COMMON_SIDE


def load_model(settings: Settings, *, dtype: torch.dtype, attention: Attention) -> PreTrainedModel:
    """Return the model without its language-model head; ``ConfigError`` if weights are missing or do not fit."""
    try:
        with quiet():  # transformers warns of the unused language-model head, which is expected here
            model, found = AutoModel.from_pretrained(
                settings.folder,
                dtype=dtype,
                attn_implementation=attention,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # reported below, with the name
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ConfigError(
            f"model.backbone.weights: {settings.folder} cannot be loaded ({_first_line(error)}). Fetch it again (hf "
            "download OWNER/NAME --local-dir DIR), or use model.backbone.attention=sdpa where that package is missing."
        ) from error
    if odd := sorted(found["mismatched_keys"]):
        name, stored, expected = odd[0]
        raise ConfigError(
            f"model.backbone.weights: {settings.folder} holds {len(odd)} weights of another size than its config.json "
            f"says, such as {name}: {list(stored)}, expected {list(expected)}. Fetch the folder again."
        )
    if absent := sorted(found["missing_keys"]):
        raise ConfigError(
            f"model.backbone.weights: {settings.folder} lacks {len(absent)} weights of its model, such as {absent[0]}, "
            f"which would be random. Expected all weights of a {type(model).__name__}: fetch its *.safetensors again."
        )
    return model


def base_hash(settings: Settings, model: torch.nn.Module) -> str:
    """Return a hash of a model: of its settings and of each weight's name, shape and up to 1,024 evenly spread values.

    Values are hashed in bfloat16, so that the hash does not depend on the dtype that the model was loaded in. A sample
    is enough to tell one training from another and is much faster than all values; a change of a few single values may
    go unnoticed.
    """
    digest = hashlib.blake2b(settings.hash.encode(), digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.flatten()
        chosen = flat[torch.linspace(0, len(flat) - 1, min(len(flat), _HASHED_VALUES), device=flat.device).long()]
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(chosen.float().bfloat16().view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()


def _settings_hash(folder: Path) -> str:
    """Return a hash of the files of ``folder`` other than weights, without the keys that name who wrote them."""
    digest = hashlib.blake2b(digest_size=8)
    for name in _SETTINGS_FILES:
        path = folder / name
        if path.is_file() and path.suffix == ".json":
            content = json.loads(path.read_bytes())
            told = {key: value for key, value in content.items() if key not in _WRITERS_KEYS}
            digest.update(f"{name}{json.dumps(told, sort_keys=True)}".encode())
        elif path.is_file():
            digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()


def is_hub_name(weights: str) -> bool:
    """Return whether ``weights`` has the form OWNER/NAME and no local folder has this path."""
    return weights.count("/") == 1 and not weights.startswith((".", "/", "~")) and not Path(weights).is_dir()


def _find(weights: str) -> Path:
    """Return the local folder of ``weights``, downloaded from the hub if it is a name that is not cached."""
    local = Path(weights).expanduser()
    if local.is_dir():
        return local
    if not is_hub_name(weights):
        raise ConfigError(
            f"model.backbone.weights={weights}: no such folder. Expected a folder as transformers saves a model, or a "
            "hub name such as microsoft/kosmos-2-patch14-224."
        )
    try:
        cached = Path(_fetch(weights, local_files_only=True))
        if any(cached.glob("*.safetensors")):  # else another program has cached the tokenizer alone
            return cached
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise ConfigError(f"model.backbone.weights={weights}: no folder, and no hub name ({error})") from error
    with _told_what_to_do(weights):
        # Ask for the model's info first: a download retries for minutes if the hub does not answer.
        HfApi().model_info(weights, timeout=_ANSWER_WITHIN_S)
        HfApi().auth_check(weights)
        return Path(_fetch(weights))


@contextmanager
def _told_what_to_do(weights: str) -> Iterator[None]:
    """Turn an error of the hub's client about ``weights`` into a ``ConfigError`` with advice."""
    given = f"model.backbone.weights={weights}: no such folder, and"
    try:
        yield
    except GatedRepoError as error:
        raise ConfigError(
            f"{given} the hub gives this model only to those who accepted its licence. Accept it on the model's page, "
            "then log in with `hf auth login` (or set HF_TOKEN)."
        ) from error
    except RepositoryNotFoundError as error:
        raise ConfigError(
            f"{given} the hub knows no model of that name, or it is private. Look at the spelling (owner/name); for a "
            "private one log in with `hf auth login` (or set HF_TOKEN)."
        ) from error
    except OfflineModeIsEnabled as error:
        raise ConfigError(
            f"{given} HF_HUB_OFFLINE is set, so the hub is not asked. Unset it, or fetch the model where there is a "
            f"network (hf download {weights} --local-dir DIR) and give its folder."
        ) from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise ConfigError(
            f"{given} the hub does not answer ({_first_line(error)}). Without a network, fetch the model elsewhere "
            f"(hf download {weights} --local-dir DIR) and give its folder."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the messages and progress bars of transformers; what matters of them is reported by this package."""
    verbosity, shows_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
