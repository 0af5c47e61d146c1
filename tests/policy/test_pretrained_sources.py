"""Weights that cannot be had: every reason is told in seconds, with what to do."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from mobile_vla.errors import ConfigError
from mobile_vla.policy.backbones.families.family import find_family
from mobile_vla.policy.backbones.pretrained import load_model, read_settings


class _Hub(BaseHTTPRequestHandler):
    """Answers like the hub where a model is unknown or under a licence, and not at all where it is slow."""

    def do_GET(self) -> None:
        if "slow" in self.path:
            time.sleep(30)
        if "gated" in self.path and self.path == "/api/models/lab/gated":  # what a model is, anyone may know
            self._answer(json.dumps({"id": "lab/gated", "siblings": []}).encode())
            return
        code, reason = (403, "GatedRepo") if "gated" in self.path else (404, "RepoNotFound")
        self.send_response(code)
        self.send_header("X-Error-Code", reason)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty cache of the hub's client, which has no token; what it read of the environment is set."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub"


def refusal_of(name: str) -> str:
    """Return what is said of ``name``, which must be within seconds."""
    started = time.monotonic()
    with pytest.raises(ConfigError) as refused:
        read_settings(name)
    assert time.monotonic() - started < 15
    return str(refused.value)


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_what_the_hub_refuses_is_said_in_seconds(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub)
    told = {name: refusal_of(f"lab/{name}") for name in ("unknown", "gated", "slow")}

    assert "knows no model of that name" in told["unknown"]
    assert "spelling (owner/name)" in told["unknown"]
    assert "accepted its licence" in told["gated"]
    assert "hf auth login" in told["gated"]
    assert "the hub does not answer" in told["slow"]
    assert "hf download lab/slow --local-dir DIR" in told["slow"]


@pytest.mark.usefixtures("cache")
def test_without_a_network_a_hub_name_fails_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    name, nobody_listens = "microsoft/kosmos-2-patch14-224", "http://127.0.0.1:9"
    assert "HF_HUB_OFFLINE is set, so the hub is not asked" in refusal_of(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", nobody_listens)

    assert refusal_of(name).startswith(f"model.backbone.weights={name}: no such folder, and the hub does not answer")


@pytest.mark.parametrize("weights", ["./nowhere", "/nowhere/at/all", "~/nowhere", "one", "a/b/c"])
def test_a_folder_that_is_not_there_is_told_at_once(weights: str) -> None:
    with pytest.raises(ConfigError, match=r"no such folder. Expected a folder as transformers saves a model"):
        read_settings(weights)


def test_a_name_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no folder, and no hub name"):
        read_settings("lab/a model!")


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_told(missing: str, vlms: Path, tmp_path: Path) -> None:
    import torch

    folder = shutil.copytree(vlms / "llava", tmp_path / "llava")
    (folder / missing).unlink()
    if missing == "tokenizer.json":
        (folder / "tokenizer_config.json").unlink()

    with pytest.raises(ConfigError, match=r"cannot be (read|loaded)"):
        load_model(read_settings(str(folder)), dtype=torch.float32, attention="sdpa")


def test_a_folder_whose_weights_are_damaged_is_told(vlms: Path, tmp_path: Path) -> None:
    import torch

    folder = shutil.copytree(vlms / "llava", tmp_path / "llava")
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")

    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_model(read_settings(str(folder)), dtype=torch.float32, attention="sdpa")


def test_a_folder_with_code_of_its_own_is_refused_without_asking(vlms: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(vlms / "llava", tmp_path / "llava")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "code.Theirs", "AutoModel": "code.Theirs"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('their code ran')")

    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(str(folder))


def test_what_was_fetched_once_is_found_without_a_network(vlms: Path, cache: Path) -> None:
    repository = cache / "models--lab--tiny"
    shutil.copytree(vlms / "llava", repository / "snapshots/abc")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")

    assert read_settings("lab/tiny").folder == repository / "snapshots/abc"


def test_a_model_of_another_family_is_told(vlms: Path) -> None:
    config = read_settings(str(vlms / "llava")).config
    config.model_type = "gpt2"

    with pytest.raises(ConfigError, match=r"type 'gpt2'; expected one of .*kosmos_2.* A new family is one file"):
        find_family(config)
