"""The styles that a model can draw a picture anew in: a closed vocabulary for each, and how a prompt asks for one.

mini-sd knows the styles of emoji.py, if that has any, and its tints; a pretrained model has read many names of styles, of which a few are offered here.
"""

from __future__ import annotations

import functools
import re

from genkit import emoji
from genkit.core import Problem, pick
from genkit.diffusion import VARIANTS, taught_here

PHRASES = {  # name -> its Chinese name, and what is said to a pretrained model, which reads English
    "oil painting": ("油画", "oil painting, thick brush strokes on canvas"),
    "watercolour": ("水彩", "watercolour painting, soft washes, paper texture"),
    "pencil drawing": ("铅笔画", "pencil drawing, graphite shading on white paper"),
    "ink wash": ("水墨画", "Chinese ink wash painting, brush and ink on rice paper"),
    "pixel art": ("像素画", "pixel art, 16-bit game sprite"),
    "paper cut": ("剪纸", "layered paper cut art"),
    "woodcut": ("木刻", "woodcut print, bold black lines"),
    "clay": ("黏土", "clay figure, stop motion, studio light"),
}
_CHINESE = re.compile("[\u4e00-\u9fff]")


@functools.cache
def styles(model: str) -> dict[str, tuple[str, str]]:
    """Style -> its name in English and Chinese, of a variant or a pretrained model; {} for one that knows none."""
    if taught_here(model):
        drawn = {name: (name, chinese) for name, chinese in getattr(emoji, "STYLES", {}).items()}
        return drawn | {f"all {tint}": (f"all {tint}", f"全部{emoji.CHINESE[tint]}色") for tint in emoji.TINTS}
    return {} if model in VARIANTS else {name: (name, chinese) for name, (chinese, _) in PHRASES.items()}


def styled(model: str, prompt: str, style: str) -> str:
    """The prompt that asks for the same in a style. Raises Problem for a model without styles, an unknown style, or a prompt in which there is nothing to tint."""
    known = styles(model)
    if not known:
        raise Problem("{model} knows no styles; choose mini-sd or a Stable Diffusion", "{model} 不会任何风格；请选择 mini-sd 或 Stable Diffusion", model=model)
    pick(tuple(known), style, "style", "风格")
    if not taught_here(model):
        return f"{prompt}, {PHRASES[style][1]}"
    if style.startswith("all "):
        return _tinted(prompt, style.removeprefix("all "))
    if _CHINESE.search(prompt):
        return f"{emoji.STYLES[style]}风格的{prompt}"
    return f"{'an' if style[0] in 'aeiou' else 'a'} {style} picture of {prompt}"


def _tinted(prompt: str, tint: str) -> str:
    """Every thing in the prompt with that colour before its name, in place of the one it may have."""
    english, chinese = _things()
    said, found = english.subn(lambda match: f"{'a' + 'n' * (tint[0] in 'aeiou') + ' ' if match[1] else ''}{tint} {match[2]}", prompt)
    said, more = chinese.subn(lambda match: f"{emoji.CHINESE[tint]}色的{match[1]}", said)
    if not found + more:
        raise Problem("I know nothing in this prompt that could be {tint}; name a thing that I can draw", "提示词里没有我认识的、可以变成{tint}的东西；请写一样我会画的", tint=(tint, emoji.CHINESE[tint] + "色"))  # fmt: skip
    return said


@functools.cache
def _things() -> tuple[re.Pattern, re.Pattern]:
    """(article) colour (thing) in English; colour (thing) in Chinese."""
    names = {form for thing in emoji.THINGS.values() for name in thing.names for form in (name, emoji.plural(name))}
    listed = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    chinese = "|".join(re.escape(name) for name in sorted((thing.zh for thing in emoji.THINGS.values()), key=len, reverse=True))
    colours = "".join(emoji.CHINESE.values())
    return re.compile(rf"\b(an? )?(?:(?:{'|'.join(emoji.TINTS)}) )?({listed})\b", re.IGNORECASE), re.compile(rf"(?:[{colours}]色?的?)?({chinese})")
