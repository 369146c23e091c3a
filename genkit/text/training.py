"""Learning to predict the next token: cross-entropy, averaged over every position of every window; or, without a gradient, by counting. Dimensions as in model.py."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from genkit import core, corpora
from genkit.muon import Muon
from genkit.text import VARIANTS, hmm, ngram
from genkit.text.half import half
from genkit.text.model import character_tokenizer, network
from genkit.text.own import Parts
from genkit.text.sampling import sample

WARM_UP = 0.05  # of the steps
SHOWN = 160  # tokens of the samples


def train(
    variant: str, *, steps=None, every=None, batch_size=None, lr=None, seed=0, checkpoint=None, download=False, corpus=None, **changes
) -> Iterator[core.Event]:
    """Learn the variant's corpus, or another one: a name in corpora.FILES, or the own.Parts of any text. metrics: loss and loss_val, in nats per token.

    changes: other values for fields of the variant's Config, n_layer=2. A run resumed from `checkpoint` equals an unbroken one. Raises Problem for an unknown variant or corpus, or where the corpus is not to be had.
    """
    config = dataclasses.replace(core.pick(VARIANTS, variant, "text variant", "文本变体"), **changes)
    steps, every, batch_size, lr = steps or config.steps, every or config.every, batch_size or config.batch_size, lr or config.lr
    known, *parts = _parts(corpus or config.corpus, download)
    tokenizer = character_tokenizer(known, config.vocab_size)
    learn, held_out = (encode(tokenizer, part) for part in parts)
    acc = core.accelerator()
    model = core.build(lambda: network(config, tokenizer), seed)
    if config.arch in COUNTING:
        checkpoint = checkpoint if config.arch == "hmm" else None  # counting anew takes a second
        yield from _counted(acc, model, COUNTING[config.arch](model, learn, steps, seed), steps, every, held_out, seed, checkpoint)
        return
    rng = drop(model, config.dropout, acc.device)
    model, *optimizers = acc.prepare(model, *_optimizers(model, lr))
    start, losses = core.resume(acc, checkpoint), []
    yield _event(acc, model, start, steps, losses, held_out, seed)
    for step in range(start, steps):
        x, y = windows(learn, batch_size, config.context_length, core.seeded(seed, step, acc.process_index))
        rng.manual_seed(core.seeded(seed, step, acc.process_index, "dropout").initial_seed())
        with half(acc.unwrap_model(model), acc.device, config.bf16):
            losses.append(_step(acc, model, optimizers, x.to(acc.device), y.to(acc.device), lr * pace(step, steps)))
        if (step + 1) % every == 0 or step + 1 == steps:
            core.keep(acc, checkpoint, step + 1)
            yield _event(acc, model, step + 1, steps, losses, held_out, seed)
            losses = []


def _parts(corpus: str | Parts, download: bool) -> tuple[str, str, str]:
    """What the alphabet is taken from, what is learnt, and what is validated on."""
    if isinstance(corpus, Parts):
        return corpus.learn + "\n", corpus.learn, corpus.validate  # a text begins after a line end, also where it has none
    text = corpora.corpus(corpus, download)
    return text, *corpora.split(text)


def _counted(acc, model, step, steps: int, every: int, held_out: torch.Tensor, seed: int, checkpoint) -> Iterator[core.Event]:
    """A run without a gradient: step(i) is the i-th of the steps, and gives the loss before it."""
    model = acc.prepare_model(model, evaluation_mode=True)  # each of several processes counts everything
    start, losses = core.resume(acc, checkpoint), []
    yield _event(acc, model, start, steps, losses, held_out, seed)
    for i in range(start, steps):
        losses.append(torch.tensor(step(i)))
        if (i + 1) % every == 0 or i + 1 == steps:
            core.keep(acc, checkpoint, i + 1)
            yield _event(acc, model, i + 1, steps, losses, held_out, seed)
            losses = []


def _counting(model, learn: torch.Tensor, steps: int, seed: int):
    """For an n-gram: a step counts one more equal part of learn (T,)."""

    def step(i: int) -> float:
        new = learn[len(learn) * i // steps : len(learn) * (i + 1) // steps]
        loss = validation(model, new, most=16) if len(new) > 1 else math.nan
        ngram.count(model, learn[: len(learn) * (i + 1) // steps])
        return loss

    return step


def _baum_welch(model, learn: torch.Tensor, steps: int, seed: int):
    """For a hidden Markov model: a step is an iteration over all windows of learn (T,)."""
    length = min(model.config.max_position_embeddings, len(learn))
    texts = learn[: len(learn) // length * length].view(-1, length)
    hmm.begin(model, learn, core.seeded(seed))
    return lambda i: hmm.improve(model, texts)


COUNTING = {"ngram": _counting, "hmm": _baum_welch}


def record(model, variant: str, seconds: float, *, corpus=None, **_) -> None:
    """Write into model.config, and so into config.json: what training took, in seconds, and the loss on the whole last tenth of the corpus, in nats per character."""
    *_, held_out = _parts(corpus or VARIANTS[variant].corpus, False)
    if VARIANTS[variant].arch == "ngram":  # what went before was the curve: all that it needs is to count the whole text once
        start = time.perf_counter()
        ngram.count(model, model.corpus.clone())
        model.index()
        seconds = time.perf_counter() - start
    model.config.trained_seconds = round(seconds, 1)
    model.config.held_out_nats = round(validation(model, encode(model.tokenizer, held_out)), 4)


def encode(tokenizer, text: str) -> torch.Tensor:
    """Token ids (T,). A character tokenizer is a table: looking up is 20 times faster than its merging of one very long word."""
    table, unknown = tokenizer.get_vocab(), tokenizer.unk_token_id  # once: asking a tokenizer takes longer than the table
    return torch.tensor([table.get(character, unknown) for character in text])


def windows(ids: torch.Tensor, n: int, length: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """n random windows of ids (T,): x and y, (n, length), where y is x one token later."""
    starts = torch.randint(max(1, len(ids) - length), (n, 1), generator=rng)
    found = ids[starts + torch.arange(length + 1).clamp(max=len(ids) - 1)]
    return found[:, :-1], found[:, 1:]


def drop(model, share: float, device) -> torch.Generator:
    """From now on leave out this share of the embeddings and of what each block adds to them, while model.training; chosen by the generator returned.

    Srivastava et al. 2014: https://jmlr.org/papers/v15/srivastava14a.html; where: Vaswani et al. 2017, section 5.4. A Llama has no such layers of its own.
    """
    rng, out = torch.Generator(device), round(256 * share)

    def thinned(module, inputs, output):
        if not module.training:
            return output
        x, *rest = output if isinstance(output, tuple) else (output,)
        kept = torch.empty(x.shape, dtype=torch.uint8, device=x.device).random_(generator=rng) >= out  # bytes: three times faster than bernoulli_
        x = x * kept * (256 / (256 - out))  # the expected sum stays
        return (x, *rest) if isinstance(output, tuple) else x

    for block in [model.model.embed_tokens, *(part for layer in model.model.layers for part in (layer.self_attn, layer.mlp))] if share else []:
        block.register_forward_hook(thinned)
    return rng


def pace(step: int, steps: int) -> float:
    """The learning rate's share: up along a straight line, then down along another to 0."""
    return min((step + 1) / (WARM_UP * steps), (steps - step) / ((1 - WARM_UP) * steps), 1.0)


