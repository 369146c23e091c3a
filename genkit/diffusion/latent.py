"""mini-sd in four stages: the autoencoder, its decoder alone, the text encoder that is taught what captions mean, the U-Net on latents.

B pictures, T = 32 tokens, E = 192 text features. Pictures x (B, 3, 64, 64) in [-1, 1], latents (B, 4, 16, 16).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from genkit import core, emoji, images
from genkit.diffusion import networks
from genkit.diffusion.training import set_lr

VALIDATION = 1_000_000  # picture numbers from here on are never trained on


def pictures(art: emoji.Emoji, seed: int, indices) -> torch.Tensor:
    """Training pictures by number: (B, 3, 64, 64) in [-1, 1]."""
    levels = np.stack([art.example(seed, index)[0] for index in indices])
    return torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def psnr(vae, x: torch.Tensor) -> float:
    """Mean over the pictures of the peak signal-to-noise ratio of their reconstructions, in dB."""
    recon = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in x.split(50)])
    error = (recon.clamp(-1, 1) - x).pow(2).mean(dim=(1, 2, 3))
    return float((10 * torch.log10(4 / error.clamp_min(1e-8))).mean())


def train_autoencoder(config, steps, every, seed, checkpoint, art) -> Iterator[tuple[int, dict, torch.nn.Module]]:
    """Yield (step, metrics, autoencoder) at step 0, every `every` steps and at the end; the last one is whitened."""
    accelerator = core.accelerator()
    vae = core.build(networks.autoencoder, seed)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=config["lr"], betas=(0.9, 0.99), weight_decay=1e-4)
    net, optimizer = accelerator.prepare(vae, optimizer)
    start = core.resume(accelerator, checkpoint)
    validation = pictures(art, seed, range(VALIDATION, VALIDATION + 100))
    size, rank, world = config["batch_size"], accelerator.process_index, accelerator.num_processes
    losses = []
    yield start, {}, vae.eval()
    for step in range(start, steps):
        vae.train()
        set_lr(optimizer, config["lr"], step, steps)
        x = pictures(art, seed, range((step * world + rank) * size, (step * world + rank + 1) * size)).to(accelerator.device)
        with torch.enable_grad():
            loss = _autoencoder_loss(net, x, core.seeded(seed, "autoencoder", step, rank))
            accelerator.backward(loss)
        accelerator.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % every == 0 and step + 1 < steps:
            vae.eval()
            metrics = {"loss": sum(losses) / len(losses), "psnr": psnr(vae, validation.to(accelerator.device))}
            losses = []
            core.keep(accelerator, checkpoint, step + 1)
            yield step + 1, metrics, vae
        if step + 1 == steps:
            core.keep(accelerator, checkpoint, steps)
    vae.eval()
    networks.whiten(vae, pictures(art, seed, range(VALIDATION + 1000, VALIDATION + 2000)).to(accelerator.device))
    yield steps, {"psnr": psnr(vae, validation.to(accelerator.device))}, vae


def _autoencoder_loss(net, x, rng):
    """Squared and absolute error, and a small KL that keeps the latents smooth and near unit variance. x (B, 3, 64, 64)."""
    model = getattr(net, "module", net)
    latents = model.encode(x).latent_dist
    noise = torch.randn(latents.mean.shape, generator=rng).to(x.device)
    recon = model.decode(latents.mean + latents.std * noise).sample
    kl = 0.5 * (latents.mean**2 + latents.var - 1 - latents.logvar).mean()
    return F.mse_loss(recon, x) + 0.1 * F.l1_loss(recon, x) + 1e-4 * kl


def train_decoder(config, steps, every, seed, checkpoint, vae, art) -> Iterator[tuple[int, dict, nn.Module]]:
    """Yield (step, metrics, autoencoder) while the decoder alone learns on; the latents, and so what the U-Net learns, stay as they are.

    A little noise on the latents prepares it for what a U-Net makes.
    """
    accelerator = core.accelerator()
    decoder = nn.ModuleDict({"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder})
    vae.requires_grad_(False)
    decoder.requires_grad_(True)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=config["lr"], betas=(0.9, 0.99), weight_decay=1e-4)
    vae = vae.to(accelerator.device)
    net, optimizer = accelerator.prepare(vae, optimizer)
    start = core.resume(accelerator, checkpoint)
    validation = pictures(art, seed, range(VALIDATION, VALIDATION + 100)).to(accelerator.device)
    size, rank, losses = config["batch_size"], accelerator.process_index, []
    yield start, {}, vae.eval()
    for step in range(start, steps):
        set_lr(optimizer, config["lr"], step, steps)
        first = VALIDATION // 2 + (step * accelerator.num_processes + rank) * size
        x = pictures(art, seed, range(first, first + size)).to(accelerator.device)
        with torch.no_grad():
            z = vae.encode(x).latent_dist.mean
            z = z + 0.1 * torch.randn(z.shape, generator=core.seeded(seed, "decoder", step, rank)).to(z.device)
        with torch.enable_grad():
            recon = vae.decode(z).sample
            loss = F.mse_loss(recon, x) + 0.1 * F.l1_loss(recon, x)
            accelerator.backward(loss)
        accelerator.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == steps:
            core.keep(accelerator, checkpoint, step + 1)
            yield step + 1, {"loss": sum(losses) / len(losses), "psnr": psnr(vae, validation)}, vae
            losses = []


# --- the text encoder: what does this caption say?

NOTHING = "nothing"
ANSWERS = {
    "thing": tuple(emoji.THINGS),
    "other thing": (NOTHING, *emoji.THINGS),
    "tint": (NOTHING, *emoji.TINTS),
    "other tint": (NOTHING, *emoji.TINTS),
    "background": tuple(emoji.BACKGROUNDS),
    "number": (1, 2, 3),
}


def answers(scene: emoji.Scene) -> list[int]:
    """What a scene shows, as a class index for each question of ANSWERS."""
    (thing, tint), (other, other_tint) = (*scene.objects, (NOTHING, None))[:2]
    said = (thing, other, tint or NOTHING, other_tint or NOTHING, scene.background, scene.count)
    return [choices.index(one) for choices, one in zip(ANSWERS.values(), said, strict=True)]


def captions(seed: str | int, count: int) -> list[tuple[emoji.Scene, str]]:
    """Scenes with one caption each, a third of them Chinese."""
    rng = random.Random(f"captions {seed}")
    scenes = [emoji.random_scene(rng) for _ in range(count)]
    return [(scene, emoji.caption(scene, rng, "zh" if rng.random() < 1 / 3 else "en")) for scene in scenes]


def tokens(tokenizer, texts: list[str]) -> torch.Tensor:
    """(B, T) token ids, padded and cut to T."""
    return tokenizer(texts, padding="max_length", max_length=networks.TOKENS, truncation=True, return_tensors="pt").input_ids


class Pupil(nn.Module):
    """A text encoder with one linear head per question, for the time of its schooling."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(nn.Linear(networks.FEATURES, len(choices)) for choices in ANSWERS.values())

    def forward(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """ids (B, T) -> logits (B, T, choices) per question."""
        features = self.encoder(ids).last_hidden_state
        return [head(features) for head in self.heads]


def _text_loss(logits, ids, targets):
    """Cross-entropy of all answers at the end-of-text positions, and the share of answers that are right there.

    With causal attention those positions, and only those, have seen the whole caption. ids (B, T), targets (B, questions).
    """
    ends = (ids == 1) & (torch.arange(ids.shape[1], device=ids.device) > 0)
    loss, right = 0.0, []
    for one, target in zip(logits, targets.T, strict=True):
        target = target[:, None].expand_as(ids)[ends]
        loss = loss + F.cross_entropy(one[ends], target)
        right.append((one[ends].argmax(-1) == target).float().mean())
    return loss, torch.stack(right).min()


def train_text_encoder(config, steps, every, seed, checkpoint, tokenizer) -> Iterator[tuple[int, dict, nn.Module]]:
    """Yield (step, metrics, text encoder); metrics: loss, and `said`, the accuracy of the worst question on captions that were never trained on."""
    accelerator = core.accelerator()
    pupil = core.build(lambda: Pupil(networks.text_encoder(len(tokenizer))), seed)
    optimizer = torch.optim.AdamW(pupil.parameters(), lr=config["lr"], betas=(0.9, 0.98), weight_decay=0.01)
    net, optimizer = accelerator.prepare(pupil, optimizer)
    start = core.resume(accelerator, checkpoint)
    rank, losses = accelerator.process_index, []
    yield start, {}, pupil.encoder.eval()
    for step in range(start, steps):
        pupil.train()
        set_lr(optimizer, config["lr"], step, steps, warmup=0.1)
        ids, targets = _caption_batch(tokenizer, f"{seed} {step} {rank}", config["batch_size"], accelerator.device)
        with torch.enable_grad():
            loss, _ = _text_loss(net(ids), ids, targets)
            accelerator.backward(loss)
        accelerator.clip_grad_norm_(pupil.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == steps:
            pupil.eval()
            metrics, losses = {"loss": sum(losses) / len(losses), "said": _said(pupil, tokenizer, seed, accelerator.device)}, []
            core.keep(accelerator, checkpoint, step + 1)
            yield step + 1, metrics, pupil.encoder


def _caption_batch(tokenizer, seed, count, device):
    pairs = captions(seed, count)
    return tokens(tokenizer, [text for _, text in pairs]).to(device), torch.tensor([answers(scene) for scene, _ in pairs], device=device)


@torch.no_grad()
def _said(pupil, tokenizer, seed, device) -> float:
    ids, targets = _caption_batch(tokenizer, f"{seed} validation", 200, device)
    return float(_text_loss(pupil(ids), ids, targets)[1])


# --- the U-Net, on latents that are kept


def latents(art, vae, seed: int, count: int, checkpoint, accelerator) -> torch.Tensor:
    """Latents (count, 4, 16, 16) float16 of the first `count` training pictures; computed once, and kept beside the checkpoint."""
    file = checkpoint / f"latents-{count}.safetensors" if checkpoint else None
    if file is not None and not file.exists() and accelerator.is_main_process:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"latents": _encode(art, vae, seed, count, accelerator.device)}, str(file.with_suffix(".new")))
        file.with_suffix(".new").replace(file)
    accelerator.wait_for_everyone()
    return load_file(str(file))["latents"] if file is not None else _encode(art, vae, seed, count, accelerator.device)


