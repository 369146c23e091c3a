"""Train a variant from the command line, in steps that survive an interruption.

    python -m genkit.train gan dcgan
    accelerate launch --multi_gpu --num_processes 2 -m genkit.train gan dcgan              two GPUs
    accelerate launch --multi_gpu --num_processes 2 -m genkit.train gan mlp --device cpu   two CPU processes

The checkpoint folder keeps the state to go on from, a preview of every event, log.jsonl with the metrics and run.json with the settings.
The same command again goes on where it stopped. At the end the model is saved in the format that load() and the rest of the ecosystem open.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import math
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import genkit
from genkit import core, labels
from genkit.core import Event, Problem, pick


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        core.set_device(args.device)
        module = importlib.import_module(f"genkit.{pick((*genkit.FAMILIES, 'classifier'), args.family, 'family', '模型家族')}")
        pick(module.VARIANTS, args.variant, f"{args.family} variant", f"{args.family} 变体")
        settings = _settings(args)
    except Problem as problem:
        print(problem.en, file=sys.stderr)
        return 2
    checkpoint = Path(args.checkpoint or Path("runs", f"{args.family}-{args.variant}"))
    try:
        return _run(module, args, settings, checkpoint)
    except Problem as problem:
        print(problem.en, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = core.kept(checkpoint)
        if _leads():
            how = f"step {kept} is kept in {checkpoint}: the same command goes on from there" if kept else "no step was kept yet"
            print(f"\nstopped; {how}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m genkit.train", description=__doc__.splitlines()[0])
    parser.add_argument("family", help=f"{', '.join(genkit.FAMILIES)} or classifier")
    parser.add_argument("variant", help="a name in the family's VARIANTS")
    for name, kind, text in (
        ("steps", _positive, "optimizer steps"),
        ("every", _positive, "steps between checkpoints"),
        ("batch-size", _positive, "per process"),
        ("lr", float, "learning rate"),
    ):
        parser.add_argument(f"--{name}", type=kind, help=f"{text} (default: the variant's own)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--checkpoint", help="folder to keep the state in and to go on from (default: runs/FAMILY-VARIANT)")
    parser.add_argument("--out", help="folder for the trained model (default: weights/FAMILY/VARIANT)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--corpus", help="text only: what to read (default: the variant's own)")
    parser.add_argument("--no-download", action="store_true", help="use only data that is on this machine")
    return parser


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def _settings(args: argparse.Namespace) -> dict:
    """The keyword arguments of train() that shape what is learnt."""
    settings = {"steps": args.steps, "batch_size": args.batch_size, "lr": args.lr, "seed": args.seed}
    if args.corpus and args.family != "text":
        raise Problem("--corpus is for the text family only", "--corpus 只用于 text 家族")
    return {**settings, "corpus": args.corpus} if args.corpus else settings


def _leads() -> bool:
    """Whether this is the main process: accelerate launch sets RANK, long before train() makes the process group."""
    return os.getenv("RANK", "0") == "0"


def _run(module: ModuleType, args: argparse.Namespace, settings: dict, checkpoint: Path) -> int:
    """Pump train(); the main process alone shows, writes and saves."""
    leads = _leads()
    if leads:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("genkit").setLevel(logging.INFO)
    before = _same_run(checkpoint, {"family": args.family, "variant": args.variant, **settings})
    began, event = time.monotonic(), None
    events = module.train(args.variant, every=args.every, checkpoint=checkpoint, download=not args.no_download, **settings)
    with _bar(f"{args.family} {args.variant}", disable=not leads) as bar:
        for event in events:
            if leads:
                seconds = before + time.monotonic() - began
                _show(bar, event)
                _write(checkpoint, event, args, {"family": args.family, "variant": args.variant, **settings, "seconds": round(seconds, 1)})
    if leads:
        out = Path(args.out or core.WEIGHTS / args.family / args.variant)
        getattr(module, "record", lambda *_, **__: None)(event.model, args.variant, seconds, **settings)
        module.save(event.model, out)
        print(f"{event.steps} steps in {seconds / 60:.1f} minutes on {core.device()}; saved in {out}")
    if os.getenv("WORLD_SIZE", "1") != "1":
        from accelerate import PartialState

        PartialState().wait_for_everyone()
        PartialState().destroy_process_group()
    return 0


def _same_run(checkpoint: Path, settings: dict) -> float:
    """Seconds that the run in `checkpoint` has taken so far. Raises Problem if it was started with other settings."""
    if not core.kept(checkpoint) or not (checkpoint / "run.json").exists():
        return 0.0
    kept = json.loads((checkpoint / "run.json").read_text(encoding="utf-8"))
    seconds = kept.pop("seconds")
    if kept != settings:
        changed = ", ".join(f"{name} {kept.get(name)}" for name in {**kept, **settings} if kept.get(name) != settings.get(name))
        raise Problem(
            "{folder} holds another run ({changed}); give the same settings to go on, or another --checkpoint to begin anew",
            "{folder} 中是另一次训练（{changed}）；用相同的设置继续，或换一个 --checkpoint 重新开始",
            folder=checkpoint,
            changed=changed,
        )
    return seconds


def _bar(title: str, *, disable: bool):
    from tqdm import tqdm

    return tqdm(desc=title, unit="step", disable=disable, dynamic_ncols=True, smoothing=0.1)


def _show(bar, event: Event) -> None:
    if bar.total is None:  # the first event says where the run begins and ends
        bar.reset(total=event.steps)
        bar.initial = bar.n = event.step
    bar.set_postfix({name: f"{value:.4g}" for name, value in event.metrics.items()}, refresh=False)
    bar.update(event.step - bar.n)


def _write(checkpoint: Path, event: Event, args: argparse.Namespace, run: dict) -> None:
    """The preview, the metrics and the settings of one event."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "run.json").write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    with (checkpoint / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"step": event.step, **event.metrics}) + "\n")
    name = f"step-{event.step:07d}"
    if isinstance(event.preview, str):
        (checkpoint / f"{name}.txt").write_text(event.preview, encoding="utf-8")
    elif event.preview:
        sheet = labels.mark(_sheet(event.preview), model=f"{args.family} {args.variant}", seed=args.seed, step=event.step)
        labels.save_png(sheet, checkpoint / f"{name}.png")


def _sheet(pictures: list):
    """Pictures side by side, in rows of ten at most."""
    from PIL import Image

    columns, width, height = min(10, len(pictures)), max(p.width for p in pictures), max(p.height for p in pictures)
    sheet = Image.new("RGB", (columns * width, math.ceil(len(pictures) / columns) * height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
