"""Five minutes with a VAE: six steps on the controls of this tab, three questions, and the formula behind them."""

import gradio as gr

from demos.i18n import both
from demos.lesson import Lesson, Question, Step, panel
from demos.pieces import note
from demos.vae import formula

TITLE = ("Lesson: five minutes with a few numbers", "课程：与几个数相处五分钟")

STEPS = (
    Step(
        ("Through the eye of a needle", "穿过针眼"),
        (
            "784 pixels go in, 32 numbers come out of the encoder, and from these 32 alone the decoder draws the digit again.",
            "进去的是 784 个像素，编码器只留下 32 个数，解码器仅凭这 32 个数重新画出数字。",
        ),
        ("The third picture: what got lost. Draw something yourself on the pad, a cat perhaps.", "看第三张图：丢掉了什么。自己在画板上画点别的，比如一只猫。"),
        ("Redraw a digit", "重画一个数字"),
        shows="result",
        sets={"variant": "conv"},
        press="another",
    ),
    Step(
        ("Squeeze harder", "挤得更狠"),
        ("Now only two numbers are left to say everything about the digit.", "现在只剩两个数，要说清这个数字的一切。"),
        (
            "The copy is blurred, sometimes it is another digit: a 4 may turn into a 9. What two numbers cannot say, the decoder must guess.",
            "复制品变模糊，有时甚至变成别的数字：4 可能变成 9。两个数说不清的，解码器只好猜。",
        ),
        ("Two numbers only", "只用两个数"),
        shows="result",
        sets={"variant": "conv2d"},
        press="go",
    ),
    Step(
        ("Find yourself on the map", "在地图上找到自己"),
        (
            "Two numbers are a place on a sheet of paper. The star is your drawing, the coloured numerals are real test digits.",
            "两个数就是纸上的一个位置。星星是您的画，彩色数字是真实的测试数字。",
        ),
        (
            "Drag the dot, or use the arrow keys: at every place waits a digit, and neighbours resemble each other.",
            "拖动圆点或用方向键：每个位置都有一个数字在等着，相邻的彼此相像。",
        ),
        ("Put my drawing on the map", "把我的画放到地图上"),
        shows="maps_plane",
        opens=("maps",),
        sets={"maps_variant": "conv2d", "maps_projection": "plain"},
        press="maps_mine",
    ),
    Step(
        ("Look for holes", "找一找洞"),
        (
            "The same network without the bell curve, a plain autoencoder, redraws even better. But let chance choose the two numbers.",
            "同样的网络去掉钟形分布，就是普通自编码器，重画得甚至更好。但请让随机数来挑那两个数。",
        ),
        (
            "The rows of ten at the bottom. Which map has empty ground, and what does chance find there?",
            "最下面的两排各十个数字。哪张地图有空地？随机数在那里碰到了什么？",
        ),
        ("Compare the two maps", "比较两张地图"),
        shows="maps_versus",
        opens=("maps",),
        press="maps_compare",
    ),
    Step(
        ("Walk from drawing to drawing", "从一幅画走到另一幅"),
        ("A and B are two lists of 32 numbers. Half-way between them lies a list too.", "A 和 B 是两串各 32 个数。它们正中间也有一串数。"),
        (
            "No stop on the way is a mixture of two pictures laid over each other: each is one stroke of a pen.",
            "路上没有一站是两张图叠在一起：每一站都像一笔写成。",
        ),
        ("Walk from A to B", "从 A 走到 B"),
        shows="walk_strip",
        opens=("walk",),
        sets={"walk_variant": "conv", "walk_frames": 10},
        press="walk_button",
    ),
    Step(
        ("Break it, and mend it", "弄坏它，再修好它"),
        (
            "β says how much a tidy code counts. This training gets far too much of it.",
            "β 决定编码整齐有多重要。这次训练里它大得过分。",
        ),
        (
            "All redrawn digits become the same grey blot: the code falls silent. Wait for the doctor, then press a repair: the same run recovers.",
            "所有重画的数字都变成同一团灰影：编码沉默了。等“医生”开口，再点一种修复：同一次训练会好起来。",
        ),
        ("Make the code collapse", "让编码坍塌"),
        shows="learn_state",
        opens=("learn",),
        press="learn_break.collapse",
    ),
)

