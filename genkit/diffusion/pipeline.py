"""load(), sample(), save(): every text-to-image folder of diffusers behind one signature, with previews while it draws.

Stable Diffusion's latents are (1, C, h, w); Flux packs 2 x 2 of them into one token, (1, h w / 4, 4 C).
"""

from __future__ import annotations

import copy
import inspect
import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoPipelineForText2Image, DDIMPipeline, DiffusionPipeline
from PIL.Image import Image
from safetensors import SafetensorError, safe_open

from genkit import core, folders, images
from genkit.core import Problem
from genkit.diffusion import PRETRAINED, VARIANTS

DEFAULTS = {"num_inference_steps": 20, "guidance_scale": 4.0}
PREVIEWS = 8  # at most so many pictures on the way


@dataclass(frozen=True)
class Step:
    """What the picture looks like after `step` of `steps`."""

    image: Image
    step: int
    steps: int


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
        pipe = opener.from_pretrained(folder, dtype=dtype, variant=variant, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=not small)
    except ValueError as error:
        raise Problem(
            "{folder} does not open as a text-to-image model: {error}", "{folder} 不能作为文生图模型打开：{error}", folder=folder, error=error
        ) from error
    pipe.set_progress_bar_config(disable=True)
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
    return _read_in_turn(pipe)


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


# --- drawing


def sample(pipe, prompt: str, *, negative_prompt: str = "", num_inference_steps: int = 20, guidance_scale=None, seed: int = 0) -> Iterator[Step]:
    """Draw one picture; yield previews on the way, the last one is the picture. Closing the generator stops the drawing at its next step.

    guidance_scale None takes what suits the model. For the digits variant the prompt is a string of digits, drawn side by side.
    The same seed gives the same picture. Raises Problem for an empty prompt, or one longer than the model can read.
    """
    prompt, negative_prompt = str(prompt).strip(), str(negative_prompt or "").strip()
    if not prompt:
        raise Problem("the prompt is empty; write what to draw", "提示词是空的；请写下想画什么")
    guidance = defaults(pipe)["guidance_scale"] if guidance_scale is None else core.number(guidance_scale, 0, 30, "guidance_scale")
    steps = core.number(num_inference_steps, 1, 100, "num_inference_steps", whole=True)
    seed = core.number(seed, 0, 2**63 - 1, "seed", whole=True)
    if isinstance(pipe, DDIMPipeline):
        from genkit.diffusion import pixel

        yield from pixel.sample(pipe, prompt, steps, guidance, seed)
        return
    mine = _own(pipe)
    for text in (prompt, negative_prompt):
        _check_length(mine, text)
    yield from _background(lambda report: _draw(mine, prompt, negative_prompt, steps, guidance, seed, report))


def defaults(pipe) -> dict:
    """num_inference_steps and guidance_scale that suit a pipeline: the catalogue's, if its folder is a snapshot of one of those models."""
    name = str(getattr(pipe.config, "_name_or_path", ""))
    remotes = [remote for remote in PRETRAINED.values() if remote.repo in name or remote.repo.replace("/", "--") in name]
    return {**DEFAULTS, **(remotes[0].defaults if remotes else {})}


def _check_length(pipe, text: str) -> None:
    """Raise Problem if the most patient of the pipeline's tokenizers would cut the text off."""
    tokenizers = [part for name, part in pipe.components.items() if name.startswith("tokenizer") and part is not None]
    longest = inspect.signature(pipe.__call__).parameters.get("max_sequence_length")
    most = defaults(pipe).get("max_sequence_length", longest.default if longest else 10_000)
    lengths = [(len(tokenizer(text, verbose=False).input_ids), min(tokenizer.model_max_length, most)) for tokenizer in tokenizers]
    count, limit = min(lengths, key=lambda pair: pair[0] - pair[1])
    if count > limit:
        raise Problem(
            "the prompt is too long: this model reads {limit} tokens, and it has {count}; shorten it",
            "提示词太长：该模型最多读取 {limit} 个词元，而它有 {count} 个；请缩短",
            limit=limit,
            count=count,
        )


def _own(pipe):
    """The same networks for one visitor of many: a scheduler of one's own, which keeps the place in the trajectory, and tokenizers read in turn."""
    if hasattr(pipe, "turn"):  # drawn with by one at a time
        return pipe
    mine = copy.copy(pipe)
    mine.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    return _read_in_turn(mine)


def _read_in_turn(pipe):
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


class _Closed(BaseException):
    """Nobody wants the picture any more."""


def _background(draw: Callable) -> Iterator[Step]:
    """Run draw(report) in a thread and yield what it reports; once the generator is closed, report() raises there.

    It computes with as many cores as every other picture, whatever runs beside it: the order of a sum depends on that, and so its last digit.
    """
    reports: queue.Queue = queue.Queue()
    closed, end, cores = threading.Event(), object(), torch.get_num_threads()

    def report(step=None):
        if closed.is_set():
            raise _Closed
        if step is not None:
            reports.put(step)

    def work():
        try:
            torch.set_num_threads(cores)  # a new thread asks MKL otherwise, which may think of the load
            draw(report)
            reports.put(end)
        except BaseException as error:  # handed to whoever waits for the picture
            reports.put(error)

    thread = threading.Thread(target=work, name="draw", daemon=True)
    thread.start()
    try:
        while (item := reports.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()


def _draw(pipe, prompt, negative_prompt, steps, guidance, seed, report) -> None:
    """Call the pipeline with those of the settings that its class knows, and report as it goes."""
    known = inspect.signature(pipe.__call__).parameters
    settings = {"prompt": prompt, "num_inference_steps": steps, "guidance_scale": guidance, "generator": core.seeded(seed)}
    if negative_prompt and "negative_prompt" in known:
        settings["negative_prompt"] = negative_prompt
        if "true_cfg_scale" in known and guidance > 1:  # Flux: its guidance_scale is an input of the network, this is the real one
            settings["true_cfg_scale"] = guidance
    if "max_sequence_length" in defaults(pipe) and "max_sequence_length" in known:
        settings["max_sequence_length"] = defaults(pipe)["max_sequence_length"]
    between = max(1, -(-steps // PREVIEWS))

    def on_step_end(pipe, step, t, values):
        report()
        if (step + 1) % between == 0 and step + 1 < steps:
            report(Step(_preview(pipe, values["latents"]), step + 1, steps))
        return values

    with getattr(pipe, "turn", nullcontext()):
        report()
        try:
            result = pipe(**settings, callback_on_step_end=on_step_end)
        finally:
            pipe.maybe_free_model_hooks()
    report(Step(result.images[0], steps, steps))


@torch.no_grad()
def _preview(pipe, latents: torch.Tensor) -> Image:
    """The picture in the latents so far: decoded where that is quick, else the first three channels of the latents as colours."""
    if latents.ndim == 3:  # Flux; its pictures are square unless asked otherwise
        side = int(latents.shape[1] ** 0.5) * 2 * pipe.vae_scale_factor
        latents = pipe._unpack_latents(latents, side, side, pipe.vae_scale_factor)
    quick = latents.shape[-1] <= 32 or (latents.device.type == "cuda" and not hasattr(pipe, "turn"))
    if quick:
        scaled = latents / pipe.vae.config.scaling_factor + (getattr(pipe.vae.config, "shift_factor", None) or 0)
        return images.to_pil(pipe.vae.decode(scaled.to(pipe.vae.dtype)).sample)[0]
    colours = latents[:, :3].float()
    return images.to_pil(F.interpolate(colours / colours.abs().amax().clamp_min(1e-6), scale_factor=8))[0]
