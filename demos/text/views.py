"""The ways to ask why: attention, gradients, counts, the path of states. Each gives every token of the text a share, and HTML to stand beside the text."""

import base64
import io
import json

from demos.i18n import both, escape
from demos.pieces import note
from demos.text.write import percent, visible
from genkit import text

HOW = {
    "attention": ("Where it looked: attention", "它看向哪里：注意力"),
    "gradient": ("What moved it: gradient × input", "什么推动了它：梯度 × 输入"),
    "counts": ("What was counted", "数出来的"),
    "path": ("The path of its states", "状态的路径"),
}
MEANT = {
    "attention": (
        "In every layer, each head divides one whole glance among the tokens so far. A head that has nothing to look for often rests on the very first token. Attention says where a head reads, not what it makes of it.",
        "在每一层里，每个注意力头把一份完整的目光分给已有的词元。无事可找的头常常停在最前面的词元上。注意力说明它从哪里读取，不说明它读出了什么。",
    ),
    "gradient": (
        "How much the chosen token's score would change with each earlier token, times that token itself. Orange spoke for it (+), teal spoke against it (−).",
        "每个在前的词元对所选词元得分的影响（梯度乘以输入）。橙色是支持（+），青色是反对（−）。",
    ),
    "counts": (
        "This model has counted what followed what. It asks the longest context that it has met, then shorter ones, and mixes their answers. The shading shows how much of the chance rests on each token: the weights of all orders that look back as far as that.",
        "这个模型数过什么后面跟着什么。它先问见过的最长上文，再问更短的，把答案混合起来。底色表示概率有多少依赖于该词元：所有看得到那里的阶的权重之和。",
    ),
    "path": (
        "Behind every token this model imagines a hidden state; each state knows what it likes to say and which state likes to follow. Shaded: how likely it is that the same state said the other tokens as well.",
        "这个模型设想每个词元背后都有一个隐藏状态；每个状态知道自己爱说什么、之后常是哪个状态。底色表示其他词元由同一个状态说出的可能性。",
    ),
}
MOST = {  # a way without a title has no list of the largest shares
    "attention": ("Looked back at, most of all", "最主要看向"),
    "gradient": ("Moved it most", "推动最大的"),
    "counts": ("How much of the chance rests on it", "概率有多少依赖于它"),
}
THUMB = 64  # pixels
TOP = 5
LEAST = 0.001  # a share below it is not listed
FOLLOWERS = 4  # of each order that are shown
AROUND = 7  # tokens on either side, in the path of states


# --- a view for each way to ask: the share of every token before `at`, and what stands beside the text (HTML)


def attention(network, seen, known, at: int, layer: int, head: int) -> tuple[list[float], str]:
    weights = known.attention
    layers, heads = weights.shape[:2]
    layer, head = layers // 2 if layer < 0 else min(layer, layers - 1), min(head, heads - 1)
    chosen = text.heads_of(weights, layer, head)
    stack = buttons([(str(each + 1), {"layer": each}, each == layer) for each in range(layers)], ("Layer; 1 is next to the text", "层；第 1 层紧挨文本"))
    small = [png(text.picture(text.heads_of(weights, layer, each), THUMB)) for each in range(-1, heads)]
    names = [both("all", "平均"), *(str(each + 1) for each in range(heads))]
    crown = buttons(
        [(f'<img alt="" src="{image}">{name}', {"head": each - 1}, each - 1 == head) for each, (image, name) in enumerate(zip(small, names, strict=True))],
        ("Head of this layer; “all” is their mean", "该层的注意力头；“平均”是所有头的均值"),
    )
    return chosen[at - 1, :at].tolist(), f"<div>{stack}{crown}{glance(chosen, at)}</div>"


def gradient(network, seen, known, at: int, layer: int, head: int) -> tuple[list[float], str]:
    pushes = text.attributions(network, seen.ids, at)
    return (pushes / pushes.abs().sum().clamp(min=1e-12)).tolist(), ""


