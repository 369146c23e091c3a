"""Writing on, one token after the other: the loop, and the four numbers that decide how daring it is.

Radford et al. 2019 (top-k): https://openai.com/index/better-language-models/. Holtzman et al. 2020 (top-p): https://arxiv.org/abs/1904.09751.
T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from genkit import core
from genkit.core import Problem
from genkit.text import fast, readers
from genkit.text.remote import Endpoint

NUCLEUS = 1000  # tokens among which top-p looks first
WINDOW, OVERLAP = 32, 8  # tokens decoded with a new one, at most, and after that was reached: how a token reads may depend on those before it
FILL = 3 / 4  # of the context: what a long prompt may take of it, and what is remembered when it is full


def sample(model, prompt: str | list[int], **settings) -> Iterator[str]:
    """The continuation of `prompt`, or a chat model's answer to it, so far; it grows with every token and the last one is whole. Settings: those of pieces()."""
    written = ""
    for piece, _ in pieces(model, prompt, **settings):
        written += piece
        yield written
    if not written:
        yield ""


def pieces(
    model, prompt: str | list[int], *, max_new_tokens=200, temperature=0.8, top_k=0, top_p=1.0, repetition_penalty=1.0, seed=0
) -> Iterator[tuple[str, float]]:
    """The continuation piece by piece, a token or as many as make whole characters, each with its surprise in bits: -log2 of what the model itself gave it.

    prompt: text, which fit() makes token ids of, or the ids themselves; for a model elsewhere text, or the messages of a conversation.
    temperature 0 takes the likeliest token; top_k 0, top_p 1 and repetition_penalty 1 change nothing. Closing the iterator stops the computing.
    Raises Problem for a prompt that is no text, or an empty one to a chat model.
    """
    max_new_tokens, settings = core.number(max_new_tokens, 0, 10**6, "max_new_tokens", whole=True), checked(temperature, top_k, top_p, repetition_penalty)
    if isinstance(model, Endpoint):
        yield from model.pieces(clean(prompt) if isinstance(prompt, str) else prompt, max_new_tokens=max_new_tokens, **settings, seed=seed)
        return
    ids = prompt if isinstance(prompt, list) else fit(model, prompt)[0]
    rng, written, said, surprise = core.seeded(seed), [], "", 0.0

    def choose(logits: torch.Tensor, before: list[int], best: int, total: float) -> tuple[int, float]:
        if settings["temperature"] > 0:
            token = draw(choices(logits, before, **settings), rng)
        elif settings["repetition_penalty"] == 1:
            token = best
        else:
            token = int(penalised(logits, before, settings["repetition_penalty"]).argmax())
        return token, (total - logits[token].item()) / math.log(2)

    for token, bits in readers.tokens(model, ids, max_new_tokens, _ends(model), choose):
        written.append(token)
        surprise += bits
        text = model.tokenizer.decode(written, skip_special_tokens=True)
        if text != said and not text.endswith("\ufffd"):  # the last token may be the first bytes of a character
            yield text[len(said) :], surprise
            said, surprise = text, 0.0
            if len(written) > WINDOW:
                written = written[-OVERLAP:]
                said = model.tokenizer.decode(written, skip_special_tokens=True)


def checked(temperature, top_k, top_p, repetition_penalty) -> dict:
    """The settings of choices(), each moved into its range. Raises Problem for what is no number."""
    return {
        "temperature": core.number(temperature, 0, 100, "temperature"),
        "top_k": core.number(top_k, 0, 10**6, "top_k", whole=True),
        "top_p": core.number(top_p, 0, 1, "top_p"),
        "repetition_penalty": core.number(repetition_penalty, 1, 100, "repetition_penalty"),
    }