QUESTIONS = (
    Question(
        ("Why does the encoder give a spread σ beside each number, and not just the number?", "为什么编码器给每个数都配一个宽度 σ，而不是只给一个数？"),
        (
            "While it trains, the decoder never sees the exact number but one drawn by chance around it. So near numbers must mean near pictures, or the decoder would often be wrong. "
            "That is what makes the map smooth, and walking between drawings possible.",
            "训练时，解码器看到的从来不是那个精确的数，而是在它附近随机取的一个。于是相近的数必须代表相近的图，否则解码器会常常出错。地图因此是平滑的，才能从一幅画走到另一幅。",
        ),
        (
            (
                ("So that near codes have to mean similar digits", "好让相近的编码代表相似的数字"),
                True,
                ("Chance around each code smooths the map.", "每个编码周围的随机性把地图抹平。"),
            ),
            (
                ("To store the digit more precisely", "为了更精确地保存数字"),
                False,
                ("On the contrary: it blurs the code on purpose.", "恰恰相反：它故意让编码模糊一点。"),
            ),
            (("To save memory", "为了省内存"), False, ("It needs twice as many numbers.", "它反而要多一倍的数。")),
        ),
    ),
    Question(
        ("What happens if β is far too high?", "β 太大会怎样？"),
        (
            "Then keeping the code close to the bell curve is all that counts, and the cheapest code says nothing at all: KL falls to 0, the decoder draws one average digit for everybody. "
            "That is posterior collapse. A slow start of β or a few free nats prevent it.",
            "那么让编码贴近钟形分布就成了唯一要紧的事，而最省的编码就是什么也不说：KL 降到 0，解码器给谁都画同一个平均数字。这叫后验坍塌。让 β 慢慢增大，或给几个免费的纳特，就能避免。",
        ),
        (
            (
                ("The code says nothing and all digits come out alike", "编码什么也不说，画出来的数字都一样"),
                True,
                ("You can see it in step 6: the numbers in use fall to 0.", "第 6 步就能看到：用上的数降到 0。"),
            ),
            (("The pictures get sharper", "图片更清晰"), False, ("They get softer: sharp strokes need nats.", "会更模糊：清晰的笔画要花纳特。")),
            (
                ("The network learns the digits by heart", "网络会死记硬背"),
                False,
                ("For that it would need to say much in its code.", "死记硬背得在编码里说很多话才行。"),
            ),
        ),
    ),
    Question(
        ("Why are the copies of a VAE a little blurred?", "为什么 VAE 的复制品有点模糊？"),
        (
            "A few numbers cannot say exactly where each edge lies. The decoder then answers with the mean of all pictures that fit the code, pixel by pixel, and a mean of shifted edges is grey. "
            "A GAN, which must fool a judge, would rather invent a sharp edge in a wrong place.",
            "几个数说不清每条边缘的确切位置。解码器于是逐个像素地给出所有符合编码的图的平均，而错开的边缘一平均就成了灰色。GAN 必须骗过裁判，宁可在错误的位置编出一条清晰的边。",
        ),
        (
            (
                ("It draws the mean of all pictures that its few numbers allow", "它画的是那几个数所允许的所有图的平均"),
                True,
                ("And the mean of sharp pictures is soft.", "清晰的图一平均就变软了。"),
            ),
            (
                ("28 × 28 pixels are too few", "28 × 28 像素太少"),
                False,
                ("The digits of MNIST are as small, and sharp.", "MNIST 的数字也这么小，却很清晰。"),
            ),
            (("It has not been trained for long enough", "训练得不够久"), False, ("Longer helps a little; the blur stays.", "再久一点稍有帮助，但模糊依旧。")),
        ),
    ),
)

FORMULA = (
    f'<section class="questions"><h3>{both("Both wishes in one line", "两个愿望，一行公式")}</h3>{formula.equation()}{formula.terms()}'
    + note(
        "With β = 1 this is the evidence lower bound, ELBO, with its sign turned (Kingma and Welling 2013). It is never smaller than −log p(x): what the digit would cost, in nats, "
        "under the best code that this decoder could have.",
        "β = 1 时，这就是变号后的证据下界 ELBO（Kingma 与 Welling，2013）。它从不小于 −log p(x)，也就是用这个解码器可能有的最好编码时，这个数字所需的纳特数。",
    )
    + "</section>"
)
LESSON = Lesson(TITLE, 5, STEPS, QUESTIONS, FORMULA)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    panel(LESSON, "vae", parts)
