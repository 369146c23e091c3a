"""Folders of weights in the Hub's own format, config.json + model.safetensors: written whole or not at all, read with an error that helps."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genkit import core
from genkit.core import Problem

REMEDY = ("restore the folder from the repository, or train it again", "请从代码仓库恢复该文件夹，或重新训练")


@contextmanager
def written(path: Path | str) -> Iterator[Path]:
    """A new folder beside `path` to write into; it takes the place of `path` when the block ends well and disappears when it does not.

    Raises Problem for a full disk or a place that cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            yield new
            if path.exists():
                path.rename(Path(scratch) / "old")
            new.rename(path)
    except Exception as error:
        raise _unwritable(path, error) or error from None


def _unwritable(path: Path, error: Exception) -> Problem | None:
    # safetensors tells of a full disk in the words of its own exception, without errno
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        free = shutil.disk_usage(path.parent).free // 2**20
        return Problem("the disk is full: {path} was not saved ({free} MiB free)", "磁盘已满：{path} 未保存（剩余 {free} MiB）", path=path, free=free)
    if isinstance(error, OSError):
        return Problem("{path} could not be saved: {error}", "无法保存 {path}：{error}", path=path, error=error)
    return None


def write(model, path: Path | str) -> None:
    """Save a PyTorchModelHubMixin module as config.json + model.safetensors in folder `path`, replacing it. Raises Problem for a full disk."""
    from safetensors.torch import save_model

    with written(path) as folder:
        save_model(model, str(folder / "model.safetensors"))
        (folder / "model.safetensors").chmod(0o644)  # safetensors creates it for its owner alone
        (folder / "config.json").write_text(json.dumps(model._hub_mixin_config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def config(path: Path | str) -> dict:
    """config.json of a folder of weights. Raises Problem if it is missing or damaged."""
    file = Path(path) / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Problem("{file} is missing; {remedy}", "缺少 {file}；{remedy}", file=file, remedy=REMEDY) from None
    except (OSError, ValueError) as error:
        raise Problem("{file} is damaged ({error}); {remedy}", "{file} 已损坏（{error}）；{remedy}", file=file, error=error, remedy=REMEDY) from None
    return found


def read(make, path: Path | str):
    """make(**config) with the weights of folder `path`, in eval mode, on the CPU. Raises Problem that names a missing, damaged or foreign file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    settings, file = config(path), Path(path) / "model.safetensors"
    try:
        model = core.build(lambda: make(**settings), 0)  # its initialisers would draw from the generator that everybody shares
        load_model(model, str(file), strict=True)
    except FileNotFoundError:
        raise Problem("{file} is missing; {remedy}", "缺少 {file}；{remedy}", file=file, remedy=REMEDY) from None
    except (SafetensorError, OSError) as error:
        raise Problem("{file} is damaged ({error}); {remedy}", "{file} 已损坏（{error}）；{remedy}", file=file, error=error, remedy=REMEDY) from None
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        first = str(error).splitlines()[0][:200]
        raise Problem(
            "{file} belongs to another network ({error}); {remedy}", "{file} 属于另一个网络（{error}）；{remedy}", file=file, error=first, remedy=REMEDY
        ) from None
    return model.eval()
