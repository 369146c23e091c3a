"""load(), save(): every text-to-image folder of diffusers, placed on the device that there is."""

from __future__ import annotations

import copy
import json
import threading
from pathlib import Path

import torch
from diffusers import AutoPipelineForText2Image, DDIMPipeline, DiffusionPipeline
from safetensors import SafetensorError, safe_open

from genkit import core, folders
from genkit.core import Problem
from genkit.diffusion import PRETRAINED, VARIANTS, heat, kinds

DEFAULTS = {"num_inference_steps": 20, "guidance_scale": 4.0}

# --- loading and saving


def load(source) -> DiffusionPipeline:
    """A pipeline, from a variant's name or a folder, on core.device(): half precision on a GPU, in parts where its memory is short.

    Raises Problem that names a missing or damaged file.
    """
    folder = core.WEIGHTS / "diffusion" / source if source in VARIANTS else Path(source)
    kind = _checked(folder)
    device = core.device()
    small = kind == "DDIMPipeline" or (folder / "unet").is_dir() and _bytes(folder) < 100 << 20
    dtype = torch.float32 if device.type == "cpu" or small else torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
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
    return _place(pipe, device)


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


def _place(pipe, device: torch.device):
    """On the device if it fits there with some room to work, else part by part, else layer by layer."""
    if device.type != "cuda":
        return pipe.to(device)
    sizes = [sum(p.numel() * p.element_size() for p in part.parameters()) for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    free, _ = torch.cuda.mem_get_info()
    if sum(sizes) * 1.2 < free:
        return pipe.to(device)
    if max(sizes) * 1.3 < free:
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


def defaults(pipe) -> dict:
    """num_inference_steps and guidance_scale that suit a pipeline: the catalogue's, if its folder is a snapshot of one of those models."""
    name = str(getattr(pipe.config, "_name_or_path", ""))
    remotes = [remote for remote in PRETRAINED.values() if remote.repo in name or remote.repo.replace("/", "--") in name]
    return {**DEFAULTS, **(remotes[0].defaults if remotes else {})}


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
