"""The first two stages of mini-sd: the autoencoder, and then its decoder alone.

Pictures x (B, 3, 64, 64) in [-1, 1], latents z (B, 4, 16, 16).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from genkit import core, emoji
from genkit.diffusion import networks
from genkit.diffusion.training import optimize

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


class Autoencoding(nn.Module):
    """The loss of pictures x with noise (B, 4, 16, 16): error, and a small KL that keeps the latents smooth and near unit variance."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, x, noise):
        latents = self.vae.encode(x).latent_dist
        recon = self.vae.decode(latents.mean + latents.std * noise).sample
        kl = 0.5 * (latents.mean**2 + latents.var - 1 - latents.logvar).mean()
        return error(recon, x) + 1e-4 * kl


class Decoding(nn.Module):
    """The loss of pictures x with noise on their latents: a little, such as a U-Net leaves there. The encoder learns nothing."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae.requires_grad_(False)
        for part in (vae.post_quant_conv, vae.decoder):
            part.requires_grad_(True)

    def forward(self, x, noise):
        with torch.no_grad():
            z = self.vae.encode(x).latent_dist.mean + 0.1 * noise
        return error(self.vae.decode(z).sample, x)


def error(recon, x):
    """Squared error, which PSNR measures, and a little absolute error, which keeps edges sharper."""
    return F.mse_loss(recon, x) + 0.1 * F.l1_loss(recon, x)


def train_autoencoder(config, steps, every, seed, checkpoint, art) -> Iterator[tuple[int, dict, nn.Module]]:
    """Yield (step, metrics, autoencoder) at the first step, every `every` steps and at the end; the last one is whitened."""
    vae = core.build(networks.autoencoder, seed).eval()
    for step, metrics in _train(Autoencoding(vae), config, steps, every, (seed, "autoencoder"), checkpoint, art, 0):
        if step == steps:
            networks.whiten(vae, pictures(art, seed, range(VALIDATION + 1000, VALIDATION + 2000)).to(vae.device))
        yield step, metrics, vae


def train_decoder(config, steps, every, seed, checkpoint, vae, art) -> Iterator[tuple[int, dict, nn.Module]]:
    """Yield (step, metrics, autoencoder) while the decoder alone learns on; the latents, and so what the U-Net learns, stay as they are."""
    for step, metrics in _train(Decoding(vae), config, steps, every, (seed, "decoder"), checkpoint, art, VALIDATION // 2):
        yield step, metrics, vae


def _train(task, config, steps, every, key, checkpoint, art, first) -> Iterator[tuple[int, dict]]:
    """Learn the task from pictures number `first` and following, each seen once; metrics: loss, and psnr on 100 unseen pictures."""
    accelerator, size, seed = core.accelerator(), config["batch_size"], key[0]
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=config["lr"], betas=(0.9, 0.99), weight_decay=1e-4)
    net, optimizer = accelerator.prepare(task, optimizer)
    validation = pictures(art, seed, range(VALIDATION, VALIDATION + 100)).to(accelerator.device)

    def loss_at(step):
        begin = first + (step * accelerator.num_processes + accelerator.process_index) * size
        x = pictures(art, seed, range(begin, begin + size)).to(accelerator.device)
        return net(x, torch.randn((size, 4, 16, 16), generator=core.seeded(*key, step, accelerator.process_index)).to(x.device))

    for step, metrics in optimize(accelerator, net, [optimizer], loss_at, steps, every, checkpoint, lr=config["lr"]):
        yield step, {**metrics, "psnr": psnr(task.vae, validation)} if metrics else {}
