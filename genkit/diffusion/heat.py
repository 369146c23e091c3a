"""Where each word acted: the attention that a picture pays to its words, kept while it draws (DAAM, Tang et al. 2022, https://arxiv.org/abs/2210.04885).

In every cross-attention layer each place of the picture asks all tokens, and gets what they say in shares that sum to 1. The mean share of a word over
heads and layers, enlarged to one size, is its map. In joint attention (joint.py) the places ask each other too; kept is how each divides among the tokens
what it takes from them. B pictures, Q = h w places, T tokens, H heads, D numbers a head.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from PIL import Image

from genkit.core import Problem
from genkit.diffusion.trace import Trace

_here = threading.local()  # visitors share the network and draw in threads of their own: each thread has its own recorder, or none


def listener() -> Recorder | None:
    """The recorder of this thread."""
    return getattr(_here, "recorder", None)


class Overheard(AttnProcessor2_0):
    """The attention of diffusers; in a thread that listens, the shares are worked out beside it. The picture is the same either way."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, *args, **options):
        result = super().__call__(attn, hidden_states, encoder_hidden_states, *args, **options)
        recorder = listener()
        if recorder is not None and encoder_hidden_states is not None:
            recorder.hear_cross(attn, _here.to_q, _here.to_k)
        return result


def install(net) -> None:
    """Let the cross-attention of a U-Net be overheard, or the joint attention of a transformer that joint.py knows; other networks stay as they are."""
    from genkit.diffusion import joint

    for module in net.modules():
        if isinstance(module, Attention) and module.is_cross_attention and type(module.processor) is AttnProcessor2_0:
            module.set_processor(Overheard())
            module.to_q.register_forward_hook(_catching("to_q"))
            module.to_k.register_forward_hook(_catching("to_k"))
    joint.install(net)


def _catching(name: str):
    """A hook that lays a projection aside, so that it need not be worked out twice."""

    def catch(module, args, output):
        if listener() is not None:
            setattr(_here, name, output)

    return catch


@contextmanager
def listening(recorder: Recorder | None):
    """In this thread, what the attention does goes to `recorder`."""
    _here.recorder = recorder
    try:
        yield
    finally:
        _here.recorder = _here.to_q = _here.to_k = None


class Recorder:
    """The shares of the first `tokens` tokens, and of the rest together, for B pictures."""

    def __init__(self, pictures: int, tokens: int, places: int = 0):
        self.pictures, self.tokens, self.places = pictures, tokens, places  # places: of the picture, where they stand among the words
        self.words = 0  # how many words stand before the places, where joint.py has seen it
        self.heard: dict[int, list[torch.Tensor]] = {}
        self._told: set[int] = set()  # the layers heard at this step: where guidance asks again, it is not about the prompt

    @torch.no_grad()
    def hear_cross(self, attn, query, key) -> None:
        """One layer of one step. With guidance the pictures stand there twice, and the second time they have heard the prompt."""
        query, key = (attn.head_to_batch_dim(part[-self.pictures :]) for part in (query, key))
        self.keep(attn, attn.get_attention_scores(query, key).unflatten(0, (self.pictures, attn.heads)).mean(1))

    def keep(self, layer, shares: torch.Tensor) -> None:
        """shares (B, Q, T) of one layer."""
        if id(layer) in self._told:
            return
        self._told.add(id(layer))
        kept = torch.cat([shares[..., : self.tokens], shares[..., self.tokens :].sum(-1, keepdim=True)], -1)
        self.heard.setdefault(shares.shape[1], []).append(kept.float())

    def take(self) -> dict[int, tuple[int, torch.Tensor]]:
        """What was heard since the last time: Q -> (layers, their mean (B, Q, tokens + 1))."""
        taken = {size: (len(layers), torch.stack(layers).mean(0).cpu()) for size, layers in self.heard.items()}
        self.heard, self._told = {}, set()
        return taken


def maps(trace: Trace, index: int = 0, k: int | None = None) -> torch.Tensor:
    """(tokens + 1, h, w): the share of each token at each place, at step k or in the mean of all; the last is that of the rest of the tokens.

    A branch has heard nothing before its first step of its own; that one stands for those. Raises Problem where nothing was heard: the model has no
    attention to words that is known here, or is too large to be listened to.
    """
    if trace.closed:
        raise trace.closed
    heard = [moment.words for moment in trace.moments[k or 0 :] if moment.words]
    if not heard:
        raise Problem(
            "this model lets nobody look at its words: it has no cross-attention nor a joint one, or too little memory to listen; choose mini-sd or a Stable Diffusion",
            "这个模型无法查看词语的作用：它没有交叉注意力或联合注意力，或内存不够旁听；请选择 mini-sd 或 Stable Diffusion",
        )
    heard = heard if k is None else heard[:1]
    side = max(round(size**0.5) for words in heard for size in words)  # the pictures are square
    total, layers = 0.0, 0
    for words in heard:
        for size, (count, shares) in words.items():
            grid = shares[index].T.unflatten(1, (round(size**0.5), -1))
            total = total + count * F.interpolate(grid[None], size=(side, side), mode="bilinear")[0]
            layers += count
    return total / layers


def of_words(trace: Trace, words: list[tuple[int, int]], index: int = 0, k: int | None = None) -> tuple[list[np.ndarray], np.ndarray]:
    """A map (h, w) for each word, given as a span of the prompt, and one for all that is no word of it: the ends of the text and the padding."""
    shares = maps(trace, index, k)
    found, used = [], set()
    for start, end in words:
        mine = [place for place, (low, high) in enumerate(trace.spans) if low < end and high > start and high > low]
        used |= set(mine)
        found.append(shares[mine].sum(0).numpy() if mine else np.zeros(shares.shape[1:], np.float32))
    rest = [place for place in range(len(shares)) if place not in used]
    return found, shares[rest].sum(0).numpy()


# dark where a word says little, over violet and orange to bright yellow: read by who sees no colours too, since it only becomes brighter
RAMP = np.array([[12, 8, 38], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32)


def painted(heat: np.ndarray, over: Image.Image, size: int = 192) -> Image.Image:
    """A map over the picture in grey: from its own least to its own most."""
    low, high = float(heat.min()), float(heat.max())
    level = Image.fromarray(((heat - low) / max(high - low, 1e-9) * 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    place = np.asarray(level, np.float32) / 255 * (len(RAMP) - 1)
    below = place.astype(int).clip(0, len(RAMP) - 2)
    colour = RAMP[below] + (RAMP[below + 1] - RAMP[below]) * (place - below)[..., None]
    grey = np.asarray(over.convert("L").resize((size, size)), np.float32)[..., None]
    return Image.fromarray((0.72 * colour + 0.28 * grey).clip(0, 255).astype(np.uint8))
