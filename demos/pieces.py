"""Pieces of HTML that the tabs are made of: pictures, the mark of what made them, bars, a chart. Text in them is escaped."""

import base64
import functools
import math
from collections.abc import Sequence

import gradio as gr
from PIL import Image

from demos.i18n import both, escape
from genkit import labels, runs
from genkit.core import Problem

COLOURS = ("accent", "second", "third", "fourth")
BINS = 40  # of a histogram
RING = 'fill="none" stroke="var(--ink)" stroke-width="2"'
DASHES = ("", "6 3", "2 3", "8 3 2 3")  # nothing is said by colour alone


# JavaScript: calls then() once, when a place is unfolded or its tab is opened, though it may still be below the screen
UNFOLDED = """
const unfolded = (place, then) => new IntersectionObserver((entries, observer) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  observer.disconnect(); then();
}, {rootMargin: '4000px'}).observe(place);
"""


def data_uri(picture: Image.Image) -> str:
    """A PNG with its mark as a data: address. Small pictures need no file on the server this way."""
    return address(labels.png(picture))


def address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def wall(pictures: list[Image.Image], names: list[str], **mark) -> str:
    """Small pictures hung ten in a row (five on a phone); a click downloads the original PNG, through DOWNLOADS.

    mark: what labels.mark is to say of them all, if they have no marks yet.
    """
    files = labels.pngs(pictures, **mark) if mark else map(labels.png, pictures)
    hung = (
        f'<a href="#" download="{name}.png"><img alt="{name}" src="{address(file)}">{name}</a>' for file, name in zip(files, map(escape, names), strict=True)
    )
    return f'<div class="wall">{"".join(hung)}</div>'


# A picture's address is half of what a wall weighs, so it stands there once: a link takes it over when somebody points at it, by mouse, finger or keyboard.
DOWNLOADS = """() => ['pointerover', 'focusin', 'click'].forEach((kind) => document.addEventListener(kind, (event) => {
  const link = event.target.closest?.('.wall a');
  if (link) link.href = link.firstElementChild.src;
}, true))"""


def plate(picture: Image.Image, title: str, text: str = "", *, smooth: bool = False) -> str:
    """One framed picture with a title and a line under it (both HTML)."""
    return f'<div class="plate{" smooth" if smooth else ""}"><img alt="" src="{data_uri(picture)}"><b>{title}</b><small>{text}</small></div>'


def plates(*hung: str) -> str:
    return f'<div class="plates">{"".join(hung)}</div>'


def made_by(model: str, **settings) -> str:
    """The line under every result: it was generated, by what and how."""
    how = " · ".join([model, *(f"{name.replace('_', ' ')} {value}" for name, value in settings.items() if value not in ("", None))])
    return f'<p class="made"><span class="ai">{both("AI-generated", "AI 生成")}</span>{escape(how)}</p>'


def note(en: str, zh: str, *, warn: bool = False) -> str:
    """A quiet sentence in both languages (HTML)."""
    return f'<p class="note{" warn" if warn else ""}">{both(en, zh)}</p>'


def refused(problem: Problem) -> str:
    """What stands where a result would, had there not been a problem."""
    return note(escape(problem.en), escape(problem.zh), warn=True)


def in_place(handler):
    """The handler with a Problem shown where its result would stand: it runs while somebody types or drags, when a toast would be in the way."""

    @functools.wraps(handler)
    def shown(*args):
        try:
            return handler(*args)
        except Problem as problem:
            return refused(problem)

    return shown


def heading(en: str, zh: str, about_en: str, about_zh: str) -> None:
    """Build the head of a part of a section."""
    gr.HTML(f"<h2>{both(en, zh)}</h2>{note(about_en, about_zh)}", elem_classes="step")


def stops(n: int) -> list[str]:
    """Names of n >= 2 pictures on the way from A to B."""
    return ["A", *(f"{100 * index / (n - 1):.0f} %" for index in range(1, n - 1)), "B"]


def histograms(above: Sequence[float], below: Sequence[float], names: tuple, span: tuple[float, float], marks: list, ends: tuple[str, str]) -> str:
    """Two histograms on one scale, and marks across them: (value, HTML). names of the two, ends of the scale: HTML. What lies beyond the span stands at its ends."""
    low, high = span

    def place(value: float) -> float:
        return min(max((value - low) / (high - low or 1), 0), 1)

    def band(scores, kind: str, name: str) -> str:
        counts = [0] * BINS
        for each in scores:
            counts[min(int(place(each) * BINS), BINS - 1)] += 1
        columns = "".join(
            f'<rect x="{index}" y="{1 - count / max(counts):.3f}" width="1" height="{count / max(counts):.3f}"/>' for index, count in enumerate(counts)
        )
        return f'<div class="{kind}"><b>{name}</b><svg viewBox="0 0 {BINS} 1" preserveAspectRatio="none">{columns}</svg></div>'

    bands = band(above, "real", names[0]) + band(below, "fake", names[1])
    across = "".join(f'<i style="--x:{100 * place(value):.1f}%"><b>{said}</b></i>' for value, said in marks)
    return f'<div class="strip" aria-hidden="true"><div class="scale">{bands}{across}</div><p>{ends[0]}<span>{ends[1]}</span></p></div>'


