"""A hidden Markov model: the text is what hidden states say as they follow one another. Each state knows the chances of the next state, and of what it says itself.

Learnt with the Baum-Welch algorithm: Rabiner 1989, sections III.C and V.A (scaling): https://doi.org/10.1109/5.18626. N texts, T tokens, K states, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PretrainedConfig

from genkit.text.rung import Rung, register

PRIOR = 1e-3  # added to every expected count, so that nothing becomes impossible: what was never said may be said one day
AT_ONCE = 256  # texts: their states take AT_ONCE x T x K numbers


class HmmConfig(PretrainedConfig):
    model_type = "genkit-hmm"

    def __init__(self, vocab_size: int = 2, n_states: int = 64, max_position_embeddings: int = 256, **others):
        super().__init__(**{"tie_word_embeddings": False, **others})
        self.vocab_size, self.n_states, self.max_position_embeddings = vocab_size, n_states, max_position_embeddings


class Hmm(Rung):
    """start (K,), transition (K, K) from row to column, emission (K, V): logarithms of probabilities, up to a constant a row."""

    def __init__(self, config: HmmConfig):
        super().__init__(config)
        k, v = config.n_states, config.vocab_size
        for name, shape in (("start", (k,)), ("transition", (k, k)), ("emission", (k, v))):
            self.register_parameter(name, nn.Parameter(torch.randn(shape), requires_grad=False))
        self.post_init()

    def _init_weights(self, module) -> None:
        pass  # a random start is made where the parameters are

    def chances(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """start, transition and emission as probabilities."""
        return tuple(part.detach().float().softmax(dim=-1) for part in (self.start, self.transition, self.emission))

    @torch.no_grad()
    def read(self, ids, memory, keep):
        start, transition, emission = self.chances()
        belief = memory[0] if memory else start.expand(len(ids), -1)  # of the state that says the next token, (B, K)
        beliefs = []
        for token in ids.T:
            heard = belief * emission[:, token].T
            belief = heard / heard.sum(dim=1, keepdim=True).clamp(min=1e-30) @ transition
            beliefs.append(belief)
        return (torch.stack(beliefs[-keep:], dim=1) @ emission).clamp(min=1e-30).log(), (belief,)


@torch.no_grad()
def begin(model: Hmm, ids: torch.Tensor, rng: torch.Generator) -> None:
    """A random start: every state says tokens about as often as ids (T,) do. Alike, the states would stay alike for ever."""
    often = torch.bincount(ids, minlength=model.config.vocab_size) + 0.1
    for part, base in ((model.start, 0.0), (model.transition, 0.0), (model.emission, often.log())):
        part.copy_(torch.randn(part.shape, generator=rng) + base)


@torch.no_grad()
def improve(model: Hmm, texts: torch.Tensor, prior: float = PRIOR) -> float:
    """One iteration of Baum-Welch over texts (N, T); the mean loss in nats per token before it."""
    start, transition, emission = model.chances()
    totals, loss = [torch.full_like(part, prior) for part in (start, transition, emission)], 0.0
    for some in texts.to(model.device).split(AT_ONCE):
        nats, *counts = expected(start, transition, emission, some)
        loss += nats
        for total, counted in zip(totals, counts, strict=True):
            total += counted
    for part, total in zip((model.start, model.transition, model.emission), totals, strict=True):
        part.copy_(total.clamp(min=1e-30).log() - total.sum(dim=-1, keepdim=True).log())
    return loss / texts.numel()


def expected(start, transition, emission, x: torch.Tensor):
    """Of texts x (N, T): the loss in nats, and how often each state is expected to begin, (K,), each transition to be made, (K, K), each token to be said, (K, V)."""
    likely = emission.T[x.T]  # (T, N, K): of each token, from each state
    forward, scale = torch.empty_like(likely), []
    belief = start.expand(x.shape[0], -1)
    for t, says in enumerate(likely):
        heard = belief * says
        scale.append(heard.sum(dim=1, keepdim=True))  # p(token t | those before), (N, 1)
        forward[t] = heard / scale[-1]
        belief = forward[t] @ transition
    later, made = torch.ones_like(forward[0]), torch.zeros_like(transition)
    for t in range(len(likely) - 1, 0, -1):
        ahead = later * likely[t] / scale[t]
        made += forward[t - 1].T @ ahead
        later = ahead @ transition.T
        forward[t - 1] *= later  # now the posterior of the state at t - 1
    said = torch.zeros_like(emission.T).index_add_(0, x.T.flatten(), forward.flatten(0, 1))
    return -torch.stack(scale).log().sum().item(), forward[0].sum(dim=0), made * transition, said.T


@torch.no_grad()
def path(model: Hmm, ids: list[int]) -> tuple[list[int], torch.Tensor]:
    """The likeliest sequence of states behind ids (Viterbi), and how likely each state is at each token given all of them, (T, K)."""
    start, transition, emission = model.chances()
    x = torch.tensor(ids, device=model.device)
    likely = emission.T[x]  # (T, K)
    score, origins = start.log() + likely[0].log(), []
    for says in likely[1:]:
        best, origin = (score[:, None] + transition.log()).max(dim=0)
        score = best + says.log()
        origins.append(origin)
    states = [int(score.argmax())]
    for origin in reversed(origins):
        states.append(int(origin[states[-1]]))
    return states[::-1], _posterior(start, transition, likely)


def _posterior(start, transition, likely: torch.Tensor) -> torch.Tensor:
    """How likely each state is at each token, given the whole text: likely (T, K) -> (T, K)."""
    forward, belief = [], start
    for says in likely:
        heard = belief * says
        forward.append(heard / heard.sum())
        belief = forward[-1] @ transition
    later, found = torch.ones_like(start), [forward[-1]]
    for t in range(len(likely) - 1, 0, -1):
        later = transition @ (later * likely[t])
        later = later / later.sum()
        found.append(forward[t - 1] * later / (forward[t - 1] * later).sum())
    return torch.stack(found[::-1]).cpu()


register(HmmConfig, Hmm)
