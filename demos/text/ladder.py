"""The ladder: from counting to a transformer, every rung on the same beginning with the same seed, side by side; and how well each foresees a text."""

import math
import time

import gradio as gr

import genkit.text
from demos import download, training
from demos.i18n import both, escape, t, told
from demos.pen import ASKED, stopped_by
from demos.pieces import empty, made_by, note, refused, written
from demos.text.write import EXAMPLES, checked, lost, settings_of
from genkit import models
from genkit.core import Problem, number, pick

TITLE = ("The ladder: from counting to a chat model", "阶梯：从数数到聊天模型")
LESSON = (
    "One beginning, one seed, rung by rung: the one above, with the settings above. The n-gram only counts what followed the last few characters; the hidden Markov model "
    "moves among states that nobody named; the LSTM carries a memory along; the GPT looks back at everything. Read them side by side, then look at the numbers.",
    "同一个开头、同一个种子，一级一级往上：用的就是上面的开头和设置。n 元语法只数最近几个字之后出现过什么；隐马尔可夫模型在一些没有名字的状态之间走动；"
    "LSTM 带着一份记忆往前走；GPT 回看前面的一切。先并排读一读，再看数字。",
)
RUNGS = {
    "ngram": ("n-gram: counting", "n 元语法：数数"),
    "hmm": ("hidden Markov model", "隐马尔可夫模型"),
    "lstm": ("LSTM", "LSTM 网络"),
    "gpt": ("GPT: a transformer", "GPT：Transformer 网络"),
}
LADDERS = {"shakespeare": ("English: Shakespeare", "英文：莎士比亚"), "tang": ("Chinese: Tang poems", "中文：唐诗")}
NONE = "-"  # no pretrained model
POOL = {"concurrency_id": "ladder", "concurrency_limit": 4}
TURN = 0.07  # seconds that a rung writes before the next one does
# from the last tenth of each corpus, which none of our models has learnt
PASSAGES = {
    "shakespeare": """CALIBAN:
I must eat my dinner.
This island's mine, by Sycorax my mother,
Which thou takest from me. When thou camest first,
Thou strokedst me and madest much of me, wouldst give me
Water with berries in't, and teach me how
To name the bigger light, and how the less,
That burn by day and night: and then I loved thee
And show'd thee all the qualities o' the isle,
The fresh springs, brine-pits, barren place and fertile:
Cursed be I that did so!
""",
    "tang": """五律·归鴈：塞门春已暖，连影起苹风。云梦千行去，潇湘一夜空。江人休举网，虏将又虚弓。莫失南来伴，衡阳树即红。
五律·江南杂题三十首：鸟逸溪云静，人行野岸稀。茅峰三点翠，练水一条辉。晚蝶花心少，阴莹草里微。何妨孟朱舍，夜饮醉歌归。
七绝·欸乃曲：千里枫林烟雨深，无朝无暮有猨吟。倚桡静听曲中意，好似云山韶濩音。
七绝·清平调：云想衣裳花想容，春风拂槛露华浓。若非群玉山头见，会向瑶台月下逢。
""",
}
HELD_OUT = note(
    "At first a passage from the last tenth of the corpus: none of our models has learnt it; a pretrained one may have read it. Put in anything else.",
    "开始时是语料最后十分之一里的一段：我们的模型都没有学过它，预训练模型也许读过。可以换成任何文本。",
)


