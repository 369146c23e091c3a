"""What every family shares: training events, problems told in two languages, the device, private randomness.

This file stays light: torch and accelerate are imported inside the functions that need them, so the page can start first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


_importing, _imported = threading.RLock(), {}
loading = threading.RLock()  # held while networks are made: from_pretrained() of transformers switches the tying of weights off meanwhile, for every thread


def lazily(package: str, homes: dict[str, str]) -> Callable[[str], Any]:
    """The __getattr__ of a package (PEP 562): names that come from its modules when they are first asked for, name -> module.

    One import at a time: of two threads that begin with torch, transformers and diffusers at once, each may find a half of the other's.
    """

    def from_home(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = f"{package}.{homes[name]}"
        if home not in _imported:
            with _importing:
                _imported[home] = importlib.import_module(home)
        return getattr(_imported[home], name)

    return from_home


@dataclass(frozen=True)
class Event:
    """One report of a running train(); the first comes at step 0, the last at step == steps."""

    step: int
    steps: int
    metrics: dict[str, float]  # means since the previous event: {"loss_d": 1.31, "loss_g": 0.74}; {} at step 0
    model: Any = field(repr=False)  # in eval mode: stop listening at any event and it is yours
    preview: list[Image] | str = field(repr=False)  # what sample() gives now, from the same seed every time
    exam: Any = field(default=None, repr=False)  # how good it is by now, where the family examines itself while it trains


class Control:
    """The settings of a training that may be changed while it runs: `now`, a frozen dataclass that is replaced as a whole."""

    def __init__(self, settings: Any):
        self.now = settings

    def change(self, **changes: Any) -> None:
        """Replace these fields; they count from the next step on. Raises TypeError for an unknown one."""
        self.now = dataclasses.replace(self.now, **changes)


@dataclass(frozen=True)
class Remote:
    """One pretrained model of the closed catalogue: where it lives, what it costs, how it likes to be used."""

    repo: str  # Hugging Face repository id
    size: int  # bytes to download, approximately
    licence: str
    defaults: dict[str, Any] = field(default_factory=dict)  # settings of sample() that suit it
    files: tuple[str, ...] = ()  # allow_patterns of the download; () takes the whole repository
    memory: int = 0  # bytes of memory it needs to run, approximately; 0: about its size
    parts: dict[str, int] = field(default_factory=dict)  # parameters of each of its networks, where it has several


class Problem(ValueError):
    """Something a person can mend. It says what was wrong, what was expected and the remedy, in English and Chinese.

    `Problem("unknown {what} '{name}'", "未知的{what}“{name}”", what=..., name=...)`: str() is the English sentence, .zh the Chinese one.
    A value given as an (English, Chinese) pair is put in by language.
    """

    def __init__(self, en: str, zh: str, **values: Any):
        def fill(template: str, language: int) -> str:
            chosen = {key: value[language] if isinstance(value, tuple) else value for key, value in values.items()}
            return template.format(**chosen)

        self.en, self.zh = fill(en, 0), fill(zh, 1)
        super().__init__(self.en)


def pick(table, name, en: str, zh: str):
    """table[name] of a dict, or name itself out of a tuple; a Problem that lists the valid names if it is not there."""
    if isinstance(name, str) and name in table:
        return table[name] if isinstance(table, dict) else name
    raise Problem(
        "unknown {what} '{name}'; choose one of: {choices}",
        "没有名为“{name}”的{what}；可选：{choices}",
        what=(en, zh),
        name=str(name)[:60],
        choices=", ".join(table),
    )


def number(value, low: float, high: float, name: str, *, whole: bool = False):
    """value as a float (an int if whole), moved into [low, high]. Raises Problem if it is not a finite number."""
    try:
        result = float(value)
        if isinstance(value, bool) or result != result:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise Problem("{name} must be a number, got '{value}'", "{name} 必须是数字，收到的是“{value}”", name=name, value=str(value)[:60]) from None
    result = min(max(result, low), high)
    return int(result) if whole else float(result)


_device = "auto"


def set_device(name: str) -> None:
    """Choose auto, cpu, cuda or mps for everything loaded from now on. Raises Problem for another name or an absent device."""
    global _device
    pick(("auto", "cpu", "cuda", "mps"), name, "device", "设备")
    if name in ("cuda", "mps"):
        import torch

        if not (torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()):
            raise Problem("this machine has no {name} device; use --device auto or cpu", "本机没有 {name} 设备；请使用 --device auto 或 cpu", name=name)
    _device = name


def device() -> torch.device:
    """The device in use. "auto" prefers cuda, then mps, then cpu; on ZeroGPU the page's own process stays on the CPU."""
    import torch

    if _device != "auto":
        return torch.device(_device)
    if torch.cuda.is_available() and not os.getenv("SPACES_ZERO_GPU"):
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def seeded(*parts: int | str) -> torch.Generator:
    """A private CPU generator. One int gives torch's own stream of that seed; more parts (seed, step, rank) are hashed together.

    On the CPU always: its noise is the same on every machine. Never the global generator: visitors share the process.
    """
    import torch

    if len(parts) == 1 and isinstance(parts[0], int):
        return torch.Generator().manual_seed(parts[0] % 2**63)
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest) >> 1)


def build(make, seed: int):
    """make() with torch's module initialisers drawing from `seed`: they know only the global generator, so it is lent out under a lock."""
    import torch

    with loading, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def accelerator(**options):
    """An accelerate.Accelerator on device(): one process in the page, as many as `accelerate launch` starts on the command line."""
    from accelerate import Accelerator

    return Accelerator(cpu=device().type == "cpu", **options)


def kept(checkpoint: Path | None) -> int:
    """The step that keep() wrote last into `checkpoint`; 0 if there is none."""
    file = Path(checkpoint or "") / "step.txt"
    return int(file.read_text()) if checkpoint is not None and file.exists() else 0


def resume(accelerator, checkpoint: Path | None) -> int:
    """Load the newest state kept in `checkpoint` into everything that `accelerator` has prepared; the step it was kept at, 0 if none."""
    step = kept(checkpoint)
    if step:
        accelerator.load_state(str(Path(checkpoint) / f"state-{step}"))
    return step


def keep(accelerator, checkpoint: Path | None, step: int) -> None:
    """Write the state of everything that `accelerator` has prepared, so that resume() goes on from `step`. None writes nothing.

    Each state has a folder of its own, and the older ones go last: whenever the process dies, one whole state is there.
    """
    if checkpoint is None:
        return
    folder = Path(checkpoint)
    accelerator.save_state(str(folder / f"state-{step}"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (folder / "step.new").write_text(str(step))
        os.replace(folder / "step.new", folder / "step.txt")
        for old in set(folder.glob("state-*")) - {folder / f"state-{step}"}:
            shutil.rmtree(old, ignore_errors=True)
