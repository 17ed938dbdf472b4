"""A BERT-base-sized classifier on 128 tokens: what lingxi exports beside other runtimes.

    python benchmarks/serving.py [--sides=transformers,float32,tflite_int8,…]

Same random weights, same token ids: milliseconds a call, batch 1 and 8, the calls taking turns,
each with all cores. `transformers` runs on PyTorch. "float32", "bfloat16_cpu" and so on are
SavedModels of a precision and a target; those with a target only run if they are named (XLA for
GPUs; constants for CPUs, which take 7 to 10 GB). Their processes have
TF_ONEDNN_ASSUME_FROZEN_WEIGHTS, as a server may that only serves: oneDNN then packs the weights of
a product once.
onnxruntime and OpenVINO run the ONNX file of `lingxi.export.onnx`, "onnxruntime_int8" what
onnxruntime's own dynamic quantization makes of it. Needs `pip install onnx tf2onnx onnxruntime
openvino`. The limit is that of the products at the rate of one large product in PyTorch.
"""

import concurrent.futures
import multiprocessing
import os
import pathlib
import statistics
import tempfile

import numpy as np
from absl import app, flags
from common import call_by_call, describe_machine, sst2, take_turns, timed

import lingxi
from lingxi.export.verification import size
from lingxi.zoo import preset

SAVED_MODELS = {  # side: options of the export
    "float32": {"precision": "float32"},
    "float32_cpu": {"precision": "float32", "target": "cpu"},
    "float32_gpu": {"precision": "float32", "target": "gpu"},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16_cpu": {"precision": "bfloat16", "target": "cpu"},
    "bfloat16_gpu": {"precision": "bfloat16", "target": "gpu"},
    "int8_weights": {"precision": "int8_weights"},
    "int8_weights_cpu": {"precision": "int8_weights", "target": "cpu"},
}
TFLITE = {"tflite": None, "tflite_int8": "int8"}
OPENVINO = {"openvino": "f32", "openvino_bfloat16": "bf16"}
OTHERS = ("onnxruntime", "onnxruntime_int8", *OPENVINO)
ALL = ["transformers", *SAVED_MODELS, *OTHERS, *TFLITE]
BY_DEFAULT = [side for side in ALL if "target" not in SAVED_MODELS.get(side, {})]
SIDES = flags.DEFINE_list("sides", BY_DEFAULT, "what to measure, of " + ", ".join(ALL))
SIDE = flags.DEFINE_enum("side", None, ALL, "internal: time this side")
FOLDER = flags.DEFINE_string(
    "folder",
    None,
    "of the exported models, which a later run finds there; by default a temporary one",
)
BATCH = flags.DEFINE_integer("batch", 1, "internal: texts a call")
LENGTH, BATCHES = 128, (1, 8)
LIMITS = ("float32", "bfloat16")
ROUNDS = 30  # of calls


