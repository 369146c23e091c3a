"""The third stage of mini-sd: the text encoder is taught what captions mean before any picture is drawn.

Trained together with the U-Net from nothing, it says the background and hardly the object; asked questions first, it says both.
B captions, T = 32 tokens, E = 192 features.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from genkit import core, emoji
from genkit.diffusion import networks
from genkit.diffusion.training import optimize

NOTHING = "nothing"
QUESTIONS = {
    "thing": tuple(emoji.THINGS),
    "other thing": (NOTHING, *emoji.THINGS),
    "tint": (NOTHING, *emoji.TINTS),
    "other tint": (NOTHING, *emoji.TINTS),
    "background": tuple(emoji.BACKGROUNDS),
    "number": (1, 2, 3),
}


def answers(scene: emoji.Scene) -> list[int]:
    """What a scene shows, as an index into the choices of each question."""
    (thing, tint), (other, other_tint) = (*scene.objects, (NOTHING, None))[:2]
    said = (thing, other, tint or NOTHING, other_tint or NOTHING, scene.background, scene.count)
    return [choices.index(one) for choices, one in zip(QUESTIONS.values(), said, strict=True)]


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
        self.heads = nn.ModuleList(nn.Linear(networks.FEATURES, len(choices)) for choices in QUESTIONS.values())

    def forward(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """ids (B, T) -> logits (B, T, choices) per question."""
        features = self.encoder(ids).last_hidden_state
        return [head(features) for head in self.heads]


def _marked(logits, ids, targets):
    """Cross-entropy of all answers at the end-of-text positions, and the share of right ones for the worst question.

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
    pupil = core.build(lambda: Pupil(networks.text_encoder(len(tokenizer))), seed).eval()
    optimizer = torch.optim.AdamW(pupil.parameters(), lr=config["lr"], betas=(0.9, 0.98), weight_decay=0.01)
    net, optimizer = accelerator.prepare(pupil, optimizer)

    def exam(key, size):
        pairs = captions(key, size)
        ids, targets = tokens(tokenizer, [text for _, text in pairs]), torch.tensor([answers(scene) for scene, _ in pairs])
        return ids.to(accelerator.device), targets.to(accelerator.device)

    def loss_at(step):
        ids, targets = exam(f"{seed} {step} {accelerator.process_index}", config["batch_size"])
        return _marked(net(ids), ids, targets)[0]

    for step, metrics in optimize(accelerator, net, [optimizer], loss_at, steps, every, checkpoint, lr=config["lr"], warmup=0.1):
        with torch.no_grad():
            ids, targets = exam(f"{seed} validation", 200)
            said = {"said": float(_marked(pupil(ids), ids, targets)[1])} if metrics else {}
        yield step, {**metrics, **said}, pupil.encoder
