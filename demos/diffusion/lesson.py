"""Eight minutes with noise: seven steps on the controls of this tab, five questions, and the three formulae behind them."""

import gradio as gr

from demos.i18n import both
from demos.lesson import Lesson, Question, Step, panel
from demos.pieces import note

TITLE = ("Lesson: eight minutes with noise", "课程：与噪声相处八分钟")

STEPS = (
    Step(
        ("Out of noise", "从噪声里来"),
        (
            "The model draws what no training picture showed: it has seen mushrooms, and purple backgrounds, but never the two together.",
            "模型画出训练图片里从未有过的组合：它见过蘑菇，也见过紫色背景，但从没见过两者在一起。",
        ),
        (
            "It comes out of the noise in twenty small steps: first the colours, then the shapes, last the edges.",
            "它分二十小步从噪声里浮现：先是颜色，再是形状，最后是边缘。",
        ),
        ("Draw a mushroom", "画一个蘑菇"),
        shows="result",
        sets={"prompt": "a mushroom on a purple background"},
        press="draw",
    ),
    Step(
        ("Look over its shoulder", "看它怎么想"),
        (
            "Every step is kept. At the third of them there is hardly anything but noise, and yet the network has a belief about the whole picture.",
            "每一步都留了下来。第三步时几乎全是噪声，网络却已经对整张图有了猜想。",
        ),
        (
            "Compare the first picture with the second. Then move the step: when do you know what it is, and when does the network?",
            "比较第一张和第二张。再拖动步数：您什么时候认出来，网络又是什么时候？",
        ),
        ("Go back to step 3", "回到第 3 步"),
        shows="look",
        opens=("steps",),
        sets={"at": 3},
    ),
    Step(
        ("Which word did that?", "是哪个词起的作用？"),
        (
            "At every step each place of the picture listens to your words, to some more than to others.",
            "每一步，画面的每个位置都在听您的词，对有些听得更多。",
        ),
        ("“mushroom” is bright where the mushroom is, “purple” around it. What do “a” and “on” do?", "“mushroom”在蘑菇处最亮，“purple”在它周围。“a”和“on”呢？"),
        ("Show where the words acted", "看看词语作用在哪里"),
        shows="heats",
        opens=("heat",),
        sets={"heat_every": True},
    ),
    Step(
        ("Change your mind half-way", "半路改主意"),
        (
            "Go back to step 4 and walk on with other words. The noise of the beginning stays, so does what is already decided.",
            "回到第 4 步，换一句话继续走。开头的噪声还在，已经定下的也还在。",
        ),
        (
            "What is kept of the mushroom? Try step 2 and step 12: early, everything can change; late, only details.",
            "蘑菇还剩下什么？试试第 2 步和第 12 步：早了什么都能变，晚了只剩细节。",
        ),
        ("Turn it into a penguin", "把它变成企鹅"),
        shows="fork",
        opens=("steps",),
        sets={"at": 4, "branch_prompt": "a penguin on a yellow background"},
        press="branch",
    ),
    Step(
        ("How strictly?", "要多严格？"),
        (
            "At each step the network is asked twice, with your words and without; guidance exaggerates the difference.",
            "每一步都问网络两次：一次带着您的话，一次不带；引导就是放大两者的差别。",
        ),
        (
            "Down the rows guidance grows. From which row on do you see what was meant, and from which do the colours burn?",
            "越往下引导越强。从哪一行起看得出画的是什么，从哪一行起颜色过浓？",
        ),
        ("Draw the grid", "画网格"),
        shows="grid_cells",
        opens=("compare",),
        sets={"grid_kind": "guidance"},
        press="grid",
    ),
    Step(
        ("How it was taught", "它是怎么学会的"),
        (
            "In training it went the other way: a picture, some noise on it, and the question what is under it.",
            "训练时走的是反方向：一张图，盖上噪声，问它底下是什么。",
        ),
        ("At t = 850 the one-step guess is a soft blob. Move t down and watch it become sharp.", "t = 850 时，一步的猜想只是一团模糊。把 t 调小，看它变清楚。"),
        ("Drown the drawing", "把画淹没在噪声里"),
        shows="drowned",
        opens=("forward",),
        sets={"t": 850, "schedule": "cosine"},
    ),
    Step(
        ("Begin with a picture", "从一张图开始"),
        (
            "Nothing says that it must begin with pure noise. Half drowned, a picture keeps its shapes and may become something else.",
            "谁也没说必须从纯噪声开始。淹没一半，图的形状还在，却可以变成别的东西。",
        ),
        (
            "Strength says how far back it goes. Try 0.3 and 0.9, then paint over a corner and draw only that.",
            "强度决定退回多远。试试 0.3 和 0.9，再涂抹一角，只重画那里。",
        ),
        ("Draw it anew", "重画整张"),
        shows="edited",
        opens=("edit",),
        sets={"become": "a mushroom on a green background", "strength": 0.6},
        press="anew",
    ),
)