class Rung:
    """One column: a model that writes a little whenever it is its turn, and what was measured of it."""

    def __init__(self, kind: str, name: str, order: int):
        self.kind, self.name, self.order = kind, name, order
        self.made, self.seconds, self.writes, self.pieces, self.cut = "", 0.0, True, None, 0
        self.problem = self.found = self.unforeseen = None  # why it cannot write; its text.Perplexity; why there is none

    def model(self):
        model = models.use("text", self.name)
        return genkit.text.of_order(model, self.order) if self.kind == "ngram" else model

    def write(self, prompt: str, settings: dict, seconds: float) -> None:
        """Write on for about so many seconds."""
        began = time.perf_counter()
        try:
            if self.pieces is None:
                model = self.model()
                if self.kind == "ngram":
                    model.prepare()
                if not models.elsewhere("text", self.name):
                    self.cut = genkit.text.fit(model, prompt)[1]
                self.pieces = models.guard(genkit.text.pieces(model, prompt, **settings))
                began = time.perf_counter()  # loading and sorting are not writing
            while time.perf_counter() - began < seconds:
                piece = next(self.pieces, None)
                if piece is None:
                    self.writes = False
                    break
                self.made += piece[0]
        except Problem as problem:
            self.problem, self.writes = problem, False
        self.seconds += time.perf_counter() - began

    def foresee(self, passage: str) -> None:
        """Measure how well it foresees a text."""
        if self.problem:
            return
        try:
            with models.guarded():
                self.found = genkit.text.perplexity(self.model(), passage)
        except Problem as problem:
            self.unforeseen = problem

    def close(self) -> None:
        self.writes = False
        if self.pieces is not None:
            self.pieces.close()

    def title(self) -> str:
        if self.kind == "ngram":
            return both(f"{self.order}-gram: counting", f"{self.order} 元语法：数数")
        return both(*RUNGS[self.kind]) if self.kind in RUNGS else escape(self.name)

    def shown(self, prompt: str, settings: dict) -> str:
        """The column as HTML."""
        head = f"<h4>{self.title()}</h4>"
        if self.problem:
            return head + refused(self.problem)
        mark = made_by(self.name, seed=settings["seed"], temperature=settings["temperature"])
        return head + written(prompt, self.made, writing=self.writes) + (lost(self.cut) + mark + self.figures() if self.pieces else "")

    def figures(self) -> str:
        """Parameters, training time, perplexity, tokens a second."""
        if self.pieces is None or models.elsewhere("text", self.name):
            return ""
        model = self.model()
        tokens = len(model.tokenizer(self.made, add_special_tokens=False, verbose=False).input_ids)
        took, nats = (getattr(model.config, name, None) for name in ("trained_seconds", "held_out_nats"))
        size = both("counts", "计数") if self.kind == "ngram" else both("parameters", "参数")
        rows = [
            (size, f"{model.num_parameters():,}", ""),
            (both("trained in", "训练用时"), training.seconds(took) if took else both("not recorded", "没有记录"), ""),
        ]
        if self.found:
            about = both(f"{self.found.bits_per_character:.2f} bits a character", f"每字符 {self.found.bits_per_character:.2f} 比特")
            rows.append((both("perplexity of the text below", "对下方文本的困惑度"), figure(self.found.perplexity), about))
        if nats:
            whole = both("of the whole last tenth of its corpus, when it was trained", "训练时，在语料最后十分之一上")
            rows.append((both("perplexity, recorded", "困惑度（记录）"), figure(math.exp(nats)), whole))
        rows.append((both("tokens a second, this time", "本次每秒词元数"), f"{tokens / self.seconds:.0f}" if self.seconds > 0.02 else "…", ""))
        each = (f"<div><dt>{name}</dt><dd>{value}</dd>{about and f'<dd>{about}</dd>'}</div>" for name, value, about in rows)
        return f'<dl class="figures">{"".join(each)}</dl>'


