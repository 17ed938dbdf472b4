"""The other side of `peer.py`, in a process in which TensorFlow runs nothing.

python benchmarks/peer_pytorch.py FOLDER RATE PRECISION SEED

FOLDER has `model/`, `train.npz` and `held_out.npz`.
"""

import json
import math
import pathlib
import sys
import time

import batches
import numpy as np
import torch
import transformers

NAMES = {
    "token_ids": "input_ids",
    "padding_mask": "attention_mask",
    "segment_ids": "token_type_ids",
}
WEIGHT_DECAY = 0.01
LOWEST = -1e9  # where no answer can stand


def main(folder, learning_rate, precision, seed):
    (architecture,) = json.loads((folder / "model/config.json").read_text())["architectures"]
    torch.manual_seed(seed)
    model = getattr(transformers, architecture).from_pretrained(folder / "model")
    train = batches.read(folder / "train.npz")
    start = time.perf_counter()
    fine_tune(model, train, learning_rate, precision)
    seconds = time.perf_counter() - start
    model.eval()
    with torch.inference_mode():
        held_out = batches.read(folder / "held_out.npz")
        logits = [logits_of(model, inputs, precision).numpy() for inputs, _ in held_out]
    np.savez(folder / "logits.npz", *logits, seconds=seconds)


def logits_of(model, inputs, precision):
    """float32 `[batch, …, classes]`; of a question answerer `[windows, 2, seq]`."""
    inputs_of_model = {NAMES[k]: torch.tensor(v).long() for k, v in inputs.items() if k in NAMES}
    # Around one forward pass: until it is left, autocast keeps the weights that it has converted.
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        outputs = model(**inputs_of_model)
    if "can_answer" not in inputs:
        return outputs.logits.float()
    allowed = torch.tensor(inputs["can_answer"])
    allowed[:, 0] = True  # there is no answer
    both = torch.stack([outputs.start_logits, outputs.end_logits], 1).float()
    return both.masked_fill(~allowed.unsqueeze(1), LOWEST)


def fine_tune(model, train, peak, precision):
    """AdamW, a linear rise over a tenth of the steps, then a linear fall, gradients of norm 1."""
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        (others if "bias" in name or "norm" in name.lower() else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others}]
    optimizer = torch.optim.AdamW(groups, lr=peak, weight_decay=0.0)
    warmup = math.ceil(len(train) / 10)

    def share(step):
        return min((step + 1) / warmup, (len(train) - step) / max(1, len(train) - warmup))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    model.train()
    for inputs, targets in train:
        logits = logits_of(model, inputs, precision)
        targets = torch.tensor(targets).long()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