@torch.no_grad()
def _encode(art, vae, seed, count, device):
    parts = (pictures(art, seed, range(begin, min(begin + 64, count))) for begin in range(0, count, 64))
    return torch.cat([vae.encode(part.to(device)).latent_dist.mean.half().cpu() for part in parts]).contiguous()


def velocity(x0, noise, t, alphas_cumprod):
    """x_t and the v to be learnt at levels t (B,): x_t = a x0 + s noise, v = a noise - s x0. Salimans & Ho 2022, appendix D."""
    a = alphas_cumprod[t].sqrt().view(-1, 1, 1, 1)
    s = (1 - alphas_cumprod[t]).sqrt().view(-1, 1, 1, 1)
    return a * x0 + s * noise, a * noise - s * x0


class Lesson:
    """Batches for the U-Net: kept latents, a fresh caption for each picture, a tenth of the captions left out for guidance."""

    def __init__(self, kept, seed, encoder, tokenizer, device):
        self.kept, self.seed, self.encoder, self.tokenizer, self.device = kept, seed, encoder, tokenizer, device
        self.scenes = [emoji.random_scene(random.Random(f"emoji {seed} {index}")) for index in range(len(kept))]
        self.alphas_cumprod = networks.scheduler().alphas_cumprod.to(device)

    @torch.no_grad()
    def batch(self, size: int, *key) -> tuple[torch.Tensor, ...]:
        """x_t, t, text features and v of one batch, the same for the same key."""
        rng, words = core.seeded(self.seed, "unet", *key), random.Random(f"words {self.seed} {key}")
        indices = torch.randint(len(self.kept), (size,), generator=rng)
        texts = [emoji.caption(self.scenes[i], words, "zh" if words.random() < 1 / 3 else "en") for i in indices.tolist()]
        texts = ["" if words.random() < 0.1 else text for text in texts]
        x0 = self.kept[indices].float().to(self.device)
        noise = torch.randn(x0.shape, generator=rng).to(self.device)
        t = torch.randint(1000, (size,), generator=rng).to(self.device)
        features = self.encoder(tokens(self.tokenizer, texts).to(self.device)).last_hidden_state
        x_t, v = velocity(x0, noise, t, self.alphas_cumprod)
        return x_t, t, features, v


