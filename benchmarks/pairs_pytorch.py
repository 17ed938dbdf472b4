"""The peer of `pairs.py`: the same Transformer in plain PyTorch, in a process of its own."""

import itertools
import json
import math
import pathlib
import time
import types

import batches
import torch
from absl import app, flags
from pairs import AVERAGE, LABEL_SMOOTHING, PEAK, SEED, WARMUP, Progress

DATA = flags.DEFINE_string("data", None, "folder of arguments; the result is written there")
INPUTS = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids")


def main(_):
    folder = pathlib.Path(DATA.value)
    work = json.loads((folder / "work.json").read_text())
    config = types.SimpleNamespace(**work["config"])
    given = batches.read(folder / "batches.npz")
    progress = Progress(work["num_batches"], work["tokens_per_batch"])
    model = train(config, work["max_length"], itertools.cycle(given), progress)
    start = time.perf_counter()
    made = write(config, model, work["held_out"], work["max_tokens"])
    result = {"made": made, "seconds": time.perf_counter() - start}
    (folder / "result.json").write_text(json.dumps(result))


def learning_rate(step):
    """`lingxi.training.InverseSquareRoot`, without TensorFlow."""
    relative = (step + 1) / WARMUP.value
    return PEAK.value * min(relative, relative**-0.5)


def train(config, max_length, given, progress):
    """A `torch.nn.Transformer` with the averaged weights of its training."""
    torch.manual_seed(SEED.value)
    model = Model(config, max_length)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE.value)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate)
    cross_entropy = torch.nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    for inputs, labels in given:
        logits = model(*(torch.tensor(inputs[name]) for name in INPUTS))
        labels = torch.tensor(labels).long()
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        average.update_parameters(model)
        if progress.is_over(loss.item):
            return average.module.eval()


class Model(torch.nn.Module):
    def __init__(self, c, max_length):
        super().__init__()
        self.scale = c.hidden_dim**0.5
        self.transformer = torch.nn.Transformer(
            c.hidden_dim,
            c.num_heads,
            c.num_encoder_layers,
            c.num_decoder_layers,
            c.intermediate_dim,
            dropout=c.dropout,
            batch_first=True,
            norm_first=True,
        )
        self.embedding = torch.nn.Embedding(c.vocab_size, c.hidden_dim)
        torch.nn.init.normal_(self.embedding.weight, std=c.hidden_dim**-0.5)
        self.dropout = torch.nn.Dropout(c.dropout)
        position = torch.arange(max_length + 1).unsqueeze(1)
        turns = torch.exp(torch.arange(0, c.hidden_dim, 2) * (-math.log(1e4) / c.hidden_dim))
        table = torch.stack([torch.sin(position * turns), torch.cos(position * turns)], -1)
        self.register_buffer("positions", table.flatten(1))  # [positions, hidden]

    def embed(self, token_ids):
        x = self.embedding(token_ids) * self.scale
        return self.dropout(x + self.positions[: token_ids.shape[1]])

    def encode(self, token_ids, mask):
        return self.transformer.encoder(self.embed(token_ids), src_key_padding_mask=~mask)

    def decode(self, token_ids, context, mask):
        length = token_ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).triu(1)
        return self.transformer.decoder(
            self.embed(token_ids),
            context,
            tgt_mask=causal,
            tgt_is_causal=True,
            memory_key_padding_mask=~mask,
        )

    def forward(self, encoder_token_ids, mask, decoder_token_ids):
        x = self.decode(decoder_token_ids, self.encode(encoder_token_ids, mask), mask)
        return x @ self.embedding.weight.T


def write(config, model, held_out, max_tokens):
    """Greedy decoding, 32 texts of similar length at a time."""
    made = [None] * len(held_out)
    order = sorted(range(len(held_out)), key=lambda row: len(held_out[row]))
    with torch.no_grad():
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            texts = [torch.tensor(held_out[row]) for row in rows]
            ids = torch.nn.utils.rnn.pad_sequence(texts, True, config.pad_id)
            mask = ids != config.pad_id
            context = model.encode(ids, mask)
            tokens = torch.full((len(ids), 1), config.decoder_start_id)
            over = torch.zeros(len(ids), dtype=torch.bool)
            while tokens.shape[1] <= max_tokens and not over.all():
                hidden = model.decode(tokens, context, mask)[:, -1]
                token = (hidden @ model.embedding.weight.T).argmax(-1)
                token = torch.where(over, config.pad_id, token)
                tokens = torch.cat([tokens, token.unsqueeze(1)], 1)
                over |= token == config.eos_id
            for row, answer in zip(rows, tokens.tolist(), strict=True):
                made[row] = answer
    return made


if __name__ == "__main__":
    app.run(main)
