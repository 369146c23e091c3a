"""Finding what does not belong: how many nats a digit costs against what is no digit, a digit never seen, and tumours in a table."""

import functools
import time

import gradio as gr

from demos.endpoints import opened
from demos.i18n import both, t, told
from demos.pieces import empty, heading, histograms, in_place, note, refused, wall
from demos.vae.make import choices, digit_on
from genkit import models, vae
from genkit.core import Problem, number, pick

LESSON = (
    "A model that has seen digits only needs many nats for anything else. So the price itself is an alarm: above a threshold, call it odd. Move the threshold: fewer false alarms, or fewer misses? "
    "(What grey pixels cost even when drawn perfectly is left out, or a bold digit would seem odder than a thin scribble.)",
    "只见过数字的模型，碰到别的东西要花很多纳特。于是价格本身就是警报：超过阈值就算异常。移动阈值：少误报，还是少漏报？（灰色像素即使画得完美也要花的那部分不算，否则粗笔的数字会显得比细线乱涂还异常。）",
)
SOURCES = {
    "letters": ("letters", "字母"),
    "scribbles": ("scribbles", "乱涂"),
    "noise": ("noise", "噪声"),
    "fashion": ("clothes (Fashion-MNIST)", "衣物（Fashion-MNIST）"),
}
SCORES = {"elbo": ("negative ELBO", "负 ELBO"), "recon": ("reconstruction alone", "只看重建")}
COUNT, ALARMS = 400, 0.01  # pictures of each kind; false alarms at which a recall is told
TURN = 0.4  # seconds between two looks at an experiment


# --- measured


@functools.cache
def usual(variant: str) -> dict[str, list[float]]:
    """What COUNT test digits cost, in nats, by each score."""
    with models.guarded():
        return dict(zip(SCORES, vae.scores(use(variant), vae.normal(COUNT)), strict=True))


@functools.lru_cache(maxsize=64)
def measured(source: str, score: str, variant: str):
    """The Roc of COUNT test digits against COUNT pictures of a source. Raises Problem for unknown names and where the pictures are not there."""
    pick(SOURCES, source, "source", "来源")
    pick(SCORES, score, "score", "得分")
    with models.guarded():
        odd = vae.scores(use(variant), vae.odd(source, COUNT))[list(SCORES).index(score)]
    return vae.roc(usual(variant)[score], odd)


def use(variant: str):
    pick(vae.VARIANTS, variant, "VAE variant", "VAE 变体")
    return models.use("vae", variant)


def price(picture, variant: str) -> dict[str, float]:
    """What a 28 x 28 digit costs, in nats, by each score."""
    with models.guarded():
        elbo, recon = vae.scores(use(variant), [picture])
    return {"elbo": elbo[0], "recon": recon[0]}


def vae_anomaly(image: dict, variant: str = "conv") -> dict:
    """How odd a picture (an uploaded file) is to a model that has seen digits only.

    elbo: its negative ELBO, recon: its reconstruction, both in nats above what its grey pixels cost when drawn perfectly; percentile: the percentage of 400 test digits that cost less (by elbo);
    threshold: the elbo above which 1 % of test digits lie; odd: whether it lies above.
    """
    paid = price(vae.digit_from(opened(image)), variant)
    normal = sorted(usual(variant)["elbo"])
    threshold = normal[min(round(len(normal) * (1 - ALARMS)), len(normal) - 1)]
    below = 100 * sum(each < paid["elbo"] for each in normal) / len(normal)
    return {**paid, "percentile": below, "threshold": threshold, "odd": paid["elbo"] > threshold}


# --- drawn