QUESTIONS = (
    Question(
        (
            "At the third step the network's belief is a blur, although the network is the same as at the last step. Why?",
            "第三步时网络的猜想是一团模糊，可网络和最后一步时是同一个。为什么？",
        ),
        (
            "Under so much noise many pictures are possible. The network was taught by squared error, and the best answer to that is the mean of all of them. "
            "A small step rules some of them out, so the next mean is sharper.",
            "噪声这么多，底下可能是许多不同的图。网络按平方误差训练，最好的回答就是它们的平均。走一小步，排除掉一些，下一次的平均就更清楚。",
        ),
        (
            (
                ("It answers with the mean of all pictures that fit", "它给出所有可能图片的平均"),
                True,
                ("And a mean of many pictures is a blur.", "许多图的平均就是一团模糊。"),
            ),
            (
                ("It has not warmed up yet", "它还没进入状态"),
                False,
                ("It keeps no state: each step is a fresh look at x and t.", "它没有状态：每一步都是重新看一遍 x 和 t。"),
            ),
            (
                ("The decoder is bad at noise", "解码器不擅长处理噪声"),
                False,
                ("The belief is free of noise; it is decoded as any picture.", "猜想里没有噪声，解码和普通图片一样。"),
            ),
        ),
    ),
    Question(
        (
            "Same seed, same settings, other scheduler: DPM-Solver++, UniPC and Euler draw the same picture, DDPM another. Why?",
            "种子和设置都相同，只换调度器：DPM-Solver++、UniPC、Euler 画出同一张图，DDPM 却不同。为什么？",
        ),
        (
            "The first three follow the same curve, more or less exactly, from the same starting noise: no more chance on the way. DDPM adds new noise at every step.",
            "前三个都从同一份噪声出发，沿同一条曲线走，只是精度不同，途中不再有随机。DDPM 每一步都加入新噪声。",
        ),
    ),
    Question(
        ("What does guidance 1 mean?", "引导强度 1 是什么意思？"),
        (
            "The prompt is heard, and nothing is exaggerated: the answer with words is taken as it is. 0 would be the answer without words.",
            "听提示词，但不放大：直接采用带文字的回答。0 则是不带文字的回答。",
        ),
        (
            (("The prompt counts, unamplified", "提示词算数，但不放大"), True, ("w = 1 leaves only the answer with words.", "w = 1 时只剩带文字的回答。")),
            (("The prompt is ignored", "忽略提示词"), False, ("That would be 0.", "那是 0。")),
        ),
    ),
    Question(
        (
            "mini-sd takes twenty steps, mini-sd-turbo four. What did it learn, and what did it lose?",
            "mini-sd 要二十步，mini-sd-turbo 只要四步。它学会了什么，又失去了什么？",
        ),
        (
            "It began as a copy of mini-sd and was shown each quarter of the way: where its teacher arrives in three guided steps, it learnt to land in one jump. "
            "It learnt one strength of guidance and four places to jump from, so it can no longer be steered by guidance, by what to leave out, or by another scheduler.",
            "它起初是 mini-sd 的复制品，把整段路分成四份来学：老师用三个带引导的小步走到的地方，它学着一跳就到。"
            "它只学了一种引导强度和四个起跳点，所以不能再用引导强度、负面提示或别的调度器来控制。",
        ),
    ),
    Question(
        ("The heat-map shows where a word was heard. Is that where the word changed the picture?", "热图显示词语在哪里被听到。词语就是在那里改变了图片吗？"),
        (
            "Not quite. What is heard is passed on through further layers and steps, and in mini-sd most of the attention goes to the end of the text, which knows the whole sentence. "
            "To see what a word does, leave it out and draw again with the same seed.",
            "不完全是。听到的东西还要经过后面的层和步；在 mini-sd 里，大部分注意力给了知道整句话的文本末尾。想知道一个词做了什么，就去掉它，用同一个种子再画一次。",
        ),
    ),
)


def line(aloud: str, formula: str) -> str:
    return f'<div class="formula" role="math" aria-label="{aloud}"><span>{formula}</span></div>'


FORMULA = (
    f'<section class="questions"><h3>{both("Three formulae", "三个公式")}</h3>'
    + note("To drown (Ho et al. 2020, eq. 4): a little picture, a little noise ε.", "淹没（Ho 等 2020，式 4）：一点图片，一点噪声 ε。")
    + line("x t equals root of alpha bar t times x 0 plus root of one minus alpha bar t times epsilon", "x<sub>t</sub> = √ᾱ<sub>t</sub> · x<sub>0</sub> + √(1 − ᾱ<sub>t</sub>) · ε")
    + note(
        "To learn (Salimans and Ho 2022): guess v, a mixture of noise and picture; from v and x<sub>t</sub> both follow. c is what the text encoder says of the caption.",
        "学习（Salimans 与 Ho 2022）：猜 v，它是噪声和图片的混合；由 v 和 x<sub>t</sub> 就能得到两者。c 是文本编码器对说明文字的理解。",
    )
    + line("loss equals the mean of the squared distance of v theta of x t, t, c from root of alpha bar t times epsilon minus root of one minus alpha bar t times x 0",
           "ℒ = 𝔼 ‖ v<sub>θ</sub>(x<sub>t</sub>, t, c) − (√ᾱ<sub>t</sub> · ε − √(1 − ᾱ<sub>t</sub>) · x<sub>0</sub>) ‖²")
    + note("To draw with guidance w (Ho and Salimans 2022): exaggerate what the words change.", "带引导 w 地画（Ho 与 Salimans 2022）：放大文字带来的变化。")
    + line("v equals v theta without words plus w times the difference of v theta with words and without", "v = v<sub>θ</sub>(x<sub>t</sub>, t, ∅) + w · ( v<sub>θ</sub>(x<sub>t</sub>, t, c) − v<sub>θ</sub>(x<sub>t</sub>, t, ∅) )")
    + "</section>"
)  # fmt: skip
LESSON = Lesson(TITLE, 8, STEPS, QUESTIONS, FORMULA)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    panel(LESSON, "diffusion", parts)
