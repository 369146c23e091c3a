"""Teach a text-to-image model of one's own: up to twelve things, each a picture and a name; a fresh U-Net learns to draw them in minutes.

The autoencoder is the shipped one. So is the text encoder, unless two of the names say too nearly the same to it: then a copy of it goes to school first.
Pictures are composed as in emoji.py: ten backgrounds, seven tints, one to three of a kind; an eighth of name x background and name x tint is never shown.
B pictures, T tokens, E text features; latents (B, 4, 16, 16).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from genkit import core, emoji, swift
from genkit.core import Event, Problem
from genkit.diffusion import drawing, live, networks, pipeline, schooling
from genkit.diffusion.sprites import Album, Thing, caption, random_scene
from genkit.diffusion.training import Average, learners, set_lr, velocity
from genkit.stopwatch import Stopwatch

LEAST, MOST = 2, 12  # things
SHIPPED = "mini-sd"  # whose autoencoder and text encoder they are
CHANNELS = (32, 64, 128)  # of the U-Net: a step takes 0.6 of the time of the shipped one's
POOL, BATCH, RATE = 2400, 32, 1.5e-3  # composed pictures; of a step
CLOSE = 0.8  # two names whose features differ by less than this share of their size are too near; things that the encoder knows differ by 0.9 and more
SCHOOL = {"steps": 150, "batch_size": 32, "lr": 5e-4}
EXAMINED, DRAWN = 32, 8  # pictures of the validation; samples
REPORT = 20.0  # seconds between two reports, at least


@dataclass(frozen=True)
class Exam(live.Exam):
    """How far it has come, and whether it listens to the word: losses of v on single things, t from 300 to 900."""

    true: float | None = None  # with the caption of the picture
    other: float | None = None  # with the same caption, but the name of another thing in it
    prompts: tuple[str, ...] = ()  # of the samples
    near: tuple[float, str, str] = (0.0, "", "")  # the two names that say most nearly the same to the shipped text encoder, and how much they differ
    schooled: float | None = None  # accuracy of the worst question at the end of the encoder's schooling; None if it was not needed

    @property
    def gap(self) -> float | None:
        return None if self.true is None or self.other is None else self.other - self.true


def train(things: list[Thing], *, seconds: float = 600.0, steps: int = 0, seed: int = 0) -> Iterator[Event]:
    """Learn to draw the things within `seconds` of training, pauses not counted; or, for those who need the same twice, in so many steps.

    The end is promised from the start: the learning rate follows the clock, and how many steps fit in is told as it goes. Event.model: a StableDiffusionPipeline
    with the averaged weights; Event.exam: an Exam. Raises Problem for too few or too many things, and for two of one name.
    """
    names = [name.lower() for thing in things for name in (thing.en, thing.zh) if name]
    if not LEAST <= len(things) <= MOST or len(set(names)) < len(names):
        raise Problem(
            "choose {least} to {most} things, each with a name of its own; got {n}: {names}",
            "请选择 {least} 到 {most} 样东西，名称各不相同；现有 {n} 样：{names}",
            least=LEAST,
            most=MOST,
            n=len(things),
            names=", ".join(names)[:200],
        )
    yield from swift.single(_train(list(things), seconds, steps, seed))


def _train(things, seconds, steps, seed) -> Iterator[Event]:
    clock, shipped = Stopwatch(0), pipeline.load(SHIPPED)
    clock.go()
    net = core.build(lambda: unet(shipped), seed).to(core.device())
    average = Average(_Alone, net, decay=0.995)
    pipe = networks.pipeline(shipped.vae, shipped.text_encoder, shipped.tokenizer, average.shown)
    exam = Exam(0, promised=None if steps else seconds, near=nearest(shipped, things))
    if exam.near[0] < CLOSE:
        pipe.text_encoder, said = schooled(pipe, things, seed)
        exam = replace(exam, schooled=said)
    lesson = Lesson(pipe, things, seed)
    optimizers = learners(net, RATE)
    step, began, told, losses = 0, clock.now(), clock.now(), []
    while True:
        done = step / steps if steps else min(1.0, (clock.now() - began) / max(seconds - began, 1e-9))
        over = done >= 1
        if over or not step or (step % max(1, steps // 8) == 0 if steps else clock.now() - told > max(REPORT, seconds / 25)):
            pictures = lesson.drawings(pipe)
            exam = replace(lesson.examine(average.shown, exam, step), seconds=clock.now(), arrived=clock.now() if over else None)
            clock.rest()
            yield Event(step, steps or _expected(step, done, over), {"loss": sum(losses) / len(losses)} if losses else {}, pipe, pictures, exam)
            clock.go()
            told, losses = clock.now(), []
        if over:
            return
        for optimizer in optimizers:
            set_lr(optimizer, RATE, round(1000 * done), 1000, warmup=0.02, hold=0.5)
        with torch.enable_grad():
            loss = lesson.loss(net, step)
            loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average.follow(step)
        losses.append(loss.item())
        step += 1


def _expected(step: int, done: float, over: bool) -> int:
    """How many steps there will have been, at the pace so far."""
    return step if over else max(step + 1, round(step / done)) if step and done else 1


class _Alone:
    """What Average asks of an accelerator, where there is one process."""

    @staticmethod
    def prepare_model(model, **_):
        return model


def unet(shipped) -> UNet2DConditionModel:
    """A fresh and smaller U-Net for the latents and the text features of a pipeline: 3.5 M parameters. It begins by giving 0."""
    kinds = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")}
    kept = {name: shipped.unet.config[name] for name in ("sample_size", "in_channels", "out_channels", "cross_attention_dim")}
    net = UNet2DConditionModel(block_out_channels=CHANNELS, layers_per_block=1, attention_head_dim=4, norm_num_groups=16, **networks.HEARD, **kinds, **kept)
    net.set_attn_processor(AttnProcessor())  # on a CPU faster than scaled_dot_product_attention at these sizes
    for module in net.modules():
        if hasattr(module, "conv2") and isinstance(module.conv2, nn.Conv2d):
            nn.init.zeros_(module.conv2.weight)
    nn.init.zeros_(net.conv_out.weight)
    return net.eval()


# --- the words


def _read(tokenizer, texts: list[str], device) -> torch.Tensor:
    return schooling.tokens(tokenizer, texts).to(device)


@torch.no_grad()
def nearest(pipe, things: list[Thing]) -> tuple[float, str, str]:
    """The two names that say most nearly the same to the text encoder: how much the features after the end of the text differ, as a share of their size."""
    tokenizer = pipeline.read_in_turn(copy.copy(pipe)).tokenizer
    said = [
        [caption(emoji.Scene("white", ((thing.key, None),)), {thing.key: thing}, random.Random(1), language) for language in thing.languages]
        for thing in things
    ]
    flat = [(index, text) for index, texts in enumerate(said) for text in texts]
    ids = _read(tokenizer, [text for _, text in flat], pipe.text_encoder.device)
    features = pipe.text_encoder(ids).last_hidden_state[:, -4:].flatten(1)  # the last positions have seen all of a short caption
    sizes = features.norm(dim=1)
    apart = torch.cdist(features, features) / ((sizes[:, None] + sizes[None]) / 2)
    pairs = [(apart[i, j].item(), things[a].key, things[b].key) for i, (a, _) in enumerate(flat) for j, (b, _) in enumerate(flat) if a < b]
    return min(pairs)


def schooled(pipe, things: list[Thing], seed: int) -> tuple[nn.Module, float]:
    """A copy of the text encoder that has been asked which thing, tint, background and number a caption names; accuracy of the worst question on new captions."""
    encoder = type(pipe.text_encoder)(copy.deepcopy(pipe.text_encoder.config)).to(pipe.text_encoder.device)
    encoder.load_state_dict(pipe.text_encoder.state_dict())
    table, tokenizer = {thing.key: thing for thing in things}, pipeline.read_in_turn(copy.copy(pipe)).tokenizer
    choices = (list(table), [None, *emoji.TINTS], list(emoji.BACKGROUNDS), [1, 2, 3])
    heads = core.build(lambda: nn.ModuleList(nn.Linear(encoder.config.hidden_size, len(each)) for each in choices), seed).to(encoder.device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=SCHOOL["lr"], betas=(0.9, 0.98), weight_decay=0.01)

    def asked(key: str, n: int):
        rng = random.Random(f"school {seed} {key}")
        scenes = [random_scene(rng, list(table)) for _ in range(n)]
        ids = _read(tokenizer, [caption(scene, table, rng) for scene in scenes], encoder.device)
        said = [(scene.objects[0][0], scene.objects[0][1], scene.background, scene.count) for scene in scenes]
        right = torch.tensor([[each.index(word) for each, word in zip(choices, words, strict=True)] for words in said], device=encoder.device)
        features = encoder(ids).last_hidden_state
        ends = (ids == tokenizer.pad_token_id) & (torch.arange(ids.shape[1], device=ids.device) > 0)  # with causal attention these have seen the whole caption
        return [(head(features[ends]), right[:, index][:, None].expand_as(ids)[ends]) for index, head in enumerate(heads)]

    for step in range(SCHOOL["steps"]):
        set_lr(optimizer, SCHOOL["lr"], step, SCHOOL["steps"], warmup=0.1)
        with torch.enable_grad():
            sum(F.cross_entropy(logits, target) for logits, target in asked(str(step), SCHOOL["batch_size"])).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        said = min((logits.argmax(-1) == target).float().mean().item() for logits, target in asked("validation", 120))
    return encoder.eval().requires_grad_(False), said


# --- the pictures


class Lesson:
    """Composed pictures as latents, batches of them with fresh captions, the examination, and what is drawn for the page."""

    def __init__(self, pipe, things: list[Thing], seed: int):
        self.table, self.seed, self.device = {thing.key: thing for thing in things}, seed, pipe.unet.device
        self.encoder, self.vae, self.tokenizer = pipe.text_encoder, pipe.vae, pipeline.read_in_turn(copy.copy(pipe)).tokenizer
        self.alphas_cumprod, self.names = networks.scheduler().alphas_cumprod.to(self.device), list(self.table)
        album, rng = Album(things), random.Random(f"teach {seed}")
        self.scenes = [random_scene(rng, self.names) for _ in range(POOL)]
        self.latents = self._encode([album.draw(scene, rng) for scene in self.scenes])
        single = [emoji.Scene(background, ((self.names[index % len(things)], None),)) for index, background in enumerate(self._backgrounds(EXAMINED, rng))]
        self.validation = self._encode([album.draw(scene, rng) for scene in single]).float().to(self.device)
        self.true, self.other = zip(*(self._both(scene, index) for index, scene in enumerate(single)), strict=True)
        self.prompts = tuple(self._prompts(rng))

    def _both(self, scene: emoji.Scene, index: int) -> tuple[str, str]:
        """The scene's caption, and the same words with the name of another thing, in one language if both have names in one."""
        other = self.names[(index + 1) % len(self.names)]
        shared = [language for language in self.table[scene.objects[0][0]].languages if language in self.table[other].languages] or [""]
        swapped = replace(scene, objects=((other, None),))
        first, second = (caption(each, self.table, random.Random(f"word {index}"), shared[index % len(shared)]) for each in (scene, swapped))
        return first, second

    @staticmethod
    def _backgrounds(n: int, rng: random.Random) -> list[str]:
        return [rng.choice(list(emoji.BACKGROUNDS)) for _ in range(n)]

    def _prompts(self, rng: random.Random) -> Iterator[str]:
        """What is drawn for the page: each thing on a background of its own, where there is one on one that it was never shown on; one tinted, one two of a kind."""
        colours = [name for name in emoji.BACKGROUNDS if name != "white"]
        for index in range(DRAWN):
            name = self.names[index % len(self.names)]
            unseen = [background for background in colours if emoji.held_out(name, background)] or colours
            tint = next((each for each in emoji.TINTS if each != unseen[0] and not emoji.held_out(name, each)), None) if index == DRAWN - 2 else None
            scene = emoji.Scene(unseen[index % len(unseen)] if tint is None else "white", ((name, tint),), 2 if index == DRAWN - 1 else 1)
            yield caption(scene, self.table, rng)

    @torch.no_grad()
    def _encode(self, pictures: list[np.ndarray]) -> torch.Tensor:
        """Latents (N, 4, 16, 16) float16, on the CPU."""
        found = []
        for begin in range(0, len(pictures), 64):
            x = torch.from_numpy(np.stack(pictures[begin : begin + 64])).permute(0, 3, 1, 2).to(self.vae.device).float() / 127.5 - 1
            with swift.half(self.vae.device):
                found.append(self.vae.encode(x).latent_dist.mean.half().cpu() * self.vae.config.scaling_factor)
        return torch.cat(found)

    @torch.no_grad()
    def _features(self, texts: list[str]) -> torch.Tensor:
        return self.encoder(_read(self.tokenizer, texts, self.device)).last_hidden_state

    def loss(self, net, step: int) -> torch.Tensor:
        """Of one batch: v at random levels, a tenth of the captions left out for guidance."""
        rng, words = core.seeded(self.seed, "teach", step), random.Random(f"words {self.seed} {step}")
        chosen = torch.randint(len(self.latents), (BATCH,), generator=rng)
        texts = ["" if words.random() < 0.1 else caption(self.scenes[index], self.table, words) for index in chosen.tolist()]
        noise, t = (
            torch.randn(BATCH, *self.latents.shape[1:], generator=rng).to(self.device),
            torch.randint(live.TIMES, (BATCH,), generator=rng).to(self.device),
        )
        x_t, v = velocity(self.latents[chosen].float().to(self.device), noise, t, self.alphas_cumprod)
        with swift.half(self.device):
            guess = net(x_t, t, self._features(texts)).sample
        return F.mse_loss(guess.float(), v)

    @torch.no_grad()
    def examine(self, net, exam: Exam, step: int) -> Exam:
        """The losses with the true caption and with another thing's, and with the true one by noise level."""
        noise = torch.randn(self.validation.shape, generator=core.seeded("exam")).to(self.device)
        t = torch.linspace(300, 900, len(noise)).long().to(self.device)
        x_t, v = velocity(self.validation, noise, t, self.alphas_cumprod)
        true, other = self._features(list(self.true)), self._features(list(self.other))
        with swift.half(self.device):
            found = [F.mse_loss(net(x_t, t, features).sample.float(), v).item() for features in (true, other)]
            losses = live.by_level(lambda x_t, t: net(x_t, t, true).sample, self.validation, noise, self.alphas_cumprod)
        return replace(exam, step=step, losses=losses, true=found[0], other=found[1], prompts=self.prompts)

    @torch.no_grad()
    def drawings(self, pipe) -> list:
        noise = [core.seeded(self.seed, "preview", index) for index in range(DRAWN)]
        with swift.half(self.device):
            return drawing.own(pipe)(list(self.prompts), num_inference_steps=10, guidance_scale=3.0, generator=noise).images