def figure(value: float) -> str:
    """Three digits that count."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}" if value < 1e9 else f"{value:.1e}"


def rungs_of(corpus: str, chosen: list[str], pretrained: str, order) -> list[Rung]:
    """The columns asked for, from the lowest rung to the highest."""
    pick(LADDERS, corpus, "ladder", "阶梯")
    order = number(order, 1, 8, "order", whole=True)
    if not isinstance(chosen, list) or not (chosen or pretrained != NONE):
        raise Problem("no rung is chosen; tick at least one", "没有选中任何一级；请至少勾选一个")
    picked = [kind for kind in chosen if pick(RUNGS, kind, "rung", "级")]
    found = [Rung(kind, f"{kind}-{corpus}", order) for kind in RUNGS if kind in picked and f"{kind}-{corpus}" in genkit.text.VARIANTS]
    return found + ([Rung("pretrained", pretrained, order)] if pretrained != NONE else [])


def columns(found: list[Rung], prompt: str, settings: dict) -> list:
    """One update for each of the columns of the page."""
    shown = {rung.kind: rung.shown(prompt, settings) for rung in found}
    return [gr.HTML(shown.get(kind, ""), visible=kind in shown) for kind in (*RUNGS, "pretrained")]


@told
def climb(pen, asked, prompt, corpus, chosen, pretrained, order, passage, *settings):
    """All rungs write in turns until each is done or the visitor stops them; then each is asked how well it foresees the passage."""
    prompt, passage, settings = checked(prompt, f"gpt-{corpus}"), checked(passage, f"gpt-{corpus}"), settings_of(*settings)
    found = rungs_of(corpus, chosen, pretrained, order)
    for rung in found:
        checked(prompt, rung.name)
    yield *columns(found, prompt, settings), ""
    try:
        while any(rung.writes for rung in found):
            for rung in found:
                if rung.writes:
                    rung.write(prompt, settings, TURN)
                    if pen.rests(asked):
                        break
            if pen.rests(asked):
                break
            yield *columns(found, prompt, settings), gr.skip()
    finally:
        for rung in found:
            rung.close()
    yield *columns(found, prompt, settings), note("Measuring how well each foresees the text…", "正在测量各级预见文本的能力……")
    for rung in found:
        rung.foresee(passage)
        yield *columns(found, prompt, settings), compared(found)


@told
def reorder(prompt, corpus, chosen, order, passage, *settings):
    """The n-gram's column with another order."""
    if "ngram" not in (chosen or []):
        return gr.skip()
    prompt, passage, settings = checked(prompt, f"ngram-{corpus}"), checked(passage, f"ngram-{corpus}"), settings_of(*settings)
    (rung,) = rungs_of(corpus, ["ngram"], NONE, order)
    rung.write(prompt, settings, 60)
    rung.foresee(passage)
    return gr.HTML(rung.shown(prompt, settings), visible=True)


def compared(found: list[Rung]) -> str:
    """The perplexities as bars, with the numbers beside them, and what makes them doubtful."""
    measured = [rung for rung in found if rung.found]
    if not measured:
        return next((refused(rung.unforeseen) for rung in found if rung.unforeseen), "")
    top, best = max(rung.found.bits_per_character for rung in measured), min(measured, key=lambda rung: rung.found.perplexity)
    rows = "".join(
        f'<li><span>{rung.title()}</span><i style="--w:{100 * rung.found.bits_per_character / top:.1f}%"></i><b>{figure(rung.found.perplexity)}</b></li>'
        for rung in measured
    )
    chances = figure(best.found.perplexity)
    said = note(
        f"Best foreseen by <b>{best.title()}</b>: for every character as undecided as between {chances} equal chances. The bars are bits a character; shorter is better.",
        f"预见得最好的是<b>{best.title()}</b>：每个字符的犹豫程度相当于在 {chances} 个均等的机会之间选择。条形是每字符的比特数，越短越好。",
    )
    return f'<div role="status">{said}</div><ul class="rows">{rows}</ul>{doubts(measured)}'


def doubts(measured: list[Rung]) -> str:
    """What of the text was not read, or not known."""
    cut, strange = max(rung.found.cut for rung in measured), max(rung.found.unknown for rung in measured)
    said = note(f"Of this text the last {cut:,} characters were not read.", f"这段文本的最后 {cut:,} 个字符未被读取。", warn=True) if cut else ""
    if strange:
        said += note(
            f"{strange:,} characters are unknown to some of these models, which take each for one and the same sign: their numbers say little here.",
            f"有 {strange:,} 个字符是其中一些模型不认识的，在它们看来都是同一个符号：它们的数字在这里意义不大。",
            warn=True,
        )
    return said