def counts(network, seen, known, at: int, layer: int, head: int) -> tuple[list[float], str]:
    ids, target = list(seen.ids[:at]), known.following if at == len(seen.ids) else seen.ids[at]
    orders = text.counts(network, ids, k=network.config.vocab_size)
    shares = [sum(order.weight for order in orders if order.n > at - place) for place in range(at)]
    heads = [("Context", "上文"), ("seen", "出现"), ("what followed, how often", "之后出现了什么，几次"), ("this one", "这一个"), ("weight", "权重")]
    head_row = "".join(f'<th scope="col">{both(*name)}</th>' for name in heads)
    rows = "".join(counted(network, order, target) for order in orders)
    return shares, f'<div><table class="orders"><thead><tr>{head_row}</tr></thead><tbody>{rows}</tbody></table>{corpus(network, ids)}</div>'


def counted(network, order, target: int) -> str:
    """One order as a row: its context, how often that stands in the corpus, what followed, and the weight of its answer."""
    context = f"“{spelt(network, order.context)}”" if order.context else both("(none)", "（无）")
    followers = ", ".join(f"<b>{spelt(network, [token])}</b> {often:,}" for token, often in order.followers[:FOLLOWERS])
    more = order.distinct - FOLLOWERS
    rest = both(f", and {more} others", f"，另有 {more} 种") if more > 0 else ""
    return (
        f'<tr><th scope="row">{context}</th><td>{order.count:,}</td><td>{followers or "–"}{rest}</td>'
        f"<td>{dict(order.followers).get(target, 0):,}</td><td>{percent(order.weight)}</td></tr>"
    )


def corpus(network, ids: list[int]) -> str:
    """Where the corpus has the longest end of the text that it has."""
    often, found = text.places(network, ids)
    if not often:
        return note("Nothing of this stands in its corpus.", "它的语料里没有这些。")
    title = both(f"Where its corpus has this: {often:,} places", f"语料中的出处：共 {often:,} 处")
    rows = "".join(f"<li>…{spelt(network, place.before)}<mark>{spelt(network, place.context)}</mark>{spelt(network, place.after)}…</li>" for place in found)
    return f'<h4>{title}</h4><ul class="places">{rows}</ul>'


def path(network, seen, known, at: int, layer: int, head: int) -> tuple[list[float], str]:
    last, walk = at == len(seen.ids), text.walk(network, seen.ids)
    here = walk.following[0] if last else (walk.states[at], walk.sure[at])
    shares = [float(share) for share in walk.beliefs[:, here[0]]]
    says = ", ".join(f"<b>{spelt(network, [token])}</b> {percent(chance)}" for token, chance in text.likes(network, here[0]))
    then = ", ".join(f"{state} ({percent(chance)})" for state, chance in text.leads(network, here[0]))
    if last:
        en, zh = "Next, most likely, comes state {0} of {1} ({2}).", "接下来最可能是状态 {0}（共 {1} 个，{2}）。"
    else:
        en, zh = (
            "Here the path goes through state {0} of {1}; in the light of the whole text it is {2} sure.",
            "路径在此经过状态 {0}（共 {1} 个）；综合整段文本，把握为 {2}。",
        )
    en, zh = (sentence.format(here[0], network.config.n_states, percent(here[1])) for sentence in (en, zh))
    said = note(f"{en} It likes to say {says}. After it come states {then}.", f"{zh}它爱说 {says}。它之后常是状态 {then}。")
    steps = range(max(0, at - AROUND), min(len(seen.ids), at + AROUND + 1))
    items = "".join(
        f'<li class="{"chosen" if place == at else "text"}"><b>{both(*called(seen.tokens[place]))}</b><span>{walk.states[place]}</span><code>{percent(walk.sure[place])}</code></li>'
        for place in steps
    )
    title = both("The path: each token, its state, and how sure that is", "路径：词元、状态、把握")
    return shares, f'<div><h4>{title}</h4><ol class="bytes" id="why-path" tabindex="0" aria-label="The path of states · 状态的路径">{items}</ol>{said}</div>'


