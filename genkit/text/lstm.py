"""Long short-term memory: a network that reads token by token and carries what it needs to remember in two vectors, with gates that keep, forget and show.

Hochreiter & Schmidhuber 1997: https://doi.org/10.1162/neco.1997.9.8.1735. Tied embeddings: Press & Wolf 2017: https://arxiv.org/abs/1608.05859.
B batch, T tokens, H width, L layers, V vocabulary.
"""

from __future__ import annotations

from torch import nn
from transformers import PretrainedConfig

from genkit.text.rung import Rung, register


class LstmConfig(PretrainedConfig):
    model_type = "genkit-lstm"

    def __init__(
        self, vocab_size: int = 2, hidden_size: int = 256, num_hidden_layers: int = 2, dropout: float = 0.0, max_position_embeddings: int = 256, **others
    ):
        super().__init__(**{"tie_word_embeddings": True, **others})
        self.vocab_size, self.hidden_size, self.num_hidden_layers, self.dropout = vocab_size, hidden_size, num_hidden_layers, dropout
        self.max_position_embeddings = max_position_embeddings


class Lstm(Rung):
    """Embedding, L layers of LSTM, and the embedding once more to score the next token. Its memory: the hidden and the cell vectors, (L, B, H) each."""

    memory_batch = 1
    _tied_weights_keys = {"lm_head.weight": "embed.weight"}

    def __init__(self, config: LstmConfig):
        super().__init__(config)
        v, h, layers = config.vocab_size, config.hidden_size, config.num_hidden_layers
        self.embed = nn.Embedding(v, h)
        self.drop = nn.Dropout(config.dropout)
        self.lstm = nn.LSTM(h, h, layers, batch_first=True, dropout=config.dropout if layers > 1 else 0.0)
        self.lm_head = nn.Linear(h, v, bias=False)
        self.post_init()

    def _init_weights(self, module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.hidden_size**-0.5)  # it scores as well: logits of about 1
        elif isinstance(module, nn.LSTM):
            for name, weight in module.named_parameters():
                nn.init.zeros_(weight) if "bias" in name else nn.init.uniform_(weight, -(self.config.hidden_size**-0.5), self.config.hidden_size**-0.5)
                if "bias_ih" in name:  # Jozefowicz et al. 2015: a forget gate that is open at first lets it learn to remember
                    nn.init.ones_(weight[self.config.hidden_size : 2 * self.config.hidden_size])

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def read(self, ids, memory, keep):
        shown, memory = self.lstm(self.drop(self.embed(ids)), memory)
        return self.lm_head(self.drop(shown[:, -keep:])), memory


register(LstmConfig, Lstm)