def train_unet(config, steps, every, batch_size, lr, seed, checkpoint, parts, art) -> Iterator[tuple[int, dict, nn.Module]]:
    """Yield (step, metrics, averaged U-Net). parts: the trained vae, text encoder and tokenizer, which stay as they are."""
    accelerator = core.accelerator()
    vae, encoder, tokenizer = parts
    unet = core.build(networks.unet, seed)
    average = copy.deepcopy(unet).eval().requires_grad_(False)
    # Adam's second moment forgets faster than usual: a few thousand steps are all there is
    optimizer = torch.optim.AdamW(unet.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    vae, encoder = vae.to(accelerator.device), encoder.to(accelerator.device).eval()
    net, optimizer = accelerator.prepare(unet, optimizer)
    average = accelerator.prepare_model(average, evaluation_mode=True)  # so that keep() keeps it
    start = core.resume(accelerator, checkpoint)
    yield start, {}, average
    if start >= steps:
        return
    lesson = Lesson(latents(art, vae, seed, config.pictures, checkpoint, accelerator), seed, encoder, tokenizer, accelerator.device)
    losses = []
    for step in range(start, steps):
        unet.train()
        set_lr(optimizer, lr, step, steps, warmup=min(100 / steps, 0.1), hold=0.5)
        x_t, t, features, v = lesson.batch(batch_size, step, accelerator.process_index)
        with torch.enable_grad():
            loss = F.mse_loss(net(x_t, t, features).sample, v)
            accelerator.backward(loss)
        accelerator.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        follow(average, accelerator.unwrap_model(net), step)
        losses.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == steps:
            core.keep(accelerator, checkpoint, step + 1)
            yield step + 1, {"loss": sum(losses) / len(losses)}, average
            losses = []


@torch.no_grad()
def follow(average, model, step: int) -> None:
    """Exponential moving average of the weights, short at first."""
    rate = 1 - min(0.998, (1 + step) / (10 + step))
    for mean, now in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(now, rate)


# --- the four stages in order

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
    """The four stages one after the other; a stage that is finished in the checkpoint folder is read from there.

    Previews: reconstructions while the autoencoder learns, then what the pipeline draws for PROMPTS.
    """
    art = emoji.Emoji(download=download)
    first, second, third = (min(stage["steps"], steps // 4) for stage in (config.autoencoder, config.decoder, config.text_encoder))
    tokenizer = networks.tokenizer([text for _, text in captions("tokenizer", 20_000)])
    folder = {name: checkpoint / name if checkpoint else None for name in ("autoencoder", "decoder", "text_encoder", "unet")}
    vae = core.build(networks.autoencoder, seed)
    encoder = core.build(lambda: networks.text_encoder(len(tokenizer)), seed).eval()
    unet = core.build(networks.unet, seed).eval()
    last = -1

    def event(step, metrics):
        nonlocal last
        if step > last:  # the end of one stage is the beginning of the next
            last = step
            pipe = networks.pipeline(vae, encoder, tokenizer, unet)
            yield core.Event(step, steps, metrics, pipe, _reconstructions(vae, art, seed) if step <= first + second else _drawings(pipe, seed))

    for step, metrics, vae in train_autoencoder(config.autoencoder, first, every, seed, folder["autoencoder"], art):
        yield from event(step, metrics)
    for step, metrics, vae in train_decoder(config.decoder, second, every, seed, folder["decoder"], vae, art):
        yield from event(first + step, metrics)
    for step, metrics, encoder in train_text_encoder(config.text_encoder, third, every, seed, folder["text_encoder"], tokenizer):
        yield from event(first + second + step, metrics)
    before = first + second + third
    for step, metrics, unet in train_unet(config, steps - before, every, batch_size, lr, seed, folder["unet"], (vae, encoder, tokenizer), art):
        yield from event(before + step, metrics)


@torch.no_grad()
def _reconstructions(vae, art, seed) -> list:
    x = pictures(art, seed, range(VALIDATION, VALIDATION + 10)).to(vae.device)
    return images.to_pil(torch.cat([x, vae.decode(vae.encode(x).latent_dist.mean).sample]))


def _drawings(pipe, seed) -> list:
    noise = [core.seeded(seed, "preview", index) for index in range(len(PROMPTS))]
    return pipe(list(PROMPTS), num_inference_steps=10, guidance_scale=4.0, generator=noise).images
