"""The other side of `peer.py`, in a process in which TensorFlow runs nothing.

python benchmarks/peer_pytorch.py FOLDER      with `model/` and `work.pickle`
"""

import json
import math
import pathlib
import pickle
import sys
import time

import torch
import transformers

NAMES = {
    "token_ids": "input_ids",
    "padding_mask": "attention_mask",
    "segment_ids": "token_type_ids",
}
WEIGHT_DECAY = 0.01


def main(folder):
    work = folder / "work.pickle"
    train, held_out, epochs, learning_rate = pickle.loads(work.read_bytes())
    (architecture,) = json.loads((folder / "model/config.json").read_text())["architectures"]
    torch.manual_seed(1)
    model = getattr(transformers, architecture).from_pretrained(folder / "model")
    start = time.perf_counter()
    fine_tune(model, train, epochs, learning_rate)
    seconds = time.perf_counter() - start
    model.eval()
    with torch.inference_mode():
        logits = [
            model(**inputs_of(held_out[index])).logits.numpy()
            for index in range(held_out.num_batches)
        ]
    work.write_bytes(pickle.dumps((logits, seconds)))


def inputs_of(batch):
    return {NAMES[k]: torch.tensor(v).long() for k, v in batch[0].items() if k in NAMES}


def fine_tune(model, batches, epochs, peak):
    """AdamW, a linear rise over a tenth of the steps, then a linear fall, gradients of norm 1."""
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        (others if "bias" in name or "norm" in name.lower() else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others}]
    optimizer = torch.optim.AdamW(groups, lr=peak, weight_decay=0.0)
    total = epochs * batches.num_batches
    warmup = math.ceil(total / 10)

    def share(step):
        return min((step + 1) / warmup, (total - step) / max(1, total - warmup))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    model.train()
    for _ in range(epochs):
        batches.rows = batches._draw_batches()
        for index in range(batches.num_batches):
            batch = batches[index]
            logits = model(**inputs_of(batch)).logits
            targets = torch.tensor(batch[1]).long()
            loss = torch.nn.functional.cross_entropy(
                logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
