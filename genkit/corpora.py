"""The texts that the language models learn. One string each; where it comes from is logged.

First found, first used: GENKIT_DATA_DIR (tinyshakespeare.txt, tang-poems.jsonl.gz), the Hub, and for "python" what Python itself carries.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from genkit.core import Problem, pick

log = logging.getLogger(__name__)
FILES = {"shakespeare": "tinyshakespeare.txt", "tang": "tang-poems.jsonl.gz", "python": ""}
# data set, branch, files in the order of the text; the branch with parquet files is made by the Hub itself
HUB = {
    "shakespeare": ("karpathy/tiny_shakespeare", "main", [f"data/{part}-00000-of-00001.parquet" for part in ("train", "validation", "test")]),
    "tang": ("xmj2002/tang_poems", "refs/convert/parquet", ["default/train/0000.parquet", "default/test/0000.parquet"]),
}
FORMS = {(4, 5): "五绝", (4, 7): "七绝", (8, 5): "五律", (8, 7): "七律"}  # (lines, characters a line) of regulated verse; the rest is 古
HEADING = 10  # characters of a title that is kept; longer ones are occasions and dedications


def available() -> list[str]:
    """The names of the corpora that are on this machine."""
    return [name for name in FILES if _is_here(name)]


def _is_here(name: str) -> bool:
    try:
        return bool(corpus(name))
    except Problem:
        return False


def corpus(name: str, download: bool = False) -> str:
    """The whole text; Tang poems one a line, as poem() writes them. `download` allows the Hub to be asked.

    Raises Problem for an unknown name, and where the text is not to be had.
    """
    pick(FILES, name, "corpus", "语料")
    return _corpus(name, bool(download), os.getenv("GENKIT_DATA_DIR", ""))


def split(text: str) -> tuple[str, str]:
    """The first 90 % to learn, the last 10 % to validate: nanoGPT's split."""
    cut = int(0.9 * len(text))
    return text[:cut], text[cut:]


@cache
def _corpus(name: str, download: bool, folder: str) -> str:
    for find in (_folder, _hub, _python):
        found = find(name, download)
        if found:
            text, where = found
            log.info("corpus %s: %s characters from %s", name, f"{len(text):,}", where)
            return text
    raise Problem(
        "the corpus {name} is not here: set GENKIT_DATA_DIR to a folder with {file}, or allow the download of {repo}; 'python' is always here",
        "找不到语料 {name}：请将 GENKIT_DATA_DIR 设为含有 {file} 的文件夹，或允许下载 {repo}；python 语料总是可用",
        name=name,
        file=FILES[name],
        repo=HUB[name][0],
    )


def _folder(name: str, download: bool):
    path = Path(os.getenv("GENKIT_DATA_DIR", "")) / FILES[name]
    if not os.getenv("GENKIT_DATA_DIR") or not path.is_file():
        return None
    try:
        if name == "tang":
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                return poems(json.loads(line) for line in lines), path
        return path.read_text(encoding="utf-8"), path
    except (OSError, EOFError, ValueError, KeyError) as error:
        en, zh = "{path} cannot be read ({error}); download it again or unset GENKIT_DATA_DIR", "无法读取 {path}（{error}）；请重新下载，或取消 GENKIT_DATA_DIR"
        raise Problem(en, zh, path=path, error=error) from error


def _hub(name: str, download: bool):
    """The data set's parquet files; None where they are not cached and must not or cannot be fetched."""
    if name not in HUB:
        return None
    import pyarrow.parquet
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, branch, files = HUB[name]
    try:
        paths = [hf_hub_download(repo, file, repo_type="dataset", revision=branch, local_files_only=not download) for file in files]
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        log.info("corpus %s: nothing from the Hub (%s)", name, type(error).__name__)
        return None
    rows = [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()]
    return (poems(rows) if name == "tang" else "".join(row["text"] for row in rows)), f"the Hub's {repo}"


def _python(name: str, download: bool):
    if name != "python":
        return None
    from pydoc_data.topics import topics  # the text of help("while") and the like, PSF licence

    return "\n\n".join(topics[key] for key in sorted(topics)), "Python's pydoc_data.topics"


def poems(rows: Iterable[dict]) -> str:
    """Rows {"title", "text" or "paragraphs"} -> the regular ones among them, each poem() on a line of its own."""
    written = (poem(row["title"], row.get("text") or row["paragraphs"], bare=i % 8 == 0) for i, row in enumerate(rows))
    return "".join(f"{line}\n" for line in written if line)


def poem(title: str, text: str, bare: bool = False) -> str:
    """'五绝·春夜：' (form, title) and the verses; '五绝：' where the title is long, verses alone where `bare`; '' for an irregular poem.

    Regular: 4 to 16 lines, an even number, all of five or all of seven characters. So a prompt may give a form, a title, a first line, or all of them.
    """
    text = re.sub(r"[\[\]\s',]", "", text)  # [ ] mark characters that editors put in; ', between the paragraphs of the Hub's rows
    lines = [line for line in re.split("[，。？！；、：]", text) if line]
    length = len(lines[0]) if lines else 0
    if length not in (5, 7) or len(lines) % 2 or not 4 <= len(lines) <= 16 or any(len(line) != length or not line.isalpha() for line in lines):
        return ""
    if bare:
        return text
    title = re.sub(r"[\[\]]| .*", "", title)  # "帝京篇十首 一": the number within a series goes
    form = FORMS.get((len(lines), length), "五古" if length == 5 else "七古")
    return f"{form}·{title}：{text}" if 0 < len(title) <= HEADING else f"{form}：{text}"
