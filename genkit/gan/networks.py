"""The players: four kinds of generator and two kinds of discriminator.

Dimensions: B batch, Z latent, W style, C channels, H = W = 28. Pictures (B, 1, 28, 28) in [-1, 1]; labels y (B,) int64 in 0..9; z (B, Z) ~ N(0, I).
A network made with conditional=False takes the same arguments and pays no attention to y.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn


class Dropout(nn.Module):
    """Dropout whose mask comes from a generator handed in; without one nothing is dropped. nn.Dropout knows only the global generator."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor, rng: torch.Generator | None) -> torch.Tensor:
        if rng is None:
            return x
        return x * (torch.rand(x.shape, generator=rng) >= self.p).to(x) / (1 - self.p)


def one_hot(y: torch.Tensor, z: torch.Tensor, conditional: bool) -> torch.Tensor:
    """The digit as 10 more inputs beside z, one of them 1; all 0 for a network that is not told. y (B, 10) of floats is a mixture of digits, taken as it is."""
    return (y if y.is_floating_point() else F.one_hot(y, 10)).to(z) * conditional


class MLPGenerator(nn.Module):
    """The classic Z-256-512-784 perceptron."""

    def __init__(self, latent_dim: int, channels: int, conditional: bool):
        super().__init__()
        self.conditional = conditional
        self.body = nn.Sequential(
            nn.Linear(latent_dim + 10, channels), nn.LeakyReLU(0.2),
            nn.Linear(channels, 2 * channels), nn.LeakyReLU(0.2),
            nn.Linear(2 * channels, 784), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: torch.Tensor, y: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        return self.body(torch.cat([z, one_hot(y, z, self.conditional)], dim=1)).view(-1, 1, 28, 28)


class ConvGenerator(nn.Module):
    """From 7 x 7 to 28 x 28 in two doublings. DCGAN, Radford et al. 2015: https://arxiv.org/abs/1511.06434

    deep: two convolutions of 3 x 3 at the end instead of one of 5 x 5, which see as far and have more to say.
    """

    def __init__(self, latent_dim: int, channels: int, conditional: bool, colours: int = 1, deep: bool = False):
        super().__init__()
        c, self.conditional = channels, conditional
        self.project = nn.Linear(latent_dim + 10, 2 * c * 49, bias=False)
        between = [nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU()] if deep else []  # (B, C, 14, 14)
        last = 3 if deep else 5
        self.body = nn.Sequential(
            nn.BatchNorm2d(2 * c), nn.ReLU(),
            nn.ConvTranspose2d(2 * c, c, 4, 2, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU(), *between,  # (B, C, 14, 14)
            nn.Conv2d(c, 4 * colours, last, padding=last // 2), nn.PixelShuffle(2), nn.Tanh(),  # (B, 1, 28, 28)
        )  # fmt: skip

    def forward(self, z: torch.Tensor, y: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        h = self.project(torch.cat([z, one_hot(y, z, self.conditional)], dim=1))
        return self.body(h.unflatten(1, (-1, 7, 7)))


class StyleLayer(nn.Module):
    """A convolution whose input channels are scaled by a style w, then noise at every pixel.

    Modulation and demodulation of StyleGAN2, Karras et al. 2020, equations 1 and 3: https://arxiv.org/abs/1912.04958 - the scaling is done on the
    features instead of the weights, which gives the same numbers and lets one convolution serve the whole batch.
    """

    def __init__(self, style_dim: int, inputs: int, outputs: int, side: int, up: bool = False):
        super().__init__()
        self.up = up
        self.style = nn.Linear(style_dim, inputs)
        nn.init.ones_(self.style.bias)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) / math.sqrt(9 * inputs))
        self.bias, self.strength = nn.Parameter(torch.zeros(outputs)), nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(1, 1, side, side))  # what is added while nobody hands in a random source

    def forward(self, x: torch.Tensor, w: torch.Tensor, rng: torch.Generator | None) -> torch.Tensor:
        s = self.style(w)  # (B, C)
        scale = (s**2 @ self.weight.square().sum(dim=(2, 3)).T + 1e-8).rsqrt()
        x = x * s[:, :, None, None]
        x = F.conv2d(F.interpolate(x, scale_factor=2.0) if self.up else x, self.weight, padding=1) * scale[:, :, None, None]
        noise = self.noise if rng is None else torch.randn(len(x), 1, *x.shape[2:], generator=rng).to(x)
        return F.leaky_relu(x + self.strength * noise + self.bias[:, None, None], 0.2) * math.sqrt(2)


class StyleGenerator(nn.Module):
    """z and the digit become a style w; each of LAYERS layers is scaled by its own w, the coarse ones first. Karras et al. 2019: https://arxiv.org/abs/1812.04948

    What the layers start from is made of the first style, not the constant of the paper: four scalings of one constant are too few for the shapes of digits,
    and every 3 becomes the same 3.
    `w_mean` (10, W) is the running mean of w for each digit: styles are drawn towards it by truncation (section B of the appendix).
    """

    LAYERS = 4  # styles: at 7 x 7, twice at 14 x 14, at 28 x 28

    def __init__(self, latent_dim: int, channels: int, conditional: bool, style_dim: int = 64):
        super().__init__()
        c, self.conditional = channels, conditional
        self.map = nn.Sequential(
            nn.Linear(latent_dim + 10, style_dim), nn.LeakyReLU(0.2),
            nn.Linear(style_dim, style_dim), nn.LeakyReLU(0.2),
            nn.Linear(style_dim, style_dim), nn.LeakyReLU(0.2),
        )  # fmt: skip
        for layer in self.map[::2]:
            nn.init.kaiming_normal_(layer.weight, 0.2)  # torch's own start shrinks what z says in each layer
        self.start = nn.Linear(style_dim, 2 * c * 49)
        self.layers = nn.ModuleList([
            StyleLayer(style_dim, 2 * c, 2 * c, 7), StyleLayer(style_dim, 2 * c, c, 14, up=True),
            StyleLayer(style_dim, c, c, 14), StyleLayer(style_dim, c, c // 2, 28, up=True),
        ])  # fmt: skip
        self.picture = nn.Conv2d(c // 2, 1, 1)
        self.register_buffer("w_mean", torch.zeros(10, style_dim))

    def mapping(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Styles w (B, W) of latents z (B, Z), normalised to length sqrt(Z) first, and digits y (B,)."""
        z = z * z.square().mean(dim=1, keepdim=True).add(1e-8).rsqrt()
        w = self.map(torch.cat([z, one_hot(y, z, self.conditional)], dim=1))
        if self.training and not y.is_floating_point():
            with torch.no_grad():  # per digit, however many of it are in the batch
                share = F.one_hot(y, 10).to(w)
                n = share.sum(dim=0)[:, None]
                self.w_mean.lerp_(torch.where(n > 0, share.T @ w / n.clamp(min=1), self.w_mean), 0.01)
        return w

    def synthesis(self, ws: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        """Pictures (B, 1, 28, 28) of styles ws (B, LAYERS, W), one for each layer; the noise is the network's own without rng."""
        x = F.leaky_relu(self.start(ws[:, 0]), 0.2).unflatten(1, (-1, 7, 7))
        for layer, w in zip(self.layers, ws.unbind(dim=1), strict=True):
            x = layer(x, w, rng)
        return self.picture(x).tanh()

    def forward(self, z: torch.Tensor, y: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        return self.synthesis(self.mapping(z, y).unsqueeze(1).expand(-1, self.LAYERS, -1), rng)


class Crowd(nn.Module):
    """What gives a collapsed generator away: how little the pictures of a batch differ. Features (B, F) -> (B, 1), added to the verdict.

    Minibatch standard deviation, Karras et al. 2018, section 3: https://arxiv.org/abs/1710.10196 - here each feature has its own weight, 0 at first.
    """

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Linear(features, 1)
        nn.init.zeros_(self.weight.weight)
        nn.init.zeros_(self.weight.bias)

    def forward(self, h: torch.Tensor, crowds: int) -> torch.Tensor | float:
        """crowds: into how many equal parts of one origin the batch falls; 0: pictures are judged alone."""
        if not crowds:
            return 0.0
        spread = h.unflatten(0, (crowds, -1)).var(dim=1, unbiased=False).add(1e-8).sqrt()  # (crowds, F)
        return self.weight(spread).repeat_interleave(len(h) // crowds, dim=0)


class MLPDiscriminator(nn.Module):
    """The classic 784-512-256-1 perceptron with dropout; takes and gives what ProjectionDiscriminator does."""

    def __init__(self, channels: int, conditional: bool):
        super().__init__()
        self.conditional = conditional
        self.picture = nn.Linear(784, 2 * channels)
        self.digit = nn.Embedding(10, 2 * channels)  # the weights of 10 more inputs, one of them 1
        self.hidden, self.verdict, self.crowd = nn.Linear(2 * channels, channels), nn.Linear(channels, 1), Crowd(2 * channels)
        self.dropout = Dropout(0.3)

    def forward(self, x: torch.Tensor, y: torch.Tensor, rng: torch.Generator | None = None, crowds: int = 0) -> torch.Tensor:
        seen = self.picture(x.flatten(1))  # (B, 2C)
        h = seen.unsqueeze(1) + self.digit(y.view(len(x), -1)) * self.conditional  # (B, K, 2C)
        h = self.dropout(F.leaky_relu(h, 0.2), rng)
        h = self.dropout(F.leaky_relu(self.hidden(h), 0.2), rng)
        return (self.verdict(h).squeeze(2) + self.crowd(F.leaky_relu(seen, 0.2), crowds)).view(y.shape)


class ProjectionDiscriminator(nn.Module):
    """Convolutions, then one linear verdict plus one that depends on the digit. Miyato & Koyama 2018, figure 1d: https://arxiv.org/abs/1802.05637

    x (B, 1, 28, 28) -> logits of the shape of y, above 0 for real; y is (B,), or (B, K) to judge each picture as K digits at little cost.
    """

    def __init__(self, channels: int, conditional: bool, colours: int = 1):
        super().__init__()
        c, self.conditional = channels, conditional
        self.body = nn.Sequential(
            nn.Conv2d(colours, c, 4, 2, 1), nn.LeakyReLU(0.2),  # (B, C, 14, 14)
            nn.Conv2d(c, 2 * c, 4, 2, 1), nn.LeakyReLU(0.2),  # (B, 2C, 7, 7)
        )  # fmt: skip
        self.verdict, self.digit, self.crowd = nn.Linear(2 * c * 49, 1), nn.Embedding(10, 2 * c * 49), Crowd(2 * c)
        nn.init.zeros_(self.digit.weight)  # N(0, 1) times thousands of features would drown the verdict

    def forward(self, x: torch.Tensor, y: torch.Tensor, rng: torch.Generator | None = None, crowds: int = 0) -> torch.Tensor:
        h = self.body(x)
        flat = h.flatten(1)
        by_digit = (flat @ self.digit.weight.T) * self.conditional  # (B, 10)
        said = self.verdict(flat) + by_digit.gather(1, y.view(len(x), -1)) + self.crowd(h.mean(dim=(2, 3)), crowds)
        return said.view(y.shape)


ARCHITECTURES = {
    "mlp": (MLPGenerator, MLPDiscriminator),
    "dcgan": (ConvGenerator, ProjectionDiscriminator),
    "deep": (partial(ConvGenerator, deep=True), ProjectionDiscriminator),
    "style": (StyleGenerator, ProjectionDiscriminator),
}
