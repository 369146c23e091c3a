"""Language models: given the tokens so far, how likely is each next one? Asked again and again, they write.

Ours read single characters, from mere counting to small transformers; the pretrained ones read sub-words.
This file stays light: torch and transformers are imported when load, train, sample ... are first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from genkit import core
from genkit.core import Remote


@dataclass(frozen=True)
class Config:
    """One variant: its network and the recipe that its shipped weights were trained with."""

    corpus: str  # a name in corpora.FILES
    arch: str = "gpt"  # a key of model.NETWORKS: ngram, hmm, lstm, gpt
    n_layer: int = 4
    n_head: int = 6
    n_embd: int = 192
    n_states: int = 64  # of an hmm
    order: int = 6  # of an ngram, which may be read with any other: text.of_order()
    context_length: int = 256  # tokens
    vocab_size: int = 5000  # at most: the most frequent characters; the others become <unk>
    end: str = ""  # the character that ends a text; "" goes on for ever
    steps: int = 1000
    every: int = 100  # steps between events
    batch_size: int = 12
    lr: float = 6e-3
    dropout: float = 0.0  # share of the embeddings and of what each block adds that is left out while training
    bf16: bool = False  # train in bfloat16 where the device is quick at it


VARIANTS: dict[str, Config] = {
    "gpt-shakespeare": Config(corpus="shakespeare", steps=5300, lr=5e-3, dropout=0.15, bf16=True),
    "gpt-tang": Config(corpus="tang", context_length=128, vocab_size=4500, end="\n", batch_size=16, steps=1500, bf16=True),
    "gpt-mini": Config(corpus="shakespeare", n_head=4, n_embd=128, context_length=128, batch_size=8, steps=1200),  # about three minutes of one CPU core
    "ngram-shakespeare": Config(corpus="shakespeare", arch="ngram", steps=10, every=1),  # a step counts a tenth of the text
    "ngram-tang": Config(corpus="tang", arch="ngram", order=4, context_length=128, vocab_size=4500, end="\n", steps=10, every=5),
    "hmm-shakespeare": Config(corpus="shakespeare", arch="hmm", steps=60, every=10),  # a step is an iteration of Baum-Welch
    "hmm-tang": Config(corpus="tang", arch="hmm", context_length=128, vocab_size=4500, end="\n", steps=40, every=10),
    "lstm-shakespeare": Config(corpus="shakespeare", arch="lstm", n_layer=1, n_embd=256, context_length=128, batch_size=16, lr=6e-3, steps=2000),
    "lstm-tang": Config(corpus="tang", arch="lstm", n_layer=1, n_embd=256, context_length=128, vocab_size=4500, end="\n", batch_size=16, lr=6e-3, steps=1500),
}
_FILES = ("*config.json", "model*.safetensors*", "tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json", "chat_template.jinja")
PRETRAINED: dict[str, Remote] = {
    name: Remote(repo, int(gigabytes * 1e9), licence, defaults, _FILES, int(memory * 1e9))
    for name, repo, gigabytes, memory, licence, defaults in (  # memory: float32, as on a CPU, what is packed of it, and a long prompt
        ("smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", 0.28, 1.0, "Apache-2.0", {"temperature": 0.2, "top_p": 0.9, "repetition_penalty": 1.1}),
        ("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", 0.73, 2.0, "Apache-2.0", {"temperature": 0.2, "top_p": 0.9, "repetition_penalty": 1.1}),
        ("qwen3-0.6b", "Qwen/Qwen3-0.6B", 1.52, 3.5, "Apache-2.0", {"temperature": 0.7, "top_p": 0.8, "top_k": 20}),
        ("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct", 1.0, 2.8, "Apache-2.0", {"temperature": 0.7, "top_p": 0.8, "top_k": 20}),
        ("gpt2", "openai-community/gpt2", 0.55, 0.9, "MIT", {"temperature": 0.8, "top_k": 50}),
        ("distilgpt2", "distilbert/distilgpt2", 0.36, 0.6, "Apache-2.0", {"temperature": 0.8, "top_k": 50}),
    )
}
INSTRUCT = ("smollm2", "smollm2-360m", "qwen3-0.6b", "qwen2.5-0.5b")  # of these, the ones that were taught to converse

__getattr__ = core.lazily(__name__, {
    "load": "model", "save": "model", "from_wheel": "wheel", "sample": "sampling", "pieces": "sampling", "fit": "sampling", "unknown": "sampling", "next_tokens": "chances",
    "train": "training", "validation": "training", "report": "evaluate", "read": "own", "pasted": "own", "clean": "own", "split": "own", "learn": "learning", "overfit": "learning",
    "reading": "tokens", "ways": "why", "look": "why", "attended": "why", "attributions": "why", "heads_of": "why", "habits": "why", "picture": "why",
    "walk": "why", "likes": "why", "leads": "why", "counts": "ngram", "places": "ngram",
    "record": "training", "of_order": "ngram", "perplexity": "surprise",
    "given": "chat", "conversation": "chat", "Endpoint": "remote",
})  # fmt: skip
