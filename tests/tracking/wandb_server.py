"""Stand in for a W&B server on the loopback interface and keep what is uploaded to it or saved on it."""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal


@dataclass
class Uploads:
    """What arrived, by run id: the run's own record, its history rows by line, its files, its exit code.

    ``views`` are the workspaces and reports, by their own id.
    """

    operations: list[str] = field(default_factory=list)
    run: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    history: dict[str, dict[int, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    files: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    exit_code: dict[str, int] = field(default_factory=dict)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """Return the history in order, without wandb's own columns."""
        lines = self.history[run_id]
        return [{k: v for k, v in lines[i].items() if not k.startswith("_")} for i in sorted(lines)]

    def config(self, run_id: str) -> dict[str, Any]:
        """Return the run's config, without wandb's own entry."""
        return {key: entry["value"] for key, entry in json.loads(self.run[run_id]["config"]).items() if key != "_wandb"}


Behaviour = int | Literal["accept", "hang", "drop", "lose"]
"""What is done with a request: refused with an HTTP status, no answer ever, a closed connection, or a 200 that lies."""


class WandbServer(ThreadingHTTPServer):
    """Accept runs, or answer every request with ``refuse_with`` (an HTTP status).

    ``stream`` and ``all_requests`` say what is done with requests for rows and with all requests, ``stream_faults`` how
    often ``stream`` is; None is always. After ``down_after`` requests all are dropped.
    """

    daemon_threads = True

    def __init__(self, *, refuse_with: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.uploads = Uploads()
        self.refuse_with = refuse_with
        self.stream: Behaviour = "accept"
        self.all_requests: Behaviour = "accept"
        self.stream_faults: int | None = None
        self.down_after: int | None = None
        self.ending = threading.Event()
        self._num_requests, self._lock = 0, threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def go_down_after(self, num_requests: int) -> None:
        """Answer so many more requests, and drop all after them."""
        self.down_after = self._num_requests + num_requests

    def heal(self) -> None:
        """Accept everything from now on."""
        self.stream = self.all_requests = "accept"
        self.down_after = self.refuse_with = None

    def behaviour(self, path: str) -> Behaviour:
        """Return what is done with the next request to ``path``."""
        with self._lock:
            self._num_requests += 1
            if self.down_after is not None and self._num_requests > self.down_after:
                return "drop"
            if self.all_requests != "accept" or not path.endswith("/file_stream") or self.stream_faults == 0:
                return self.all_requests
            if self.stream_faults is not None:
                self.stream_faults -= 1
            return self.stream

    def answer_graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one GraphQL request with what wandb needs to go on."""
        named = re.search(r"(query|mutation)\s+(\w+)", request["query"])
        assert named is not None
        operation, variables = named[2], request.get("variables", {})
        self.uploads.operations.append(operation)
        if operation in ("Viewer", "GetDefaultEntity"):
            return {"viewer": {"id": "user", "entity": "us", "username": "us", "flags": "{}", "teams": {"edges": []}}}
        if operation == "UpsertBucket":
            stated = {key: value for key, value in variables.items() if value is not None}
            self.uploads.run[variables["name"]].update(stated)
            return {"upsertBucket": {"bucket": self._bucket(variables["name"]), "inserted": True}}
        if operation == "RunResumeStatus":
            known = variables["name"] in self.uploads.run
            return {"model": {"id": "project", "bucket": self._bucket(variables["name"]) if known else None}}
        if operation == "CreateRunFiles":
            where = f"{self.url}/upload/{variables['run']}"
            files = [{"name": name, "uploadUrl": f"{where}/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
        if operation in ("UpsertView2", "upsertView"):
            return self._upsert_view(variables)
        if operation == "ProjectInternalId":
            known = {"id": "project", "internalId": "42"}
            return {"project": known if variables["projectName"] in self.projects else None}
        if operation == "GetProjects":
            nodes = [{"id": name, "name": name, "entityName": "us", "isBenchmark": False} for name in self.projects]
            unknown = {"createdAt": "2026-01-01T00:00:00", "user": None}
            edges = [{"node": {"__typename": "Project"} | node | unknown} for node in nodes]
            return {
                "models": {
                    "pageInfo": {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False},
                    "edges": edges,
                }
            }
        return {}

    @property
    def projects(self) -> set[str]:
        """Names of the projects that runs were uploaded to."""
        return {run["project"] for run in self.uploads.run.values()}

    def _upsert_view(self, variables: dict[str, Any]) -> dict[str, Any]:
        view_id = variables.get("id") or f"view-{len(self.uploads.views)}"
        is_new = view_id not in self.uploads.views
        self.uploads.views[view_id] = variables
        project = {"id": "project", "name": variables["projectName"], "entityName": variables["entityName"]}
        view = {key: variables[key] for key in ("type", "name", "displayName", "description", "spec")}
        return {"upsertView": {"view": {"id": view_id, "project": project} | view, "inserted": is_new}}

    def _bucket(self, run_id: str) -> dict[str, Any]:
        run = self.uploads.run[run_id]
        lines = self.uploads.history[run_id]
        return {
            "id": run_id,
            "name": run_id,
            "displayName": run["displayName"],
            "project": {"id": "project", "name": run["project"], "entity": {"id": "entity", "name": "us"}},
            "config": run["config"],
            "summaryMetrics": "{}",
            "historyLineCount": len(lines),
            "historyTail": json.dumps([json.dumps(lines[max(lines)])] if lines else []),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "eventsTail": "[]",
            "wandbConfig": json.dumps({"t": 1}),
        }

    def keep_stream(self, run_id: str, chunk: dict[str, Any]) -> None:
        """Keep the history rows and the exit code of one file-stream request."""
        history = chunk.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        for line, text in enumerate(history["content"], start=history["offset"]):
            self.uploads.history[run_id][line] = json.loads(text)
        if chunk.get("complete"):
            self.uploads.exit_code[run_id] = chunk["exitcode"]


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer  # type: ignore[assignment]

    def do_POST(self) -> None:
        body = self._body()
        answer: dict[str, Any] = {}
        behaviour = self.server.behaviour(self.path)
        if behaviour == "hang":
            self.server.ending.wait()
        if behaviour in ("hang", "drop"):
            self.close_connection = True
            return None
        if behaviour == "lose":
            return self._reply(200, {})
        if isinstance(behaviour, int):
            return self._reply(behaviour, {"error": "refused by the test"})
        if self.server.refuse_with is not None:
            return self._reply(self.server.refuse_with, {"errors": [{"message": "refused by the test"}]})
        if self.path == "/graphql":
            answer = {"data": self.server.answer_graphql(json.loads(body))}
        elif match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.server.keep_stream(match[1], json.loads(body))
        return self._reply(200, answer)

    def do_PUT(self) -> None:
        _, _, run_id, name = self.path.split("/", 3)
        self.server.uploads.files[run_id][name] = self._body()
        self._reply(200, {})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _reply(self, status: int, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def wandb_server(*, refuse_with: int | None = None) -> Iterator[WandbServer]:
    """Serve until the block ends."""
    with WandbServer(refuse_with=refuse_with) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.ending.set()
            server.shutdown()
            thread.join()
