"""Pieces of HTML that the tabs are made of: pictures, the mark of what made them, bars, a chart. Text in them is escaped."""

import base64

from PIL import Image

from demos.i18n import both, escape
from genkit import labels

COLOURS = ("accent", "second", "third", "fourth")
DASHES = ("", "6 3", "2 3", "8 3 2 3")  # nothing is said by colour alone


def data_uri(picture: Image.Image) -> str:
    """A PNG with its mark as a data: address. Small pictures need no file on the server this way."""
    return "data:image/png;base64," + base64.b64encode(labels.png(picture)).decode()


def wall(pictures: list[Image.Image], names: list[str]) -> str:
    """Small pictures hung ten in a row (five on a phone); a click downloads the original PNG."""
    addresses = map(data_uri, pictures)  # a PNG is encoded once, and stands in the page twice: to see and to download
    hung = (
        f'<a href="{address}" download="{escape(name)}.png"><img alt="{escape(name)}" src="{address}">{escape(name)}</a>'
        for address, name in zip(addresses, names, strict=True)
    )
    return f'<div class="wall">{"".join(hung)}</div>'


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


def chart(points: list[tuple[int, dict[str, float]]], names: dict[str, tuple[str, str]]) -> str:
    """Curves of a run. points: (step, {metric: value}); names: metric -> its English and Chinese name. The newest values stand in words."""
    kinds = list(dict.fromkeys(key for _, row in points for key in row))
    values = [value for _, row in points for value in row.values()]
    if not values:
        return ""
    low, high, last = min(0.0, *values), max(values), max(points[-1][0], 1)
    span = (high - low) or 1

    def line(kind: str, index: int) -> str:
        path = " ".join(f"{40 + 550 * step / last:.1f},{150 - 135 * (row[kind] - low) / span:.1f}" for step, row in points if kind in row)
        style = f'fill="none" stroke="var(--{COLOURS[index % 4]})" stroke-width="2" stroke-dasharray="{DASHES[index % 4]}"'
        return f'<polyline points="{path}" {style}/>'

    def legend(kind: str, index: int) -> str:
        newest = next(row[kind] for _, row in reversed(points) if kind in row)
        key = f'<svg viewBox="0 0 26 10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" stroke="var(--{COLOURS[index % 4]})" stroke-width="2.5" stroke-dasharray="{DASHES[index % 4]}"/></svg>'
        return f"<li>{key}{both(*names.get(kind, (kind, kind)))}: {newest:.3g}</li>"

    axes = f'<path class="axis" d="M40 15V150H590" fill="none"/><text x="36" y="20" text-anchor="end">{high:.3g}</text><text x="36" y="150" text-anchor="end">{low:.3g}</text><text x="590" y="166" text-anchor="end">{last}</text>'
    drawn = "".join(line(kind, index) for index, kind in enumerate(kinds))
    return f'<svg class="chart" viewBox="0 0 600 170" aria-hidden="true">{axes}{drawn}</svg><ul class="legend">{"".join(legend(kind, index) for index, kind in enumerate(kinds))}</ul>'
