"""Five minutes with the next token: six steps on the controls of this tab, three questions, and the formulae behind them."""

import gradio as gr

from demos.i18n import both
from demos.lesson import Lesson, Question, Step, panel
from demos.text import formula

TITLE = ("Lesson: five minutes with the next token", "课程：与下一个词元相处五分钟")

STEPS = (
    Step(
        ("One question, again and again", "同一个问题，反复地问"),
        (
            "The model answers one question only: which token comes next? Here a token is a single character. It draws one, appends it, and asks itself again.",
            "模型只回答一个问题：下一个词元是什么？这里一个词元就是一个字符。它抽一个，接上，再问自己。",
        ),
        (
            "The colours of what it wrote: the first letters of a word are dark, a surprise; the rest of the word is nearly sure.",
            "看文字的颜色：单词开头的字母颜色深，出乎意料；后面的几乎是必然的。",
        ),
        ("Write on", "续写"),
        shows="result",
        sets={"prompt": "ROMEO:\n", "model": "gpt-shakespeare", "temperature": 0.8, "seed": 7},
        press="go",
    ),
    Step(
        ("Turn the temperature up", "把温度调高"),
        (
            "Temperature divides the model's scores before they become chances: high makes unlikely tokens likelier, and the knowledge of the network stays the same.",
            "温度在分数变成概率之前先去除它们：温度高，不太可能的词元就更有机会，而网络的知识没有变。",
        ),
        (
            "Words fall apart. In the list below, pale bars are what the model thinks, dark ones what is left of it. Now drag the temperature to 0.2.",
            "单词散了架。下面的列表里，浅色条是模型的想法，深色条是调整之后的机会。再把温度拖到 0.2 看看。",
        ),
        ("Write at temperature 1.6", "用温度 1.6 写"),
        shows="result",
        sets={"prompt": "ROMEO:\n", "model": "gpt-shakespeare", "temperature": 1.6, "seed": 7},
        press="go",
    ),
    Step(
        ("Climb the ladder", "爬上阶梯"),
        (
            "Four ideas, one beginning. The n-gram counts what followed in the text it knows; the hidden Markov model guesses a hidden state; the LSTM carries a memory along; the GPT looks back at everything.",
            "四种想法，同一个开头。n 元语法数一数它读过的文本里后面跟着什么；隐马尔可夫模型猜一个隐藏状态；LSTM 随身带着记忆；GPT 回看全部前文。",
        ),
        (
            "Who keeps to the form of a play, and who foresees the passage best? Move the order of the n-gram to 2: see what it forgets.",
            "谁守住了剧本的格式？谁预见得最好？把 n 元语法的 n 调到 2，看它忘了什么。",
        ),
        ("Let them all write", "让它们一起写"),
        shows="ladder_go",
        opens=("ladder",),
        sets={"prompt": "ROMEO:\n", "temperature": 0.8},
        press="ladder_go",
    ),
    Step(
        ("Why this one?", "为什么是它？"),
        (
            "A transformer decides with all tokens before in view, but not equally: every head divides one glance among them.",
            "Transformer 做决定时能看到前面所有词元，但轻重不同：每个注意力头把一份目光分配给它们。",
        ),
        (
            "Click a letter in the text: the shaded ones are where the model looked. Choose single heads: one likes the letter just before, another the start of the line.",
            "点文本里的一个字母：带底色的就是模型看向的地方。换单个头看看：有的爱看前一个字母，有的爱看行首。",
        ),
        ("Show where it looked", "看它看向哪里"),
        shows="why_result",
        opens=("why",),
        sets={"prompt": "JULIET:\nO Romeo, Romeo! wherefore art thou ", "model": "gpt-shakespeare"},
    ),
    Step(
        ("Teach one from noise", "从零教一个"),
        (
            "An untrained network writes noise. It reads the text in small pieces, and after each its weights move a little so that the real next character would have been likelier.",
            "没训练过的网络写的是噪声。它一小段一小段地读文本，每读一段，权重就挪动一点，让真实的下一个字符更有可能。",
        ),
        (
            "Two curves: the loss on what it learns from, and on text that it has never seen. When the second one turns up while the first goes down, it learns by heart.",
            "两条曲线：一条是学习用的文本上的损失，一条是没见过的文本上的。当前者继续下降、后者却上升，它就是在死记硬背。",
        ),
        ("Start the training", "开始训练"),
        shows="learn_state",
        opens=("learn",),
        press="learn_start",
    ),
    Step(
        ("The same idea, much larger", "同一个想法，大得多"),
        (
            "A chat model answers the same question, about pieces of words, after reading a good part of the web and then many conversations. Below: what it costs to have one here.",
            "对话模型回答的是同一个问题，只是换成了词的片段；它先读了网上的很大一部分文字，又读了许多对话。下面写着把它请到这里要多少代价。",
        ),
        (
            "Unfold what the model was given: a conversation is one long text with marks in it, and the model writes on.",
            "展开“模型实际读到的文本”：所谓对话就是一段带记号的长文本，模型只是接着写。",
        ),
        ("Open the chat", "打开对话"),
        shows="chat",
        opens=("chat",),
    ),
)

