"""Who may use the policy server: loopback or a token, and the token is shown to nobody else."""

from __future__ import annotations

import http.client
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from counting_policy import CountingPolicy, expected_actions, made_image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mobile_vla.commands.cli import main
from mobile_vla.errors import UserError
from mobile_vla.serving.access import TOKEN_VARIABLE, check_access, find_address, read_token
from mobile_vla.serving.client import PolicyClient
from mobile_vla.serving.server import PolicyServer

TOKEN = "correct-horse-battery-staple"
WRONG = "correct-horse-battery-stapel"


@pytest.fixture(autouse=True)
def no_token_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer(CountingPolicy(), host="127.0.0.1", port=0, token=TOKEN) as running:
        yield running


def write_token(folder: Path, text: str, *, mode: int = 0o600) -> Path:
    file = folder / "token"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.8.9.10", "127.8.9.10"),
        ("127.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("::1", "::1"),
    ],
)
def test_loopback_needs_no_token(host: str, address: str) -> None:
    found = check_access(host=host, token=None)
    assert (found.host, found.is_loopback) == (address, True)
    with PolicyServer(CountingPolicy(), host=host, port=0) as server, PolicyClient(server.url) as client:
        np.testing.assert_array_equal(client.act(made_image(1), "go"), expected_actions([1], "go"))


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "0", "::", "::ffff:127.0.0.1", "192.0.2.7", "2001:db8::7", "255.255.255.255"]
)
def test_any_other_address_needs_one(host: str) -> None:
    with pytest.raises(UserError, match=r"other machines can reach it, so robots must show a token.*--token-file FILE"):
        PolicyServer(CountingPolicy(), host=host, port=0)
    assert not check_access(host=host, token=TOKEN).is_loopback


def test_a_host_name_is_what_it_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [answer])
    assert find_address("localhost").host == "192.0.2.7"
    assert not find_address("localhost").is_loopback


@pytest.mark.parametrize("host", ["", "no such name", "host.invalid", "x" * 5000, "1.2.3.4.5", "a\x00b"])
def test_a_host_that_is_none(host: str) -> None:
    with pytest.raises(UserError, match=r"is no name or address of a machine .*choose another with --host"):
        check_access(host=host, token=TOKEN)