def spelt(network, ids) -> str:
    """Tokens as text in which everything can be seen (HTML)."""
    return escape(visible(network.tokenizer.decode(list(ids))))


VIEWS = {"attention": attention, "gradient": gradient, "counts": counts, "path": path}


# --- the pieces


def called(token) -> tuple[str, str]:
    """A token within a sentence, English and Chinese (HTML)."""
    if token.parts > 1:
        whole = escape(visible(token.whole)) or "�"
        return f"part {token.part} of {token.parts} of “{whole}”", f"“{whole}”的第 {token.part}/{token.parts} 部分"
    return (f"“{escape(visible(token.text)) or '�'}”",) * 2


def portion(share: float) -> str:
    """A share; only what spoke against has a sign."""
    return f"−{percent(-share)}" if share < 0 else percent(share)


def most(seen, shares: list[float], at: int, title: tuple[str, str]) -> str:
    """The tokens with the largest shares, in words, and all of them for whoever wants to read on."""
    order = sorted((place for place in range(len(shares)) if shares[place]), key=lambda place: -abs(shares[place]))
    if not order:
        return ""
    largest = abs(shares[order[0]]) or 1
    rows = "".join(
        f'<li><b>{both(*called(seen.tokens[place]))}</b><i class="{"less" if shares[place] < 0 else ""}" style="--m:{100 * abs(shares[place]) / largest:.1f}%;--d:0%"></i>'
        f"<span><b>{portion(shares[place])}</b>, {distance(at - 1 - place)}</span></li>"
        for place in order[:TOP]
    )
    named = [(called(seen.tokens[place]), portion(shares[place])) for place in range(len(shares)) if abs(shares[place]) >= LEAST]
    listed = [", ".join(f"{token[language]} {share}" for token, share in named) for language in (0, 1)]
    rest = f'<details id="why-all"><summary>{both("Every token with 0.1 % or more, in order", "所有不小于 0.1 % 的词元，按顺序")}</summary><p>{both(*listed)}</p></details>'
    return f'<h4>{both(*title)}</h4><ol class="chances looked">{rows}</ol>{rest}'


def distance(back: int) -> str:
    return both(f"{back} back", f"往回 {back} 个") if back else both("where it stood", "它所在处")


def glance(weights, at: int) -> str:
    """The whole matrix as a picture, and what it shows in words."""
    spent, rows = text.habits(weights), len(weights)
    said = note(
        f"Each row is a token, each column what it looked at; the future, top right, cannot be seen. The line is the row above. On average over the text this spends {percent(spent['first'])} on the very first token, "
        f"{percent(spent['before'])} on the one just before, {percent(spent['here'])} where it stands, and looks {spent['back']:.1f} tokens back.",
        f"每一行是一个词元，每一列是它所看的对象；右上方是未来，看不到。横线标出所选的一行。整段文本平均：{percent(spent['first'])} 落在最前面的词元，"
        f"{percent(spent['before'])} 落在前一个，{percent(spent['here'])} 落在自身，平均往回看 {spent['back']:.1f} 个词元。",
    )
    image = f'<img alt="" data-rows="{rows}" src="{png(text.picture(weights))}">'
    return f'<div class="glance">{image}<i style="--y:{100 * (at - 0.5) / rows:.2f}%" aria-hidden="true"></i></div>{said}'


def buttons(choices: list[tuple[str, dict, bool]], name: tuple[str, str]) -> str:
    """A row of buttons of which one is pressed: (HTML, what a click changes about the question, pressed)."""
    row = "".join(
        f'<button type="button" id="why-{"-".join(map(str, *asked.items()))}" data-ask=\'{json.dumps(asked)}\' aria-pressed="{"true" if pressed else "false"}">{shown}</button>'
        for shown, asked, pressed in choices
    )
    return f'<div class="picks" role="group" aria-label="{name[0]} · {name[1]}"><p>{both(*name)}</p>{row}</div>'


def png(picture) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