def text_perplexity(text: str, model: str = "gpt-shakespeare") -> dict:
    """How well `model` foresees `text`: {"perplexity", "bits_per_character", "tokens", "characters", "cut", "unknown"}.

    perplexity: per character, so that models with different tokens compare; tokens and characters: how many were read; cut: characters at the end that were not
    (at most 2,000 tokens are); unknown: tokens that stand for characters which the model does not know.
    """
    text = checked(text, model)
    with models.guarded():
        found = genkit.text.perplexity(models.use("text", model), text)
    return {name: getattr(found, name) for name in ("perplexity", "bits_per_character", "tokens", "characters", "cut", "unknown")}


def turned(corpus: str, prompt: str, passage: str):
    """The other ladder's own beginning, passage and order, where they still stand as they came."""
    pick(LADDERS, corpus, "ladder", "阶梯")
    own = f"gpt-{corpus}"
    return (
        EXAMPLES[own] if prompt in EXAMPLES.values() else prompt,
        PASSAGES[corpus] if passage in PASSAGES.values() else passage,
        genkit.text.VARIANTS[f"ngram-{corpus}"].order,
    )


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    gr.HTML(note(*LESSON))
    with gr.Row():
        corpus = gr.Radio([(t(*name), key) for key, name in LADDERS.items()], value="shakespeare", label=t("Ladder", "阶梯"), min_width=240)
        chosen = gr.CheckboxGroup([(t(*name), key) for key, name in RUNGS.items()], value=[*RUNGS], label=t("Rungs", "级"), min_width=280)
    with gr.Row():
        order = gr.Slider(
            1,
            8,
            genkit.text.VARIANTS["ngram-shakespeare"].order,
            step=1,
            label=t("Order of the n-gram", "n 元语法的 n"),
            info=t("It looks at n − 1 characters. Takes effect at once.", "它看前面 n − 1 个字符。立即生效。"),
            elem_id="text-order",
        )
        pretrained = gr.Dropdown(
            [(t("none", "不用"), NONE), *((name, name) for name in models.catalogue("text"))],
            value=NONE,
            label=t("And a pretrained model", "再加一个预训练模型"),
            filterable=False,
        )
    download.panel("text", pretrained)
    with gr.Row():
        go = gr.Button(t("Let them all write", "一起写"), variant="primary", min_width=140, elem_id="text-climb")
        stop = gr.Button(t("Stop", "停止"), min_width=80)
    with gr.Row(elem_classes="rungs"):
        shown = [
            gr.HTML(
                empty("They write here, side by side.", "它们在这里并排写。") if kind == "ngram" else "",
                visible=kind == "ngram",
                elem_id=f"text-rung-{kind}",
            )
            for kind in (*RUNGS, "pretrained")
        ]
    passage = gr.Textbox(PASSAGES["shakespeare"], label=t("A text to foresee", "要预见的文本"), lines=4, max_lines=8, max_length=10_000, elem_id="text-passage")
    gr.HTML(HELD_OUT)
    summary = gr.HTML(elem_id="text-foreseen")

    settings = [parts[name] for name in ("length", "temperature", "top_k", "top_p", "repetition_penalty", "seed")]
    private = {"api_visibility": "private"}
    go.click(
        climb,
        [*stopped_by(stop), parts["prompt"], corpus, chosen, pretrained, order, passage, *settings],
        [*shown, summary],
        js=ASKED,
        show_progress="hidden",
        **POOL,
        **private,
    )
    order.input(reorder, [parts["prompt"], corpus, chosen, order, passage, *settings], shown[0], trigger_mode="always_last", show_progress="hidden", **private)
    corpus.input(turned, [corpus, parts["prompt"], passage], [parts["prompt"], passage, order], queue=False, show_progress="hidden", **private)
    parts["ladder_go"] = go
    gr.api(told(text_perplexity), api_name="text_perplexity", **POOL)