def _optimizers(model, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the embeddings; AdamW for the embeddings and norms, whose rows are not one linear map, and for all of an LSTM."""
    if not hasattr(model, "model"):
        return [torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.95), weight_decay=0.0)]
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    return [Muon(matrices, lr), torch.optim.AdamW(others, lr, betas=(0.9, 0.95), weight_decay=0.0)]


@torch.enable_grad()
def _step(acc, model, optimizers, x: torch.Tensor, y: torch.Tensor, lr: float) -> torch.Tensor:
    """One step of both optimizers; the loss before it."""
    model.train()
    loss = F.cross_entropy(model(input_ids=x, use_cache=False).logits.flatten(0, 1), y.flatten())  # (B T, V) against (B T,)
    acc.backward(loss)
    acc.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()
    return loss.detach()


@torch.inference_mode()
def validation(model, ids: torch.Tensor, most: int | None = None) -> float:
    """Mean loss in nats per token over ids (T,), cut into windows of the model's context; `most` takes that many windows, evenly spread."""
    length = min(model.config.max_position_embeddings, len(ids) - 1)
    starts = torch.arange(0, len(ids) - length, length)
    if most and len(starts) > most:
        starts = starts[torch.linspace(0, len(starts) - 1, most).long()]
    total = 0.0
    for chunk in starts.split(16):
        found = ids[chunk[:, None] + torch.arange(length + 1)].to(model.device)
        total += F.cross_entropy(model(input_ids=found[:, :-1], use_cache=False).logits.flatten(0, 1), found[:, 1:].flatten(), reduction="sum").item()
    return total / (len(starts) * length)


def _event(acc, model, step: int, steps: int, losses: list[torch.Tensor], held_out: torch.Tensor, seed: int) -> core.Event:
    plain = acc.unwrap_model(model).eval()
    metrics = {"loss": torch.stack(losses).mean().item(), "loss_val": validation(plain, held_out, most=16)} if losses else {}
    *_, preview = sample(plain, "", max_new_tokens=SHOWN, seed=seed)
    return core.Event(step, steps, metrics, plain, preview)
