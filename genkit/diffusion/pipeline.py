"""load(), save(): every text-to-image folder of diffusers, placed on the device that there is."""

from __future__ import annotations

import copy
import json
import math
import threading
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoPipelineForText2Image, DDIMPipeline, DiffusionPipeline
from safetensors import SafetensorError, safe_open

from genkit import core, folders, models
from genkit.core import Problem, Remote
from genkit.diffusion import PRETRAINED, VARIANTS, heat, kinds
from genkit.diffusion.placing import Plan, plan

DEFAULTS = {"num_inference_steps": 20, "guidance_scale": 4.0}

# --- loading and saving


def load(source) -> DiffusionPipeline:
    """A pipeline, from a variant's name or a folder, on core.device(), in the precision and the parts that plan() finds room for; its `plan` says which.

    Raises Problem that names a missing or damaged file.
    """
    folder = core.WEIGHTS / "diffusion" / source if source in VARIANTS else Path(source)
    kind = _checked(folder)
    device = core.device()
    small = kind == "DDIMPipeline" or (folder / "unet").is_dir() and _bytes(folder) < 100 << 20
    chosen = planned(_entry(folder), device.type)
    dtype = torch.float32 if small else getattr(torch, chosen.dtype)
    variant = None if any(".fp16." not in file.name for file in folder.glob("*/*.safetensors")) else "fp16"
    opener = DDIMPipeline if kind == "DDIMPipeline" else AutoPipelineForText2Image
    try:
        # to save memory diffusers would build without weights, for every thread of the process: not while others build theirs
        with core.loading:
            pipe = opener.from_pretrained(folder, dtype=dtype, variant=variant, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=not small)
    except ValueError as error:
        raise Problem(
            "{folder} does not open as a text-to-image model: {error}", "{folder} 不能作为文生图模型打开：{error}", folder=folder, error=error
        ) from error
    pipe.set_progress_bar_config(disable=True)
    if kind != "DDIMPipeline":
        heat.install(kinds.net(pipe))
    return pipe.to(device) if small else _place(pipe, device, chosen)


def planned(entry: Remote, device: str) -> Plan:
    """plan() on this machine as it is now."""
    bf16 = device != "cuda" or torch.cuda.is_bf16_supported()
    return plan(entry, device, models.free_memory(device), half="bfloat16" if bf16 else "float16")


def _entry(folder: Path) -> Remote:
    """What plan() asks about a pipeline, from its folder: the catalogue's best settings, the parameters from the heads of the weight files."""
    known = _remote(str(folder))
    return Remote("", 0, "", known.defaults if known else {}, parts={part.name: _parameters(part) for part in folder.iterdir() if part.is_dir()})


def _parameters(part: Path) -> int:
    files = sorted(part.glob("*.safetensors"))
    count = 0
    for file in [file for file in files if ".fp16." in file.name] or files:
        with safe_open(file, "pt") as weights:
            count += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118  no mapping
    return count


def _checked(folder: Path) -> str:
    """The pipeline class that the folder names, after a look at every weight file: is it there, and whole?"""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(folder / "model_index.json", error) from None
    for name, parts in index.items():
        if not isinstance(parts, list) or parts[0] is None:
            continue
        if not (folder / name).is_dir():
            raise _broken(folder / name, "missing")
        if (folder / name / "config.json").exists() or parts[1].endswith(("Model", "AutoencoderKL", "Encoder")):
            _check_weights(folder / name)
    return index.get("_class_name", "")


def _check_weights(folder: Path) -> None:
    names = {path.name for path in folder.glob("*.safetensors")}
    for shards in folder.glob("*.safetensors.index*.json"):
        names |= set(json.loads(shards.read_text(encoding="utf-8"))["weight_map"].values())
    for name in names or {"diffusion_pytorch_model.safetensors"}:
        try:
            with safe_open(folder / name, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise _broken(folder / name, error) from None


def _broken(file: Path, error) -> Problem:
    if not file.exists():
        return Problem("{file} is missing; {remedy}", "缺少 {file}；{remedy}", file=file, remedy=folders.REMEDY)
    return Problem("{file} is damaged ({error}); {remedy}", "{file} 已损坏（{error}）；{remedy}", file=file, error=error, remedy=folders.REMEDY)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*.safetensors"))


def _place(pipe, device: torch.device, chosen: Plan):
    """On the device as it was planned: whole, part by part, or layer by layer; pictures decoded one by one, and in tiles where memory is short."""
    pipe.plan = chosen
    if isinstance(getattr(pipe, "vae", None), AutoencoderKL):
        pipe.vae.enable_slicing()
        if chosen.tiled:
            pipe.vae.enable_tiling()
    if chosen.way == "whole":
        return pipe.to(device)
    if chosen.way == "parts":
        pipe.enable_model_cpu_offload()
    else:
        pipe.enable_sequential_cpu_offload()
    pipe.turn = threading.Lock()  # its parts come and go: one picture at a time
    return read_in_turn(pipe)


def save(pipe: DiffusionPipeline, path) -> None:
    """Write a trained pipeline as a diffusers folder, replacing it. Raises Problem for a full disk.

    The U-Net and the autoencoder are stored as float16: diffusers makes float32 of them unless told otherwise. The text encoder stays
    float32, because transformers would open it as float16 and the parts would not fit together.
    """
    parts = {name: part for name, part in pipe.components.items() if name in ("unet", "vae") and part is not None}
    if "vae" in parts:
        halves = {name: copy.deepcopy(part).cpu().half() for name, part in parts.items()}
        pipe = type(pipe)(**{**pipe.components, **halves}, requires_safety_checker=False)
    with folders.written(path) as folder:
        pipe.save_pretrained(folder)
        for file in folder.rglob("*.safetensors"):
            file.chmod(0o644)  # safetensors creates it for its owner alone
        for file in folder.glob("*/config.json"):  # of parts that were loaded diffusers tells from where on this machine
            said = json.loads(file.read_text(encoding="utf-8"))
            if said.pop("_name_or_path", None):
                file.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def defaults(pipe) -> dict:
    """num_inference_steps and guidance_scale that suit a pipeline: the catalogue's, if its folder is a snapshot of one of those models."""
    folder = Path(getattr(pipe.config, "_name_or_path", ""))
    known = VARIANTS.get(folder.name) if folder.parent == core.WEIGHTS / "diffusion" else _remote(str(folder))
    return {**DEFAULTS, **(known.defaults if known else {})}


def _remote(folder: str) -> Remote | None:
    """The entry of the catalogue that a folder of the Hub's cache is a snapshot of."""
    return next((remote for remote in PRETRAINED.values() if remote.repo in folder or remote.repo.replace("/", "--") in folder), None)


# --- one pipeline, many visitors


def read_in_turn(pipe):
    """The pipeline, its tokenizers now safe to be called from many threads."""
    for name, part in pipe.components.items():
        if name.startswith("tokenizer") and part is not None and not isinstance(part, _InTurn):
            setattr(pipe, name, _InTurn(part))
    return pipe


class _InTurn:
    """A tokenizer that one thread at a time calls.

    It sets its padding and truncation and only then reads: with another thread's call in between, a prompt is padded as that one wished.
    """

    _turn = threading.Lock()

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __call__(self, *args, **options):
        with self._turn:
            return self._tokenizer(*args, **options)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._tokenizer, name)
        return _InTurn(found) if callable(found) else found