@torch.inference_mode()
def step(model, ids: list[int], cache=None):
    """Logits (V,) of the token after `ids`, float32 on the CPU, and the cache of keys and values that makes the next step cheap."""
    if fast.supports(model):
        cache = fast.Cache(model) if cache is None else cache
        return permitted(model, fast.forward(model, [(ids, cache)]))[0], cache
    out = model(input_ids=torch.tensor([ids], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return permitted(model, out.logits[:, -1])[0], out.past_key_values


@torch.inference_mode()
def permitted(model, logits: torch.Tensor) -> torch.Tensor:
    """Logits (B, V), float32 on the CPU, without the tokens that this model must not write."""
    logits = logits.float().cpu()
    if suppressed := model.generation_config.suppress_tokens:
        logits[:, suppressed] = -torch.inf
    return logits


def choices(logits: torch.Tensor, ids: list[int], *, temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0) -> torch.Tensor:
    """What the token after `ids` is drawn from, (V,)."""
    return probabilities(penalised(logits, ids, repetition_penalty), temperature, top_k, top_p)


def penalised(logits: torch.Tensor, ids: list[int], penalty: float) -> torch.Tensor:
    """Logits (V,) in which every token that stands in `ids` is `penalty` times less likely by its score. Keskar et al. 2019, section 4.1: https://arxiv.org/abs/1909.05858"""
    if penalty == 1:
        return logits
    seen = torch.tensor(sorted(set(ids)), dtype=torch.long)
    scores = logits[seen]
    return logits.index_copy(0, seen, torch.where(scores < 0, scores * penalty, scores / penalty))


def probabilities(logits: torch.Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> torch.Tensor:
    """What is drawn from, (V,): softmax(logits / temperature), cut to the top_k likeliest, then to the fewest that together reach top_p."""
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).float()
    logits = logits / temperature
    if 0 < top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], -torch.inf)
    probs = logits.softmax(dim=-1)
    if top_p < 1:
        for n in (
            min(NUCLEUS, len(probs)),
            len(probs),
        ):  # sorting a large vocabulary takes longer than a layer, and the first thousand nearly always reach top_p
            ordered, order = probs.topk(n)
            before = ordered.cumsum(dim=-1) - ordered  # of the likelier ones: the first always stays
            if before[-1] >= top_p:
                break
        kept = order[(before == 0) | (before < top_p)]
        probs = torch.zeros_like(probs).index_copy(0, kept, probs[kept])
        probs /= probs.sum()
    return probs


def draw(probs: torch.Tensor, rng: torch.Generator) -> int:
    """One token id out of probabilities (V,)."""
    return int(torch.multinomial(probs, 1, generator=rng))


def fit(model, prompt: str) -> tuple[list[int], int]:
    """The token ids that the model is given for `prompt`, and how many characters at its beginning did not fit into the context.

    A chat model gets its template around the prompt; any other gets its beginning-of-text token before it (for ours, a newline).
    """
    prompt, tokenizer, most = clean(prompt), model.tokenizer, room(model)
    if tokenizer.chat_template and not prompt.strip():
        raise Problem("the prompt is empty; write a question or a task", "提示为空；请写一个问题或任务")
    ids, cut = wrapped(model, prompt), 0
    if len(ids) > most:
        offsets = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False).offset_mapping
        keep = most - len(wrapped(model, ""))  # what the template and the beginning-of-text token leave
        cut = offsets[-keep][0]
        ids = wrapped(model, prompt[cut:])
    return ids, cut


def wrapped(model, prompt: str) -> list[int]:
    """The token ids of a prompt of any length: a chat model's template around it, another's beginning-of-text token before it."""
    return (_chat if model.tokenizer.chat_template else _plain)(model, prompt)


def _chat(model, prompt: str) -> list[int]:
    messages = [{"role": "user", "content": prompt}]
    # Qwen3 would think aloud first; templates that do not know the switch ignore it
    text = model.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, enable_thinking=False)
    return model.tokenizer(text, add_special_tokens=False, verbose=False).input_ids


def _plain(model, prompt: str) -> list[int]:
    first = model.generation_config.bos_token_id
    ids = model.tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
    return [first, *ids] if first is not None else ids


def clean(prompt: str) -> str:
    """The prompt as valid Unicode: halves of a surrogate pair are joined, lone ones become U+FFFD; line ends become \\n."""
    if not isinstance(prompt, str):
        raise Problem("the prompt must be text, got {kind}", "提示必须是文本，收到的是 {kind}", kind=type(prompt).__name__)
    return prompt.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\r\n", "\n").replace("\r", "\n")


def unknown(model, prompt: str) -> str:
    """The characters of `prompt` that the model never saw, each once, in their order."""
    characters = list(dict.fromkeys(clean(prompt)))
    if not characters:
        return ""
    encoded = model.tokenizer(characters, add_special_tokens=False).input_ids
    return "".join(character for character, ids in zip(characters, encoded, strict=True) if model.tokenizer.unk_token_id in ids)


def context_length(model) -> int:
    """Tokens that the model can look back on."""
    return model.config.max_position_embeddings


def room(model) -> int:
    """Tokens of a text that are kept when it is longer than the context."""
    return int(FILL * context_length(model))


def _ends(model) -> set[int]:
    """The tokens that end a text; none for a model that writes for ever."""
    end = model.generation_config.eos_token_id
    return set() if end is None else {end} if isinstance(end, int) else set(end)