def test_every_address_of_this_machine_serves_who_has_the_token() -> None:
    with PolicyServer(CountingPolicy(), host="0.0.0.0", port=0, token=TOKEN) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        with PolicyClient(url, token=TOKEN) as client:
            np.testing.assert_array_equal(client.act(made_image(1), "go"), expected_actions([1], "go"))
        with pytest.raises(UserError, match="does not let this robot in"):
            PolicyClient(url)


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, r"does not let this robot in \(HTTP 401: this policy server asks for a token, and none was sent\)"),
        (WRONG, r"HTTP 401: the token that was sent is not the one of this policy server\)"),
        (TOKEN + "e", "is not the one"),
        (TOKEN[:-1], "is not the one"),
        (TOKEN.upper(), "is not the one"),
    ],
)
def test_a_wrong_or_missing_token_is_refused_on_both_sides(
    server: PolicyServer, token: str | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(UserError, match=said) as refused:
        PolicyClient(server.url, token=token)
    assert f"PolicyClient(url, token=...) or in {TOKEN_VARIABLE}" in str(refused.value)
    assert "a robot at 127.0.0.1 was refused: " in caplog.text
    assert TOKEN[:12] not in (str(refused.value) + caplog.text).lower()


@pytest.mark.parametrize(
    "headers",
    [
        ["", "Bearer", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN} {TOKEN}", f"Bearer{TOKEN}", "Bearer \u00e9\u00ff" * 9],
        [f"Bearer {TOKEN}", f"Bearer {TOKEN}"],
    ],
)
def test_other_headers_are_no_token(server: PolicyServer, headers: list[str]) -> None:
    tries = [[header] for header in headers] if headers[0] == "" else [headers]
    for sent in tries:
        with pytest.raises(InvalidStatus) as refused:
            connect(server.url, additional_headers=[("Authorization", header) for header in sent])
        assert refused.value.response.status_code == 401, sent
        assert refused.value.response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer  {TOKEN} ", f"Api-Key {TOKEN}"])
def test_what_our_and_openpis_clients_send_is_one(server: PolicyServer, header: str) -> None:
    with connect(server.url, additional_headers={"Authorization": header}) as line:
        assert line.recv()


def test_the_environment_gives_both_sides_the_token(server: PolicyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert read_token(None) == TOKEN
    PolicyClient(server.url).close()
    with pytest.raises(UserError, match="is not the one"):
        PolicyClient(server.url, token=WRONG)


def test_a_client_with_a_token_gets_in_where_none_is_asked_for() -> None:
    with PolicyServer(CountingPolicy(), host="127.0.0.1", port=0) as server:
        PolicyClient(server.url, token=TOKEN).close()


def test_health_takes_no_token_and_has_no_secret(server: PolicyServer) -> None:
    host, port = server.url.removeprefix("ws://").split(":")
    line = http.client.HTTPConnection(host, int(port), timeout=5)
    line.request("GET", "/healthz")
    response = line.getresponse()
    assert response.status == 200
    assert TOKEN not in response.read().decode()


@pytest.mark.parametrize("url", [f"ws://robot:{TOKEN}@127.0.0.1:8000", f"ws://127.0.0.1:8000/?token={TOKEN}"])
def test_an_address_with_a_secret_in_it_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(UserError, match=r"url: holds a user name.*PolicyClient\(url, token=...\)") as refused:
        PolicyClient(url)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "\n", "short", "x" * 15, "x" * 1001, "with a space in it", "é" * 20, f"{TOKEN}\n{TOKEN}"]
)
def test_a_token_that_is_none_is_refused_and_not_shown(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, text)
    for read in (
        lambda: read_token(None),
        lambda: read_token(write_token(tmp_path, text)),
        lambda: PolicyClient("ws://127.0.0.1:1", token=text),
        lambda: PolicyServer(CountingPolicy(), host="127.0.0.1", port=0, token=text),
    ):
        with pytest.raises(UserError, match=r"expected 16 to 1000 of those, without spaces") as refused:
            read()
        assert text.strip() == "" or text.strip() not in str(refused.value)


@pytest.mark.parametrize(("mode", "is_warned_of"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_token_file_that_others_can_read_is_warned_of(
    mode: int, is_warned_of: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_token(tmp_path, f"  {TOKEN}\r\n", mode=mode)
    assert read_token(file) == TOKEN
    assert (f"run `chmod 600 {file}`" in caplog.text) == is_warned_of
    assert TOKEN not in caplog.text


def test_a_token_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing: the token cannot be read \(No such file"):
        read_token(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"is a folder, not a file"):
        read_token(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"is a named pipe, not a file"):
        read_token(tmp_path / "pipe")


def test_serve_refuses_before_it_loads_the_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"host=0\.0\.0\.0: other machines can reach it"):
        main(["serve", str(tmp_path / "no run"), "--host", "0.0.0.0"])
    with pytest.raises(SystemExit, match=r"token: holds a token of 5 characters"):
        main(["serve", str(tmp_path / "no run"), "--token-file", str(write_token(tmp_path, "short"))])
    with pytest.raises(SystemExit):
        main(["serve", str(tmp_path / "no run"), "--token", TOKEN])  # it would stand in the list of processes
    assert "unrecognized arguments: --token" in capsys.readouterr().err


def test_a_served_token_stands_in_no_output(tmp_path: Path) -> None:
    code = (
        f"import logging, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from counting_policy import CountingPolicy\n"
        "from mobile_vla.serving.access import read_token\n"
        "from mobile_vla.serving.server import serve\n"
        "logging.basicConfig(level=logging.DEBUG)\n"
        "serve(CountingPolicy(), host='0.0.0.0', port=0, token=read_token(Path(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", code, str(write_token(tmp_path, TOKEN))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2].rstrip(",").replace("0.0.0.0", "127.0.0.1")
        with PolicyClient(url, token=TOKEN) as client:
            client.act(made_image(1), "go")
        with pytest.raises(UserError):
            PolicyClient(url, token=WRONG)
        process.terminate()
        written = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "robot 0 connected" in written[1]
    assert TOKEN not in "".join(written)
    assert WRONG not in "".join(written)
