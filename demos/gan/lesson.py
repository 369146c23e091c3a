"""Five minutes with a GAN: six steps on the controls of this tab, three questions, and the formula behind them."""

import gradio as gr

from demos.gan import formula
from demos.i18n import both
from demos.lesson import Lesson, Question, Step, panel
from demos.pieces import note

TITLE = ("Lesson: five minutes with two networks", "课程：与两个网络相处五分钟")

STEPS = (
    Step(
        ("Make digits", "生成数字"),
        (
            "G, the generator, gets a list of random numbers and a wish: which digit. It paints all twenty at once.",
            "生成器 G 收到一串随机数和一个要求：画哪个数字。二十张图一次画完。",
        ),
        ("Twenty digits that no hand has ever written. No two are alike.", "二十个从没有人写过的数字，没有两个完全一样。"),
        ("Make twenty digits", "生成二十个数字"),
        shows="result",
        sets={"digits": "0123456789", "n": 20, "variant": "dcgan", "seed": 7},
        press="make",
    ),
    Step(
        ("Change the seed", "换一个种子"),
        (
            "The seed decides the random numbers, and with them the handwriting. The digits asked for stay the same.",
            "种子决定那串随机数，也就决定了笔迹。要求画的数字不变。",
        ),
        (
            "Every picture is new. Type the old seed, 7, and press Make digits: the first ones come back, to the last pixel.",
            "每张图都变了。把种子改回 7，再点“生成数字”：原来的图会回来，一个像素也不差。",
        ),
        ("Take seed 2014", "用种子 2014"),
        shows="result",
        opens=("more",),
        sets={"digits": "0123456789", "n": 20, "variant": "dcgan", "seed": 2014},
        press="make",
    ),
    Step(
        ("Ask D", "问问判别器 D"),
        (
            "D, the discriminator, is the other player. It looks at one picture and says how sure it is that a person wrote it. Here it sees ten made digits and ten real ones.",
            "判别器 D 是另一位选手。它看一张图，说出自己多有把握这是人写的。这里给它看十个生成的数字和十个真实的数字。",
        ),
        (
            "The number under each picture. Some made digits fool D, some real ones do not convince it. On the pad above you can try to fool it yourself.",
            "每张图下面的数。有些生成的数字骗过了 D，有些真的反而没让它信服。您也可以在上面的画板上亲手试试骗它。",
        ),
        ("Let D judge twenty digits", "让 D 评判二十个数字"),
        shows="judge_samples",
        opens=("judge",),
        sets={"judge_variant": "dcgan"},
        press="judge_samples",
    ),
    Step(
        ("Let both learn", "让双方一起学习"),
        (
            "Two new networks that know nothing begin to play. D learns to tell real from made, G learns from D's verdict, turn by turn.",
            "两个什么都不会的新网络开始较量。D 学着分辨真假，G 从 D 的判断里学习，一个回合接一个回合。",
        ),
        (
            "Noise, then strokes, then digits. The formula lights up for the one that is learning. Pause whenever you like.",
            "先是噪声，再是笔画，然后是数字。谁在学习，公式里的那一项就会亮起来。随时可以暂停。",
        ),
        ("Start the training", "开始训练"),
        shows="learn_state",
        opens=("learn",),
        sets={"learn_variant": "dcgan"},
        press="learn_start",
    ),
    Step(
        ("Walk between two digits", "在两个数字之间漫步"),
        (
            "A small step in the random numbers is a small step in the picture. So one can walk from a 3 to an 8 without a jump.",
            "随机数走一小步，图片也只变一小步。所以能从 3 一路走到 8，中间没有跳跃。",
        ),
        (
            "Drag the dot in the square, or move it with the arrow keys. G has learnt handwriting as a landscape, not as a pile of pictures.",
            "拖动方块里的圆点，或用方向键移动。G 学到的笔迹是一片连续的风景，而不是一堆图片。",
        ),
        ("Walk from 3 to 8", "从 3 走到 8"),
        shows="walk_plane",
        opens=("walk",),
        sets={"walk_variant": "dcgan", "walk_digit_a": "3", "walk_digit_b": "8"},
        press="walk_morph",
    ),
    Step(
        ("Break it, and mend it", "弄坏它，再修好它"),
        (
            "The balance is delicate. This makes a training collapse on purpose: G finds one picture that fools D, and paints nothing else.",
            "双方的平衡很脆弱。这一步故意让训练坍塌：G 找到一种能骗过 D 的画法，就再也不画别的。",
        ),
        (
            "All pictures grow alike. Wait until the doctor names the illness, then press one of its repairs: the same run recovers.",
            "图片越来越像。等“医生”说出病名，再点一种修复办法：同一次训练会慢慢好起来。",
        ),
        ("Make it collapse", "让它坍塌"),
        shows="learn_state",
        opens=("learn",),
        press="learn_break.collapse",
    ),
)


def tiles(shown: str) -> str:
    """A wall of samples in miniature, for a question."""
    return f'<span class="tiles" aria-hidden="true">{"".join(f"<i>{tile}</i>" for tile in shown)}</span>'


