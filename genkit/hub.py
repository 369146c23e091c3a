"""Files of the Hugging Face Hub: which of a repository's are wanted, whether they are here, how they are fetched, what can go wrong.

What is fetched lands in the Hub's own cache, where other tools find it. huggingface_hub begins every file anew after an interruption, which for a file
of several GB on a slow line may never end; so the bytes are streamed here, into part files that a later try goes on with, and then linked by the library.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from genkit.core import Problem, Remote

SAFE = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")  # never pickle: *.bin, *.pt, *.ckpt, *.pkl; *.model is sentencepiece's table
PIPELINE = ("*/*.safetensors", *SAFE[1:])  # a diffusers repository keeps its parts in folders and often a second, single-file copy beside them
CHUNK = 1 << 18  # bytes between two reports
SPARE = 256 << 20  # bytes of disk that a download leaves free

log = logging.getLogger(__name__)


def patterns(family: str, remote: Remote) -> list[str]:
    """The glob patterns of the files that are wanted of a repository."""
    return list(remote.files or (PIPELINE if family == "diffusion" else SAFE))


def wanted(family: str, remote: Remote, names: Iterable[str]) -> list[str]:
    """Those of a repository's file names that are fetched: in safe formats only, whatever the catalogue says, and in one precision."""
    from huggingface_hub.utils import filter_repo_objects

    twice = None if remote.files else ["*.fp16.*", "*.non_ema.*"]
    chosen = filter_repo_objects(names, allow_patterns=patterns(family, remote), ignore_patterns=twice)
    return list(filter_repo_objects(chosen, allow_patterns=list(SAFE)))


def found(family: str, remote: Remote) -> Path | None:
    """The folder of a complete snapshot in the Hub's cache. Looks at the disk only."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    twice = None if remote.files else ["*.fp16.*", "*.non_ema.*"]
    with suppress(LocalEntryNotFoundError):  # not there, or known to be incomplete
        folder = Path(snapshot_download(remote.repo, local_files_only=True, allow_patterns=patterns(family, remote), ignore_patterns=twice))
        return folder if any(path.exists() for path in folder.rglob("*.safetensors")) else None
    return None


def home() -> Path:
    """The folder for what does not come from the Hub but belongs beside it."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "genkit"


def download(family: str, remote: Remote, report: Callable[[int, int, str], None]) -> None:
    """Fetch what is wanted of a repository; report(done, total, file) in bytes, often: what it raises ends the download, and leaves the part files.

    Raises Problem, or what the Hub and the disk raise: see explain().
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.file_download import repo_folder_name

    repo = remote.repo
    info = HfApi().model_info(repo, files_metadata=True)
    files = {sibling.rfilename: sibling for sibling in info.siblings}
    names = wanted(family, remote, files)
    if not any(name.endswith(".safetensors") for name in names):
        en, zh = "{repo} has no .safetensors file, and other formats are not opened here", "{repo} 里没有 .safetensors 文件，而这里不打开其他格式"
        raise Problem(en, zh, repo=repo)
    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    targets = {name: blobs / (files[name].lfs.sha256 if files[name].lfs else files[name].blob_id) for name in names}
    total, done = sum(files[name].size or 0 for name in names), 0
    _check_disk(blobs, total - sum(_size(target) or _size(_part(target)) for target in targets.values()), repo)
    for name, target in targets.items():
        if not target.exists():
            _fetch(repo, info.sha, name, target, lambda here, done=done, name=name: report(done + here, total, name))
        done += files[name].size or 0
        report(done, total, name)
    for revision in (info.sha, None):  # by its commit, which is what was fetched, and by its branch, where others look
        snapshot_download(repo, revision=revision, allow_patterns=names, tqdm_class=_silent())


def _fetch(repo: str, revision: str, name: str, target: Path, report: Callable[[int], None]) -> None:
    """One file; when the connection breaks, on from there, as long as each try brings something."""
    while not target.exists():
        arrived = _size(_part(target))
        try:
            _stream(repo, revision, name, target, report)
        except (Problem, OSError):
            raise
        except Exception as error:
            if _size(_part(target)) <= arrived or type(error).__module__.startswith("genkit"):
                raise
            log.info("%s: %s; going on from there", name, error)


def _stream(repo: str, revision: str, name: str, target: Path, report: Callable[[int], None]) -> None:
    """One file into its part file, from where an earlier try ended, checked and then moved to `target`."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

    part, url = _part(target), hf_hub_url(repo, name, revision=revision)
    here = _size(part)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # a range of a compressed body would not be a range of the file
    if here:
        headers["Range"] = f"bytes={here}-"
    with http_stream_backoff("GET", url, headers=headers, timeout=30, retry_on_exceptions=()) as response:
        if response.status_code != 416:  # range not satisfiable: all of it is here already
            hf_raise_for_status(response)
            here = here if response.status_code == 206 else 0
            with part.open("ab" if here else "wb") as file:
                for chunk in response.iter_bytes(CHUNK):
                    file.write(chunk)
                    here += len(chunk)
                    report(here)
    if _checksum(part, target.name) != target.name:
        part.unlink()
        raise Problem("{file} arrived damaged; start the download again", "{file} 下载后已损坏；请重新下载", file=name)
    os.replace(part, target)


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".genkit.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _checksum(path: Path, like: str) -> str:
    """The name a blob has in the Hub's cache: SHA-256 of a large file, git's SHA-1 of a small one."""
    digest = hashlib.sha256() if len(like) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _silent():
    from tqdm import tqdm

    class Silent(tqdm):
        def __init__(self, *args, name=None, **options):
            super().__init__(*args, **{**options, "disable": True})

    return Silent


