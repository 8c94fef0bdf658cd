"""A Hugging Face Hub for tests: the HTTP routes that huggingface_hub uses to publish and fetch models, kept in memory.

    with HubServer() as server:
        server.add_file("org/name", "config.json", b"{}")
        ...  # a client process with HF_ENDPOINT=server.url, HF_HUB_DISABLE_XET=1, HF_TOKEN=server.token

Reads are open, writes need the token. No X-Xet-Hash is sent, so that files are transferred over plain HTTP.
"""

import base64
import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]
LFS_SUFFIXES = (".safetensors", ".bin", ".pth")


class HubServer:
    """The server, listening on 127.0.0.1 inside `with`.

    Attributes:
        repos: repository -> revision -> file name -> content.
        requests: every request so far, as (method, path, JSON body or None).
    """

    def __init__(self, token: str = "dummy") -> None:
        self.token = token
        self.repos: dict[str, dict[str, Files]] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.truncated: dict[tuple[str, str], bool] = {}
        self.failures: dict[tuple[str, str], list[int]] = {}
        self.renamed: dict[str, str] = {}
        self.delays: dict[str, float] = {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def add_file(self, repo_id: str, name: str, content: bytes, revision: str = "main") -> None:
        """Add a file, and its repository and revision if needed."""
        self.repos.setdefault(repo_id, {"main": {}}).setdefault(revision, {})[name] = content

    def truncate(self, repo_id: str, name: str, *, announce_whole: bool = True) -> None:
        """From now on send only half of a file; HEAD still announces its whole length, and so does GET if wanted."""
        self.truncated[repo_id, name] = announce_whole

    def fail(self, method: str, path: str, status: int, times: int = 100) -> None:
        """Answer the next requests of this method, whose path contains `path`, with an HTTP status."""
        self.failures[method, path] = [status] * times

    def rename(self, repo_id: str, new: str) -> None:
        """From now on redirect requests for the old name to the new one."""
        self.renamed[repo_id] = new

    def delay(self, path: str, seconds: float) -> None:
        """Wait before each answer to a path that contains `path`."""
        self.delays[path] = seconds

    def commit(self, repo_id: str, revision: str) -> str:
        """The commit hash of a revision, derived from its content, as in X-Repo-Commit."""
        files = self.repos[repo_id][revision]
        digest = hashlib.sha1(f"{repo_id}@{revision}".encode())
        for name in sorted(files):
            digest.update(name.encode() + hashlib.sha1(files[name]).digest())
        return digest.hexdigest()


class _Answer(Exception):
    """Ends a request early: an HTTP status with the Hub's X-Error-Code and X-Error-Message."""

    def __init__(self, status: int, code: str = "", message: str = "", retry: str = "", location: str = "") -> None:
        self.status = status
        headers = {"X-Error-Code": code, "X-Error-Message": message, "Retry-After": retry, "Location": location}
        self.headers = {name: value for name, value in headers.items() if value}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def do_GET(self) -> None:
        self._serve({r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<rev>.+))?": self._info, **self._resolve_route})

    def do_HEAD(self) -> None:
        self._serve(self._resolve_route)

    def do_POST(self) -> None:
        self._serve(
            {
                r"/api/repos/create": self._create,
                r"/api/validate-yaml": self._validate_yaml,
                r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<rev>.+)": self._preupload,
                r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch": self._lfs_batch,
                r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<rev>.+)": self._commit,
            },
            write=True,
        )

    def do_PUT(self) -> None:
        self._serve({r"/lfs/(?P<oid>[0-9a-f]{64})": self._lfs_put})  # like a signed URL, which needs no token

    @property
    def _resolve_route(self) -> dict[str, Any]:
        return {r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<name>.+)": self._resolve}

    def _serve(self, routes: dict[str, Any], write: bool = False) -> None:
        self.body = self._read()
        path = unquote(urlsplit(self.path).path)
        is_json = "application/json" in self.headers.get("Content-Type", "")
        self.hub.requests.append((self.command, path, json.loads(self.body) if is_json else None))
        try:
            self._misbehave(path)
            if write and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
                raise _Answer(401, message="Invalid credentials in Authorization header")
            for pattern, answer in routes.items():
                if match := re.fullmatch(pattern, path):
                    answer(**{key: value for key, value in match.groupdict().items() if value is not None})
                    return
            raise _Answer(501, message=f"{self.command} {path} is not a route of this server")
        except _Answer as error:
            self._send(error.status, b"", error.headers)

    def _misbehave(self, path: str) -> None:
        """Delay, fail or redirect a request, as the test has asked for."""
        for part, seconds in self.hub.delays.items():
            if part in path:
                time.sleep(seconds)
        for (method, part), left in self.hub.failures.items():
            if method == self.command and part in path and left:
                raise _Answer(left.pop(), message="the server said so", retry="0")
        for old, new in self.hub.renamed.items():
            if f"/{old}/" in path:
                raise _Answer(307, location=path.replace(f"/{old}/", f"/{new}/"))

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, status: int, body: bytes, headers: dict[str, str], announced: int | None = None) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body) if announced is None else announced)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.close_connection = self.close_connection or announced is not None

    def _json(self, answer: Any, status: int = 200) -> None:
        self._send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _files(self, repo: str, rev: str) -> tuple[str, Files]:
        """The revision's name and files; `rev` is a branch or a commit hash."""
        if repo not in self.hub.repos:
            raise _Answer(404, "RepoNotFound", "Repository not found")
        for name, files in self.hub.repos[repo].items():
            if rev in (name, self.hub.commit(repo, name)):
                return name, files
        raise _Answer(404, "RevisionNotFound", f"Invalid rev id: {rev}")

    def _info(self, repo: str, rev: str = "main") -> None:
        branch, files = self._files(repo, rev)
        siblings = [{"rfilename": name} for name in files]
        self._json({"id": repo, "sha": self.hub.commit(repo, branch), "siblings": siblings, "tags": []})

    def _resolve(self, repo: str, rev: str, name: str) -> None:
        branch, files = self._files(repo, rev)
        headers = {"X-Repo-Commit": self.hub.commit(repo, branch)}
        if name not in files:
            error = _Answer(404, "EntryNotFound", "Entry not found")
            error.headers |= headers
            raise error
        whole, start = files[name], 0
        headers |= {"ETag": f'"{hashlib.sha256(whole).hexdigest()}"', "Accept-Ranges": "bytes"}
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        status = 206 if "Content-Range" in headers else 200
        announce_whole = self.hub.truncated.get((repo, name)) if self.command == "GET" else None
        body = whole[start:] if announce_whole is None else whole[start : len(whole) // 2]
        self._send(status, body, headers, announced=len(whole) - start if announce_whole else None)

    def _create(self) -> None:
        payload = json.loads(self.body)
        repo = f"{payload.get('organization') or 'me'}/{payload['name']}"
        exists = repo in self.hub.repos
        self.hub.repos.setdefault(repo, {"main": {}})
        self._json({"url": f"{self.hub.url}/{repo}"}, status=409 if exists else 200)

    def _validate_yaml(self) -> None:
        self._json({"errors": [], "warnings": []})

    def _preupload(self, repo: str, rev: str) -> None:
        self._files(repo, rev)
        names = [file["path"] for file in json.loads(self.body)["files"]]
        modes = {name: "lfs" if name.endswith(LFS_SUFFIXES) else "regular" for name in names}
        self._json({"files": [{"path": n, "uploadMode": mode, "shouldIgnore": False} for n, mode in modes.items()]})

    def _lfs_batch(self, repo: str) -> None:
        objects = [{"oid": entry["oid"], "size": entry["size"]} for entry in json.loads(self.body)["objects"]]
        for entry in objects:
            if entry["oid"] not in self.hub.blobs:  # the Hub sends no upload action for a file that it has already
                entry["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}", "header": {}}}
        self._json({"transfer": "basic", "objects": objects})

    def _lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Answer(400, message="the content does not have this sha256")
        self.hub.blobs[oid] = self.body
        self._json({})

    def _commit(self, repo: str, rev: str) -> None:
        branch, files = self._files(repo, rev)
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        oid = self.hub.commit(repo, branch)
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}"})

    def log_message(self, format: str, *args: Any) -> None:
        pass