def curve(roc) -> str:
    """The ROC as a small chart; its area stands in words beside it."""
    step = max(1, len(roc.fpr) // 200)
    points = [*zip(roc.fpr[::step], roc.tpr[::step], strict=True), (1.0, 1.0)]
    path = " ".join(f"{30 + 160 * fpr:.1f},{170 - 160 * tpr:.1f}" for fpr, tpr in points)
    label = f"ROC, AUC {roc.auc:.3f}"
    axes = '<path class="axis" d="M30 10V170H190" fill="none"/><path class="axis" d="M30 170L190 10" stroke-dasharray="3 4" fill="none"/>'
    words = '<text x="190" y="186" text-anchor="end">{}</text><text x="34" y="22">{}</text>'.format("FPR", "TPR")
    return f'<svg class="chart roc" viewBox="0 0 200 192" role="img" aria-label="{label}">{axes}<polyline points="{path}" fill="none" stroke="var(--accent)" stroke-width="2.5"/>{words}</svg>'


def bands(roc, threshold: float, names: tuple, yours: float | None = None) -> str:
    """Two histograms on one scale, what is normal above what is odd, the threshold across them."""
    everything = sorted([*roc.normal, *roc.odd])
    low, high = everything[0], everything[int(0.98 * (len(everything) - 1))]
    marks = [(threshold, both("threshold", "阈值")), *([] if yours is None else [(yours, both("your drawing", "您的画"))])]
    return histograms(roc.normal, roc.odd, tuple(both(*name) for name in names), (low, high), marks, (f"{low:.0f}", f"{high:.0f}+"))


def alarm(roc, threshold: float) -> str:
    """Precision and recall at a threshold, in words."""
    precision, recall = roc.at(threshold)
    false = sum(score >= threshold for score in roc.normal) / len(roc.normal)
    return note(
        f"Above {threshold:.0f} nats: {recall:.0%} of the odd ones are found (recall), {precision:.0%} of the alarms are right (precision), {false:.1%} of the digits raise a false alarm.",
        f"超过 {threshold:.0f} 纳特算异常：异常的找到了 {recall:.0%}（召回率），警报中 {precision:.0%} 是对的（精确率），{false:.1%} 的数字被误报。",
    )


def judged(roc, about: str) -> str:
    """A curve and what to say of it."""
    return f'<div class="judging">{curve(roc)}<div role="status">{about}</div></div>'


# --- what the page shows


@in_place
def compare(sheet, source, score, threshold, variant) -> str:
    """Digits against a source, at a threshold, the visitor's drawing among them."""
    threshold, roc = number(threshold, 0.0, 5000.0, "threshold"), measured(source, score, variant)
    try:
        yours = price(digit_on(sheet), variant)[score] if sheet else None
    except Problem:
        yours = None
    area = note(
        f"AUC {roc.auc:.3f}: so often an odd picture costs more than a digit, by {SCORES[score][0]}. 1 is perfect, 0.5 a coin toss. {COUNT} test digits, {COUNT} {SOURCES[source][0]}.",
        f"AUC {roc.auc:.3f}：按{SCORES[score][1]}，异常图比数字更贵的概率。1 为完美，0.5 等于抛硬币。测试数字 {COUNT} 个，{SOURCES[source][1]} {COUNT} 个。",
    )
    mine = note(f"Your drawing costs {yours:.0f} nats.", f"您的画花费 {yours:.0f} 纳特。") if yours is not None else ""
    names = (("test digits", "测试数字"), SOURCES[source])
    return bands(roc, threshold, names, yours) + judged(roc, alarm(roc, threshold) + area + mine) + examples(source)


@functools.cache
def examples(source: str) -> str:
    """Ten pictures of a source."""
    return wall(vae.odd(source, 10, seed=1), ["·"] * 10)


def suggested(source, score, variant):
    """The threshold at which 1 % of the digits raise a false alarm; it moves the slider when another source or score is chosen."""
    try:
        return round(measured(source, score, variant).threshold(ALARMS))
    except Problem:
        return gr.skip()


def progressing(share: float) -> str:
    said = both(f"training: {share:.0%}", f"训练中：{share:.0%}")
    return f'<div class="run"><p role="status">{said}</p><progress max="1" value="{share:.3f}" aria-label="training"></progress></div>'


def watched(events, shown):
    """The HTML of an experiment: its progress, now and then, and shown(result) in the end."""
    said = 0.0
    for event in events:
        if not isinstance(event, float):
            yield shown(event)
        elif time.monotonic() - said > TURN:
            said = time.monotonic()
            yield progressing(event)


def experiment(begin, shown):
    """The handler of an experiment: begin(*values) gives shares that are done and, last, a result. A Problem stands in the result's place."""

    def run(*values):
        try:
            yield from watched(models.guard(begin(*values)), shown)
        except Problem as problem:
            yield refused(problem)

    return run


def without(digit):
    return vae.held_out_class(int(pick(tuple("0123456789"), str(digit), "digit", "数字")))


def held_out(roc) -> str:
    return bands(roc, roc.threshold(ALARMS), (("digits it has seen", "见过的数字"), ("the digit never seen", "没见过的数字"))) + judged(
        roc,
        note(
            f"AUC {roc.auc:.3f}. At 1 % false alarms {roc.recall(ALARMS):.0%} of the unseen digit are found. Some digits hide well: a 1 or a 9 costs little, because its strokes occur in others.",
            f"AUC {roc.auc:.3f}。误报 1% 时，能找出没见过的数字中的 {roc.recall(ALARMS):.0%}。有些数字藏得好：1 或 9 花费很少，因为它们的笔画别的数字里也有。",
        ),
    )


def table():
    return vae.tabular()


def tumours(found) -> str:
    each = ", ".join(f"{recall:.0%}" for recall in found.recalls)
    return bands(found.roc, found.roc.threshold(ALARMS), (("benign, never seen", "良性，没学过"), ("malignant", "恶性"))) + judged(
        found.roc,
        note(
            f"At 1 % false alarms {found.recall:.0%} of the {found.odd} malignant tumours are found (mean of {len(found.recalls)} splits: {each}); AUC {found.roc.auc:.3f}. "
            f"Learnt from {found.trained} benign rows only, tested on {found.normal} others. Without learning, by the distance from the mean alone: {found.plain:.0%}.",
            f"误报 1% 时，{found.odd} 个恶性肿瘤中找出了 {found.recall:.0%}（{len(found.recalls)} 次划分的平均：{each}）；AUC {found.roc.auc:.3f}。"
            f"只学了 {found.trained} 行良性数据，用另外 {found.normal} 行检验。不学习、只看离均值多远：{found.plain:.0%}。",
        )
        + note(
            "Breast cancer Wisconsin (diagnostic), 569 rows of 30 measurements, as scikit-learn ships it. An experiment, not a medical test.",
            "威斯康星乳腺癌（诊断）数据集，569 行、每行 30 项测量，随 scikit-learn 附带。这是实验，不是医学检查。",
        ),
    )


def build(parts: dict) -> None:
    gr.HTML(note(*LESSON))
    with gr.Row():
        source = gr.Radio(
            [(t(*said), name) for name, said in SOURCES.items()], value="letters", label=t("Digits against", "数字与什么比"), min_width=260, scale=2
        )
        score = gr.Radio([(t(*said), name) for name, said in SCORES.items()], value="elbo", label=t("Price", "价格"), min_width=200)
        variant = gr.Dropdown(choices(), value="conv", label=t("Model", "模型"), filterable=False, min_width=180)
    with gr.Row():
        threshold = gr.Slider(0, 600, 60, step=1, label=t("Threshold, nats", "阈值（纳特）"), min_width=220, scale=2, elem_id="vae-threshold")
        press = gr.Button(t("Measure", "测量"), variant="primary", min_width=140)
    result = gr.HTML(empty("Two histograms and a curve appear here.", "两个直方图和一条曲线会显示在这里。"), elem_id="vae-odd")
    heading(
        "A digit it has never seen", "一个从没见过的数字",
        "A small VAE is trained here and now, without one of the ten digits. Does that digit then cost more?",
        "此时此地训练一个小 VAE，十个数字里去掉一个。这个数字会变贵吗？",
    )  # fmt: skip
    with gr.Row():
        digit = gr.Dropdown(list("0123456789"), value="7", label=t("Leave out", "去掉"), filterable=False, min_width=110, scale=0)
        train = gr.Button(t("Train without it", "不带它训练"), min_width=160, scale=0)
    unseen = gr.HTML(elem_id="vae-held-out")
    heading(
        "Not only pictures: tumours in a table", "不只是图片：表格里的肿瘤",
        "The same idea on 30 measurements of cells: a VAE learns what benign tumours look like, and every row that is dear is suspicious.",
        "同样的想法用在细胞的 30 项测量上：VAE 学会良性肿瘤的样子，花费高的行就可疑。",
    )  # fmt: skip
    with gr.Row():
        rows = gr.Button(t("Train on benign rows, test on all", "用良性数据训练，再全部检验"), min_width=200, scale=0)
    tabular = gr.HTML(elem_id="vae-tabular")

    light = {"api_visibility": "private", "show_progress": "hidden"}
    measuring = {"fn": compare, "inputs": [parts["pad"], source, score, threshold, variant], "outputs": result, "concurrency_limit": 8, **light}
    press.click(suggested, [source, score, variant], threshold, concurrency_limit=8, **light).success(**measuring)
    gr.on([source.change, score.change, variant.change], suggested, [source, score, variant], threshold, concurrency_limit=8, **light).success(**measuring)
    threshold.input(trigger_mode="always_last", **measuring)
    heavy = {"concurrency_id": "experiment", "concurrency_limit": 1, **light}
    train.click(experiment(without, held_out), digit, unseen, **heavy)
    rows.click(experiment(table, tumours), None, tabular, **heavy)
    gr.api(told(vae_anomaly), api_name="vae_anomaly", concurrency_limit=8)
    parts |= {"odd_source": source, "odd_score": score, "odd_threshold": threshold, "odd_button": press, "odd_result": result}
    parts |= {"odd_digit": digit, "odd_train": train, "odd_unseen": unseen, "odd_rows": rows, "odd_tabular": tabular}