QUESTIONS = (
    Question(
        ("Why does G never see a real digit?", "为什么 G 从来没见过真正的数字？"),
        (
            "G has no input for pictures, only for random numbers and the digit asked for. All it ever learns about handwriting comes through D: D's verdict says, pixel by pixel, in which "
            "direction a picture would look more real. So G cannot simply trace a digit. Whether it copies all the same, you can check under “Did it copy?”.",
            "G 没有接收图片的入口，只接收随机数和要画的数字。它对笔迹的一切了解都来自 D：D 的判断会逐个像素地说明，往哪个方向改会更像真的。所以 G 没法照着描。至于它是否仍然抄袭，可以在“它抄袭了吗？”里检验。",
        ),
        (
            (
                ("Because D passes on what G needs: how to look more real", "因为 D 会告诉它所需的一切：怎样才更像真的"),
                True,
                ("The slope of D's verdict is G's only teacher.", "D 的判断的梯度，是 G 唯一的老师。"),
            ),
            (
                ("Because real digits are too large for it", "因为真数字对它来说太大"),
                False,
                ("They are exactly as large as its own: 28 × 28 pixels.", "它们和 G 画的一样大：28 × 28 像素。"),
            ),
            (
                ("It does see them, in its first steps", "其实它在最初几步见过"),
                False,
                ("Never, not once. In the formula below x stands only beside D.", "一次也没有。在下面的公式里，x 只出现在 D 旁边。"),
            ),
        ),
    ),
    Question(
        ("If G gets perfect, D says 1/2 to every picture. Why?", "如果 G 变得完美，D 对每张图都说 1/2。为什么？"),
        (
            "The best possible D says: how often this picture is real, divided by how often it turns up at all. Once real and made pictures are equally frequent, that is 1/2: a coin toss. "
            "In a short training G is not perfect, so D stays above 1/2 for real digits and below it for made ones.",
            "最好的 D 会这样回答：这张图作为真图出现的次数，除以它出现的总次数。真图与假图一样常见时，答案就是 1/2：跟抛硬币一样。短时间的训练里 G 并不完美，所以 D 对真图高于 1/2，对假图低于 1/2。",
        ),
        (
            (
                ("Because it can no longer tell them apart", "因为它再也分不出真假"),
                True,
                ("One half is the honest answer of somebody who can only guess.", "只能靠猜的时候，一半就是诚实的回答。"),
            ),
            (
                ("Because it has stopped learning", "因为它停止了学习"),
                False,
                ("It learns on to the end; there is nothing left to find.", "它一直学到最后，只是再也找不到破绽。"),
            ),
            (("Because D has won", "因为 D 赢了"), False, ("Then it would say 1 to real ones and 0 to made ones.", "那样的话，它会对真图说 1，对假图说 0。")),
        ),
    ),
    Question(
        ("What is mode collapse, and which of these walls shows it?", "什么是模式坍塌？下面哪面墙显示的是它？"),
        (
            "G has found one or a few pictures that D lets pass, and paints only those, whatever the random numbers are. Each picture may look fine: the illness shows only in the wall. "
            "D notices in the end, G runs to the next trick, and round they go.",
            "G 找到了一种或几种能骗过 D 的图，于是不管随机数是什么，都只画它们。单看一张可能很好，放在一起才看得出毛病。D 最终会发现，G 又换下一招，如此循环。",
        ),
        (
            ((tiles("7301946258") + "ten different digits", tiles("7301946258") + "十个不同的数字"), False, ("That is a healthy wall.", "这是一面健康的墙。")),
            (
                (tiles("1111111111") + "the same digit every time", tiles("1111111111") + "每次都是同一个数字"),
                True,
                ("One mode of ten is left.", "十种模式只剩下一种。"),
            ),
            (
                (tiles("░▒▓░▓▒░▒▓░") + "grey snow", tiles("░▒▓░▓▒░▒▓░") + "灰色的雪花"),
                False,
                (
                    "That is noise: G has learnt nothing yet, or D is so far ahead that its verdict teaches nothing.",
                    "那是噪声：G 还什么都没学会，或者 D 遥遥领先，它的判断已教不了 G。",
                ),
            ),
        ),
    ),
)

FORMULA = (
    f'<section class="questions"><h3>{both("The whole game in one line", "整场较量，一行公式")}</h3>{formula.equation()}{formula.terms()}'
    + note(
        "min<sub>G</sub> max<sub>D</sub>: of all that D can do, take the best answer; against that, G looks for its own best. 𝔼 is the mean over many pictures. "
        "It lights up, term by term, while you train.",
        "min<sub>G</sub> max<sub>D</sub>：D 先给出它最好的回答，G 再在此之上寻找自己最好的做法。𝔼 表示对许多图片取平均。训练时，它会逐项亮起。",
    )
    + "</section>"
)
LESSON = Lesson(TITLE, 5, STEPS, QUESTIONS, FORMULA)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    panel(LESSON, "gan", parts)