QUESTIONS = (
    Question(
        ("Does a higher temperature make the model more creative?", "温度越高，模型就越有创造力吗？"),
        (
            "It only makes unlikely tokens likelier. At first that looks like ideas, soon like noise: the network knows no more than before. At 0 the likeliest token is always taken, "
            "and many models fall into a loop.",
            "它只是让不太可能的词元更有机会。起初像是灵感，很快就成了噪声：网络知道的并没有变多。温度为 0 时总选最可能的词元，许多模型会陷入重复。",
        ),
        (
            (("It draws unlikely tokens more often, nothing else", "它只是更常抽到不太可能的词元"), True, ("The dark bars grow alike; the pale ones stay.", "深色条变得差不多长，浅色条不变。")),
            (("It lets the network think for longer", "它让网络想得更久"), False, ("Each token costs the same computing at every temperature.", "无论温度多少，每个词元的计算量都一样。")),
            (("It adds new words to the vocabulary", "它给词表加了新词"), False, ("The vocabulary is fixed when training begins.", "词表在训练开始时就定下了。")),
        ),
    ),
    Question(
        ("An n-gram of order 8 has seen the same text as the GPT. Why does it foresee new text worse?", "n = 8 的 n 元语法读过的文本和 GPT 一样，为什么预见新文本却更差？"),
        (
            "Most strings of eight characters of a new text never occurred in the old one, so it must fall back to shorter ones. The GPT has no table: what it learnt about one string "
            "helps with similar ones, and it looks back further than seven characters.",
            "新文本里的八字符串大多在旧文本中从未出现，只好退回到更短的。GPT 没有表格：从一个字符串学到的东西也能用在相似的字符串上，而且它回看得比七个字符远得多。",
        ),
        (
            (("Most long strings are new, and it cannot generalise", "长字符串大多是新的，而它不会举一反三"), True, ("It has counted, not understood.", "它只是数过，没有领会。")),
            (("It has fewer parameters", "它的参数更少"), False, ("Its table is as large as the whole text. Size alone does not help.", "它的表和整部文本一样大。光大没有用。")),
            (("It was not trained for long enough", "它训练得不够久"), False, ("Counting once is all the training there is.", "数一遍就是全部训练。")),
        ),
    ),
    Question(
        ("A chat model gives a token 99 %. Is what it says true?", "对话模型给一个词元 99% 的概率，它说的就是真的吗？"),
        (
            "The chance says how usual this token is after that text, in what the model has read. A common mistake is likely too, and a sentence that sounds right is likelier than \"I do not know\". "
            "Check what matters elsewhere.",
            "这个概率说的是：在模型读过的文字里，这段话后面接这个词元有多常见。常见的错误同样很可能出现；听上去对的句子，比“我不知道”更可能出现。要紧的事请另行核实。",
        ),
        (
            (("No: it is likely in such a text, no more", "不是：只说明在这样的文本里它很可能出现"), True, ("Likely is not the same as true.", "“很可能出现”不等于“真实”。")),
            (("Yes: 99 % of such statements are true", "是：这样的话 99% 都是真的"), False, ("The number is about the next token, not about the world.", "这个数说的是下一个词元，不是世界。")),
            (("Yes, if the temperature is 0", "温度为 0 时就是"), False, ("Then it is always the likeliest token, true or not.", "那只是总选最可能的词元，真假不论。")),
        ),
    ),
)  # fmt: skip

FORMULA = f'<section class="questions"><h3>{both("Three lines that say it all", "三行公式说完一切")}</h3>{formula.equations()}</section>'
LESSON = Lesson(TITLE, 5, STEPS, QUESTIONS, FORMULA)


def build(page: gr.Blocks, kept: gr.BrowserState, parts: dict) -> None:
    panel(LESSON, "text", parts)
