"""A tiny model as the files of a zip, and a Hub to push it to."""

import base64
import io
import json
import re
import zipfile

import pytest

from demos.gan import keep as gan_keep
from genkit import core, gan, keep
from tests.hub import Quiet, Server

TOKEN = "hf_" + "visitorsSecret" * 3
CARD = keep.Card("Tiny", "A tiny GAN.", {"seed": 5, "rules": "a|b"}, "no data", "pictures = 1\n", ("gan",))
TINY = {"arch": "mlp", "latent_dim": 3, "channels": 4}


@pytest.fixture(scope="module")
def model():
    return core.build(lambda: gan.GAN(**TINY), 5).eval()


@pytest.fixture(scope="module")
def parts(model, tmp_path_factory) -> dict[str, bytes]:
    """The files of a kept model, by name."""
    with keep.packed(lambda path: gan.save(model, path), CARD) as folder:
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def zip_of(files: dict[str, bytes], **options) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data, **options)
    return made.getvalue()


def bring(tmp_path, data: bytes, name: str = "brought.zip"):
    (tmp_path / name).write_bytes(data)
    return keep.read([tmp_path / name], gan_keep.form())


def drawn(model):
    return next(gan.sample(model, "0123456789", n=10, seed=3))


class Hub(Server):
    """Takes what a push sends, as the Hub does: create, pre-upload, large files, commit, delete. `refuse`: {pattern of the path: status}."""

    def __init__(self):
        self.repos, self.large, self.files, self.tokens, self.refuse = {}, {}, {}, set(), {}
        super().__init__(Handler)


class Handler(Quiet):
    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(iter(self.chunk, b""))
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def chunk(self) -> bytes:
        size = int(self.rfile.readline(), 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def answer(self, status: int, **found):
        data = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_PUT(self):
        self.server.large[self.path.rpartition("/")[2]] = self.body()
        self.answer(200)

    def do_DELETE(self):
        asked = json.loads(self.body())
        del self.server.repos[f"{asked['organization']}/{asked['name']}"]
        self.answer(200)

    def do_POST(self):
        body, path, hub = self.body(), self.path.partition("?")[0], self.server
        hub.tokens.add(self.headers.get("Authorization"))
        for pattern, status in hub.refuse.items():
            if re.search(pattern, path):
                return self.answer(status, error="no")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, error="Invalid username or password.")
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.answer(200, warnings=[], errors=[])
        if "/preupload/" in path:
            modes = {True: "lfs", False: "regular"}
            asked = [file["path"] for file in json.loads(body)["files"]]
            return self.answer(200, files=[{"path": name, "uploadMode": modes[name.endswith(".safetensors")], "shouldIgnore": False} for name in asked])
        if path.endswith("/objects/batch"):
            objects = [{**one, "actions": {"upload": {"href": f"{hub.url}/large/{one['oid']}"}}} for one in json.loads(body)["objects"]]
            return self.answer(200, transfer="basic", objects=objects)
        return self.commit([json.loads(line) for line in body.splitlines()])

    def create(self, asked):
        if asked["name"] in {name.rpartition("/")[2] for name in self.server.repos}:
            return self.answer(409, error="You already created this model repo")
        name = f"{asked['organization'] or 'pupil'}/{asked['name']}"
        self.server.repos[name] = asked["visibility"]
        return self.answer(200, url=f"{self.server.url}/{name}", name=name, id="1")

    def commit(self, lines):
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.large[value["oid"]]
        return self.answer(200, success=True, commitOid="a" * 40, commitUrl=f"{self.server.url}/pupil/x/commit/{'a' * 40}", hookOutput="")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    hub = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the Hub's other way for large files, with a server of its own
    yield hub
    hub.shutdown()
    hub.server_close()
