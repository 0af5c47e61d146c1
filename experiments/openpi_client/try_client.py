"""Try openpi's own client against ``serve``: ``python experiments/openpi_client/try_client.py RUN [FOLDER]``.

Installs openpi-client into an environment of its own in FOLDER (it needs an older numpy), serves RUN with a token, and
prints what the client got. Ends with exit code 1 where that is not what README.md beside this file says.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("openpi-client==0.1.2", "typing_extensions")  # the client imports the second without asking for it

CLIENT = """
import sys
import numpy as np
from openpi_client import action_chunk_broker, websocket_client_policy

url, token = sys.argv[1], sys.stdin.read()
failed = []


def show(what, holds, text):
    print(f"{what:<44} {'yes' if holds else 'NO'}  {text}", flush=True)
    failed.extend([] if holds else [what])


def raised(call):
    try:
        call()
    except Exception as error:
        return error


def see(value, **others):
    return {"observation/image": np.full((48, 64, 3), value, np.uint8), "prompt": "Go to the left bottle", **others}


error = raised(lambda: websocket_client_policy.WebsocketClientPolicy(url, api_key="x" * 20))
show("a wrong key is refused", "401" in str(error), error)
error = raised(lambda: websocket_client_policy.WebsocketClientPolicy(url))
show("no key is refused", "401" in str(error), error)
robot = websocket_client_policy.WebsocketClientPolicy(url, api_key=token)
metadata = robot.get_server_metadata()
show("the right key gets the metadata", metadata["server"] == "mobile_vla", sorted(metadata))
chunk = robot.infer(see(100))["actions"]
shape = (metadata["fwd_pred_next_n"], len(metadata["spec"]["actions"]))
show("infer gets the chunk", chunk.shape == shape and chunk.dtype == np.float32, f"{chunk.dtype} {chunk.shape}")
more = {"observation/state": np.zeros(8), "observation/wrist_image": see(1)["observation/image"]}
again = robot.infer(see(100, reset=True, **more))["actions"]
show("state and wrist image change nothing", np.array_equal(again, chunk), "reset: True began the episode anew")
wrong = {
    "a float image": see(1) | {"observation/image": np.zeros((48, 64, 3))},
    "a missing prompt": {"observation/image": see(1)["observation/image"]},
    "keys of another robot": {"images": {"cam_high": see(1)["observation/image"]}, "state": np.zeros(14)},
    "an array of texts": see(1, task=np.array(["left"])),
    "a text of 2 MB": see(1, prompt="go" * 10**6),
    "an image of 2,000,000 x 1": see(1) | {"observation/image": np.zeros((2_000_000, 1, 3), np.uint8)},
}
for what, observation in wrong.items():
    error = raised(lambda: robot.infer(observation))
    show(f"{what} is raised", isinstance(error, RuntimeError), str(error).splitlines()[-1][:110])
show("the connection lives on", robot.infer(see(7))["actions"].shape == shape, "")
broker = action_chunk_broker.ActionChunkBroker(robot, action_horizon=3)
steps = [broker.infer(see(7))["actions"] for _ in range(3)]
show("openpi's ActionChunkBroker deals it out", all(step.shape == shape[1:] for step in steps), steps[0])
sys.exit(bool(failed))
"""


def main() -> int:
    """Return the exit code of the client's trial."""
    run = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else scratch) / "openpi_environment"
        python = folder / "bin" / "python"
        if not python.exists():
            venv.create(folder, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        token = secrets.token_urlsafe(32)
        serve = [sys.executable, "-m", "mobile_vla", "serve", run, "--port", "0"]
        environment = {**os.environ, "MOBILE_VLA_TOKEN": token}
        with subprocess.Popen(serve, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                url = re.search(r"ws://\S+?(?=[,\s])", server.stdout.readline())
                assert url, "the server did not start: see above"
                return subprocess.run(
                    [python, "-c", CLIENT, url.group()], input=token, text=True, check=False
                ).returncode
            finally:
                server.terminate()
                server.communicate()


if __name__ == "__main__":
    sys.exit(main())