# --- what can go wrong, as sentences


def amount(size: int) -> str:
    """12345678 -> "12 MB"; 0, unknown -> "? MB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB" if size else "? MB"


def _check_disk(folder: Path, need: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if need + SPARE > free:
        raise _no_disk(name, amount(need + SPARE), amount(free))


def _no_disk(name: str, need: str, there: str) -> Problem:
    return Problem(
        "no disk space for {name}: it needs {need} and {there} are free; free some space, or set HF_HOME to a folder on another disk",
        "磁盘空间不足，无法下载 {name}：需要 {need}，可用 {there}；请清理空间，或把 HF_HOME 设为另一磁盘上的文件夹",
        name=name,
        need=need,
        there=there,
    )


_SENTENCES = {
    "gated": (
        "{repo} asks you to accept its licence first: do so at {host}/{repo}, then set HF_TOKEN to a token of your account",
        "{repo} 要求先接受许可协议：请在 {host}/{repo} 接受，再把 HF_TOKEN 设为您账户的令牌",
    ),
    "file": (
        "a file of {repo} is missing at {host}; try again later, or choose another model",
        "{host} 上缺少 {repo} 的一个文件；请稍后再试，或选择其他模型",
    ),
    "repository": (
        "there is no public model {repo} at {host}; check the name, or set HF_TOKEN if it is private",
        "{host} 上没有公开模型 {repo}；请检查名称，若为私有请设置 HF_TOKEN",
    ),
    "offline": (
        "{repo} is not on this machine and HF_HUB_OFFLINE is set; unset it to download",
        "本机没有 {repo}，而且设置了 HF_HUB_OFFLINE；取消该设置后才能下载",
    ),
    "status": ("{host} answered with error {status}; try again in a few minutes", "{host} 返回错误 {status}；请过几分钟再试"),
    "network": (
        "no connection to {host}; check the network (HF_ENDPOINT sets a mirror) and start the download again: it goes on where it stopped",
        "无法连接 {host}；请检查网络（可用 HF_ENDPOINT 设置镜像）后重新下载：会从中断处继续",
    ),
}


def explain(error: Exception, remote: Remote) -> Problem:
    """What download() raised, as one clear sentence with the remedy."""
    from huggingface_hub import constants, errors

    if isinstance(error, Problem):
        return error
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return _no_disk(remote.repo, amount(remote.size), amount(0))
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.GatedRepoError):
        which = "gated"
    elif isinstance(error, errors.RemoteEntryNotFoundError):
        which = "file"
    elif status in (401, 403, 404):  # the Hub answers 401 for what does not exist, so as not to tell what is private
        which = "repository"
    elif isinstance(error, errors.OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        which = "offline"
    else:
        which = "status" if status else "network"
    return Problem(*_SENTENCES[which], repo=remote.repo, host=constants.ENDPOINT, status=status)
