"""mini-sd in three stages: the autoencoder, the text encoder that is taught what captions mean, the U-Net on latents.

B pictures, T = 32 tokens, E = 192 text features. Pictures x (B, 3, 64, 64) in [-1, 1], latents (B, 4, 16, 16).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from genkit import core, emoji
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
