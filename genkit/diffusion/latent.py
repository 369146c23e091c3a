"""mini-sd: its four stages in order, and the last of them, the U-Net on latents.

B pictures, T = 32 tokens, E = 192 text features. Latents (B, 4, 16, 16).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from genkit import core, emoji, images, swift
from genkit.diffusion import networks
from genkit.diffusion.compression import VALIDATION, pictures, train_autoencoder, train_decoder
from genkit.diffusion.schooling import captions, tokens, train_text_encoder
from genkit.diffusion.training import Average, learners, optimize, velocity

LEVELS = torch.arange(1000)  # of noise
PROMPTS = (
    "a cat on a white background",
    "a red apple on a blue background",
    "a rocket on a black background",
    "a green heart",
    "two yellow stars on a purple background",
    "a house on a green background",
    "a fish and a crown",
    "一只熊猫，粉色背景",
    "一个红色的房子，黄色背景",
    "三颗草莓",
)


def train(config, steps, every, batch_size, lr, seed, checkpoint, download) -> Iterator[core.Event]:
    """Autoencoder, decoder, text encoder, U-Net; a stage that is finished in the checkpoint folder is read from there.

    Previews: reconstructions while the autoencoder learns, then what the pipeline draws for PROMPTS.
    """
    art = emoji.Emoji(download=download)
    report = _Report(steps, seed, art)
    parts = report.parts
    lengths = [stage["steps"] for stage in (config.autoencoder, config.decoder, config.text_encoder)]
    if sum(lengths) >= steps:  # a trial run: as many steps for each stage
        lengths = [steps // 4] * 3
    stages = (
        ("autoencoder", "vae", lambda n, at: train_autoencoder(config.autoencoder, n, every, seed, at, art)),
        ("decoder", "vae", lambda n, at: train_decoder(config.decoder, n, every, seed, at, parts["vae"], art)),
        ("text_encoder", "text_encoder", lambda n, at: train_text_encoder(config.text_encoder, n, every, seed, at, parts["tokenizer"])),
        ("unet", "unet", lambda n, at: train_unet(config, n, every, batch_size, lr, seed, at, parts, art)),
    )
    before = 0
    for (name, part, stage), length in zip(stages, (*lengths, steps - sum(lengths)), strict=True):
        for step, metrics, parts[part] in stage(length, checkpoint / name if checkpoint else None):
            if checkpoint and step:  # the sum over the stages, for those who ask core.kept()
                (checkpoint / "step.txt").write_text(str(before + step))
            yield from report(before + step, metrics, pictured=part == "vae")
        before += length


class _Report:
    """The events of the run: what the parts make together so far. The end of one stage is the beginning of the next, and told once."""

    def __init__(self, steps: int, seed: int, art: emoji.Emoji):
        self.steps, self.seed, self.art, self.last = steps, seed, art, -1
        tokenizer = networks.tokenizer([text for _, text in captions("tokenizer", 20_000)])
        encoder = core.build(lambda: networks.text_encoder(len(tokenizer)), seed).eval()
        self.parts = {"vae": None, "text_encoder": encoder, "tokenizer": tokenizer, "unet": core.build(networks.unet, seed).eval()}

    def __call__(self, step: int, metrics: dict, *, pictured: bool = False) -> Iterator[core.Event]:
        if step > self.last:
            self.last = step
            pipe = networks.pipeline(**self.parts).to(self.parts["vae"].device)
            yield core.Event(step, self.steps, metrics, pipe, self.reconstructions() if pictured else self.drawings(pipe))

    @torch.no_grad()
    def reconstructions(self) -> list:
        vae = self.parts["vae"]
        x = pictures(self.art, self.seed, range(VALIDATION, VALIDATION + 10)).to(vae.device)
        return images.to_pil(torch.cat([x, vae.decode(vae.encode(x).latent_dist.mean).sample]))

    def drawings(self, pipe) -> list:
        noise = [core.seeded(self.seed, "preview", index) for index in range(len(PROMPTS))]
        return pipe(list(PROMPTS), num_inference_steps=10, guidance_scale=4.0, generator=noise).images


def train_unet(config, steps, every, batch_size, lr, seed, checkpoint, parts, art) -> Iterator[tuple[int, dict, nn.Module]]:
    """Yield (step, metrics, averaged U-Net). parts: the trained vae and text encoder, which stay as they are, and the tokenizer."""
    accelerator = core.accelerator()
    vae, encoder = parts["vae"].to(accelerator.device), parts["text_encoder"].to(accelerator.device).requires_grad_(False)
    unet = core.build(networks.unet, seed).eval()
    net, *optimizers = accelerator.prepare(unet, *learners(unet, lr))
    average = Average(accelerator, unet)
    lesson = (
        None if core.kept(checkpoint) == steps else Lesson(latents(art, vae, seed, config.pictures, checkpoint, accelerator), seed, encoder, parts["tokenizer"])
    )

    def loss_at(step):
        x_t, t, features, v = lesson.batch(batch_size, step, accelerator.process_index)
        with swift.half(accelerator.device):
            return F.mse_loss(net(x_t, t, features).sample.float(), v)

    schedule = {"lr": lr, "warmup": min(100 / max(steps, 1), 0.1), "hold": 0.5}
    for step, metrics in optimize(accelerator, net, optimizers, loss_at, steps, every, checkpoint, then=average.follow, **schedule):
        yield step, metrics, average.shown


def latents(art, vae, seed: int, count: int, checkpoint, accelerator) -> torch.Tensor:
    """Latents (count, 4, 16, 16) float16 of the first `count` training pictures; computed once, and kept beside the checkpoint."""
    file = checkpoint / f"latents-{count}.safetensors" if checkpoint else None
    if file is not None and not file.exists() and accelerator.is_main_process:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"latents": _encode(art, vae, seed, count)}, str(file.with_suffix(".new")))
        file.with_suffix(".new").replace(file)
    accelerator.wait_for_everyone()
    return load_file(str(file))["latents"] if file is not None else _encode(art, vae, seed, count)


@torch.no_grad()
def _encode(art, vae, seed, count):
    parts = (pictures(art, seed, range(begin, min(begin + 64, count))) for begin in range(0, count, 64))
    return torch.cat([vae.encode(part.to(vae.device)).latent_dist.mean.half().cpu() for part in parts]).contiguous()


class Lesson:
    """Batches for the U-Net: kept latents, a fresh caption for each picture, a tenth of the captions left out for guidance."""

    def __init__(self, kept: torch.Tensor, seed: int, encoder, tokenizer):
        self.kept, self.seed, self.encoder, self.tokenizer = kept, seed, encoder, tokenizer
        self.scenes = [emoji.random_scene(random.Random(f"emoji {seed} {index}")) for index in range(len(kept))]
        self.alphas_cumprod = networks.scheduler().alphas_cumprod.to(encoder.device)

    @torch.no_grad()
    def batch(self, size: int, *key, times: torch.Tensor = LEVELS) -> tuple[torch.Tensor, ...]:
        """x_t, t (some of `times`), text features and v of one batch, the same for the same key."""
        rng, words, device = core.seeded(self.seed, "unet", *key), random.Random(f"words {self.seed} {key}"), self.encoder.device
        indices = torch.randint(len(self.kept), (size,), generator=rng)
        texts = [emoji.caption(self.scenes[i], words, "zh" if words.random() < 1 / 3 else "en") for i in indices.tolist()]
        texts = ["" if words.random() < 0.1 else text for text in texts]
        x0 = self.kept[indices].float().to(device)
        noise = torch.randn(x0.shape, generator=rng).to(device)
        t = times[torch.randint(len(times), (size,), generator=rng)].to(device)
        features = self.encoder(tokens(self.tokenizer, texts).to(device)).last_hidden_state
        x_t, v = velocity(x0, noise, t, self.alphas_cumprod)
        return x_t, t, features, v