def main(_):
    if SIDE.value:
        ids = np.random.default_rng(0).integers(1000, 30000, (BATCH.value, LENGTH))
        take_turns(CALLS[SIDE.value](ids))
        return
    print(describe_machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = FOLDER.value or temporary
        reports = exports(pathlib.Path(folder))
        for batch in BATCHES:
            arguments = f"--folder={folder}", f"--batch={batch}"
            costs = call_by_call(__file__, SIDES.value, *arguments, rounds=ROUNDS // batch + 6)
            limits = (f"{1e3 * limit(batch, dtype):.1f} ms in {dtype}" for dtype in LIMITS)
            print(f"batch {batch}, limit {' and '.join(limits)}:")
            first = SIDES.value[0]
            for side, cost in costs.items():
                ratio = costs[first].seconds / cost.seconds
                print(
                    f"  {side:17} {cost.seconds * 1e3:7.1f} ms, {cost.memory / 1e6:.0f} MB, "
                    f"{ratio:.2f} times as fast as {first}",
                    flush=True,
                )
    for side, report in reports.items():
        print(
            f"{side}: {report['size'] / 1e6:.0f} MB, label agreement {report['agreement']:.1%} "
            f"on {report['num_examples']} texts"
        )


def limit(batch, dtype):
    """Seconds for the products of the encoder alone, at the rate of a large one."""
    import torch

    side, hidden, inner, layers = 2048, 768, 3072, 12
    a, b = torch.randn(2, side, side).to(getattr(torch, dtype))
    rate = 2 * side**3 / statistics.median(timed(lambda: a @ b, 5))
    dense = 2 * batch * LENGTH * (4 * hidden**2 + 2 * hidden * inner)
    attention = 4 * batch * LENGTH**2 * hidden
    return layers * (dense + attention) / rate


def exports(folder):
    """The same weights for all sides, into `folder`; `{side: report}`, as in their cards.

    Each in a process of its own, whose memory is free again when the sides take turns.
    """
    names = [side for side in SIDES.value if side in SAVED_MODELS]
    names += [f"{side}_{batch}" for side in SIDES.value if side in TFLITE for batch in BATCHES]
    if set(OTHERS) & set(SIDES.value):
        names.append("onnx")
    own_process = {"mp_context": multiprocessing.get_context("spawn"), "max_tasks_per_child": 1}
    with concurrent.futures.ProcessPoolExecutor(1, **own_process) as pool:
        if not (folder / "transformers").exists():
            pool.submit(make, folder).result()
        return {name: pool.submit(export, folder, name).result() for name in names}


def make(folder):
    """Save the classifier."""
    import keras

    keras.utils.set_random_seed(1)
    classifier = lingxi.tasks.TextClassifier.from_preset(
        "bert_base",
        labels=["negative", "positive"],
        vocabulary=preset.resolve("minilm_l6_en_uncased") / "vocab.txt",
        max_length=LENGTH,
    )
    for weight in classifier.backbone.weights:  # as trained: a runtime may leave out zeros
        if weight.name in ("bias", "beta"):
            weight.assign(keras.random.normal(weight.shape, stddev=0.02, seed=1))
    spread_labels(classifier, sst2("dev")[0][:64])
    classifier.save_preset(folder / "transformers")


def export(folder, name):
    """The report of one export of the saved classifier, which is made unless it is there."""
    path = artifact_path(folder, name)
    if not path.exists():
        classifier = lingxi.tasks.TextClassifier.from_preset(folder / "transformers")
        options = {"examples": sst2("dev")[0][:200], "min_agreement": 0.0}
        side, _, batch = name.rpartition("_")
        if name in SAVED_MODELS:
            lingxi.export.saved_model(classifier, path, **SAVED_MODELS[name], **options)
        elif side in TFLITE:
            lingxi.export.tflite(
                classifier, path, TFLITE[side], input="ids", batch_size=int(batch), **options
            )
        else:
            from onnxruntime.quantization import quantize_dynamic

            lingxi.export.onnx(classifier, path, **options)
            quantize_dynamic(path, folder / "int8.onnx")
    report = lingxi.export.load(path).metadata["card"]["verification"]
    return {**report, "size": size(path)}


def artifact_path(folder, name):
    if name == "onnx":
        return pathlib.Path(folder) / "onnx.onnx"
    return pathlib.Path(folder) / (name if name in SAVED_MODELS else f"{name}.tflite")


def spread_labels(classifier, texts):
    """Centre the random head on these texts, so that the agreement of labels means something."""
    logits = classifier.predict(texts, verbose=False)
    kernel, _ = classifier.head.get_weights()
    scale = 4.0 / np.ptp(logits[:, 1] - logits[:, 0])
    middle = np.median(logits, axis=0)
    classifier.head.set_weights([kernel * scale, -middle * scale])


def transformers_call(ids):
    import torch
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        os.path.join(FOLDER.value, "transformers")
    ).eval()
    inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(ids.shape).long()}

    def call():
        with torch.inference_mode():
            model(**inputs)

    return call


def saved_model_call(ids):
    os.environ["TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"] = "1"
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's operations

    served = tf.saved_model.load(os.path.join(FOLDER.value, SIDE.value, "1"))
    inputs = {name: tf.constant(values) for name, values in inputs_of(ids).items()}
    return lambda: served.signatures["token_ids"](**inputs)["probabilities"].numpy()


def tflite_call(ids):
    from ai_edge_litert.interpreter import Interpreter

    path = artifact_path(FOLDER.value, f"{SIDE.value}_{BATCH.value}")
    run = Interpreter(str(path), num_threads=os.cpu_count()).get_signature_runner()
    inputs = inputs_of(ids)
    return lambda: run(**inputs)


def onnxruntime_call(ids):
    import onnxruntime

    name = "int8" if SIDE.value == "onnxruntime_int8" else "onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(os.path.join(FOLDER.value, f"{name}.onnx"), options)
    inputs = inputs_of(ids)
    return lambda: session.run(["probabilities"], inputs)


def openvino_call(ids):
    import openvino

    options = {"INFERENCE_PRECISION_HINT": OPENVINO[SIDE.value], "PERFORMANCE_HINT": "LATENCY"}
    path = artifact_path(FOLDER.value, "onnx")
    model = openvino.Core().compile_model(path, "CPU", options)
    inputs = inputs_of(ids)
    return lambda: model(inputs)["probabilities"]


def inputs_of(ids):
    """What an export takes."""
    return {
        "token_ids": ids.astype(np.int32),
        "segment_ids": np.zeros(ids.shape, np.int32),
        "padding_mask": np.ones(ids.shape, bool),
    }


CALLS = {
    "transformers": transformers_call,
    **dict.fromkeys(SAVED_MODELS, saved_model_call),
    "onnxruntime": onnxruntime_call,
    "onnxruntime_int8": onnxruntime_call,
    **dict.fromkeys(OPENVINO, openvino_call),
    **dict.fromkeys(TFLITE, tflite_call),
}

if __name__ == "__main__":
    app.run(main)