def empty(en: str, zh: str) -> str:
    """What stands where a result will be."""
    return f'<div class="empty">{both(en, zh)}</div>'


def written(prompt: str, text: str, *, writing: bool = False) -> str:
    """The visitor's prompt in grey and what the model wrote after it."""
    return f'<div class="written" role="log"><span class="yours">{escape(prompt)}</span><span class="{"cursor" if writing else ""}">{escape(text)}</span></div>'


def bars(values: list[float], en: str, zh: str) -> str:
    """Signed values as bars around a middle line; `en` and `zh` say what they are."""
    top = max((abs(value) for value in values), default=0) or 1
    each = "".join(f'<i class="{"down" if value < 0 else "up"}" style="--h:{50 * abs(value) / top:.1f}%"></i>' for value in values)
    return f'<div class="bars" aria-hidden="true">{each}</div>{note(en, zh)}'


def chart(points: list[tuple[int, dict[str, float]]], names: dict[str, tuple[str, str]], top: float = 0.0, lowest: str = "") -> str:
    """Curves of a run. points: (step, {metric: value}); names: metric -> its English and Chinese name. The newest values stand in words.

    top: what the axis reaches up to at least. lowest: the metric whose lowest point is ringed, and told. A value that is not finite is left out of the curve.
    """
    kinds = list(dict.fromkeys(key for _, row in points for key in row))
    if not kinds:
        return ""
    values = [value for _, row in points for value in row.values() if math.isfinite(value)]
    low, high, last = min([0.0, *values]), max([top, *values]), max(points[-1][0], 1)
    span = (high - low) or 1

    def place(step: int, value: float) -> tuple[str, str]:
        return f"{40 + 550 * step / last:.1f}", f"{150 - 135 * (value - low) / span:.1f}"

    def line(kind: str, index: int) -> str:
        path = " ".join(",".join(place(step, row[kind])) for step, row in points if math.isfinite(row.get(kind, math.nan)))
        style = f'fill="none" stroke="var(--{COLOURS[index % 4]})" stroke-width="2" stroke-dasharray="{DASHES[index % 4]}"'
        return f'<polyline points="{path}" {style}/>'

    def legend(kind: str, index: int) -> str:
        newest = next(row[kind] for _, row in reversed(points) if kind in row)
        key = f'<svg viewBox="0 0 26 10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" stroke="var(--{COLOURS[index % 4]})" stroke-width="2.5" stroke-dasharray="{DASHES[index % 4]}"/></svg>'
        return f"<li>{key}{both(*names.get(kind, (kind, kind)))}: {newest:.3g}</li>"

    axes = f'<path class="axis" d="M40 15V150H590" fill="none"/><text x="36" y="20" text-anchor="end">{high:.3g}</text><text x="36" y="150" text-anchor="end">{low:.3g}</text><text x="590" y="166" text-anchor="end">{last}</text>'
    drawn, told = "".join(line(kind, index) for index, kind in enumerate(kinds)), "".join(legend(kind, index) for index, kind in enumerate(kinds))
    if found := [(row[lowest], step) for step, row in points if math.isfinite(row.get(lowest, math.nan))]:
        value, step = min(found)
        en, zh = names.get(lowest, (lowest, lowest))
        x, y = place(step, value)
        drawn += f'<circle cx="{x}" cy="{y}" r="6" {RING}/>'
        key = f'<svg viewBox="0 0 26 10" aria-hidden="true"><circle cx="13" cy="5" r="4" {RING}/></svg>'
        told += f"<li>{key}{both(f'lowest {en}: {value:.3g}, step {step}', f'{zh}最低点：{value:.3g}，第 {step} 步')}</li>"
    return f'<svg class="chart" viewBox="0 0 600 170" aria-hidden="true">{axes}{drawn}</svg><ul class="legend">{told}</ul>'


def promise(exam, ends: tuple[str, str], deadline: float = runs.DEADLINE) -> str:
    """Whether the end of a training came when it was promised. ends: what is kept of one that is stopped after `deadline` seconds, and what would come to an end."""
    took, said, come = (None if value is None else max(1, round(value)) for value in (exam.seconds, exam.promised, exam.arrived))
    if come is not None and said is not None:
        return note(f"The end was promised after {said} s of training and came after {come} s.", f"承诺训练 {said} 秒后结束，实际 {come} 秒。")
    if come is not None:
        return note(f"It took {come} s of training, too short for a promise.", f"训练用了 {come} 秒，时间太短，没有作承诺。")
    if said is None:
        return note("How long it will take is being measured…", "正在测算需要多长时间……")
    if said > deadline:
        most = round(deadline)
        return note(
            f"It would take about {said} s here, but a training is stopped after {most} s and {ends[0]}",
            f"在本机大约需要 {said} 秒，但训练最多进行 {most} 秒，{ends[1]}",
            warn=True,
        )
    return note(f"The end comes after about {said} s of training; {took} s have passed.", f"训练约 {said} 秒后结束；已过 {took} 秒。")
