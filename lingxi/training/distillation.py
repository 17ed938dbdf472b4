"""A small model learns from what a large one says, and from how it gets there."""

import contextlib
import functools

import keras
from keras import ops

from lingxi.layers import Dense
from lingxi.training.interception import intercepted
from lingxi.training.losses import token_divergence

SMALLEST = 1e-9  # probability whose logarithm is taken
LOWEST = -1e9  # score of a padded key


class Distiller(keras.Model):
    """A student that a teacher helps while it trains.

    `fit` takes what the student's takes, and trains the student alone, with the loss

    `labels · L + logits · T² KL(p_t ‖ p_s) + hidden · mean (h_s W − h_t)²
    + attention · KL(A_t ‖ A_s) + values · KL(R_t ‖ R_s)`

    where `L` is the student's own, `p = softmax(z / T)` what is said (Hinton et al. 2015), `h` the
    hidden states that `layer_map` pairs, with one learned `W` for each pair where widths differ
    (TinyBERT, Jiao et al. 2020), `A` the attention of the last block and `R = softmax(V Vᵀ / √d)`
    the relations of its values (MiniLM, Wang et al. 2020). A mean is over all real tokens, heads
    and pairs; `p` is compared where there is something to learn, and numbers, of a `TextRegressor`,
    by `(z_t − z_s)² / 2`.

    The teacher runs in inference, is never trained, and is no part of what is saved. Both run once
    a step. Validation shows the student's own loss. After `fit` the student is an ordinary task;
    the `W` stay here, for another `fit`.

    A `MultiTask` learns from another one, or from a teacher for some of its tasks, `{name: task}`
    (Liu et al. 2019, "Improving Multi-Task Deep Neural Networks via Knowledge Distillation"): each
    task has the loss above, and learns from its labels alone if nobody teaches it.

    Args:
        student, teacher: tasks with the same vocabulary; to compare what they say, of the same kind
            with the same labels: `TextClassifier`, `TokenClassifier`, `QuestionAnswerer`,
            `TextRegressor`, `MaskedLanguageModel`. Of others, encoders of `lingxi.zoo.Bert`, the
            rest can be compared.
        labels, logits, hidden, attention, values: weights of the terms; 0 leaves one out.
        temperature: T.
        layer_map: `{layer of the student: layer of the teacher}`, where 0 are the embeddings, 1 is
            the first block. By default evenly: `i` of `n` learns from `round(i m / n)` of `m`.

    Raises:
        TypeError: hidden states, attention or values of models that are no stack of blocks.
        ValueError: another vocabulary or other labels; a teacher that cannot read texts as long;
            other heads, of which attention and values need as many; bad weights or layers; a
            teacher of a task that a `MultiTask` does not have.
    """

    def __init__(
        self,
        student,
        teacher,
        labels=0.5,
        logits=0.5,
        hidden=0.0,
        attention=0.0,
        values=0.0,
        temperature=2.0,
        layer_map=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.student = student
        object.__setattr__(self, "teacher", teacher)  # Keras does not track it so
        self.term_weights = {
            "labels": labels,
            "logits": logits,
            "hidden": hidden,
            "attention": attention,
            "values": values,
        }
        self.temperature = temperature
        self.layer_map, self.projections = {}, []
        self._notes = Notes()
        self.built = True
        settings = {**self.term_weights, "temperature": temperature, "layer_map": layer_map}
        self.of_tasks = [
            Distiller(*pair, **settings) for pair in _tasks_and_teachers(student, teacher)
        ]
        if self.of_tasks:
            return
        self._check()
        if hidden:
            self.layer_map = self._checked_map(layer_map)
            self.projections = [self._projection(layer) for layer in self.layer_map]

    def call(self, inputs, training=None):
        return self.student(inputs, training=training)

    def compile(self, *args, **kwargs):
        """That of the student."""
        self.student.compile(*args, **kwargs)

    def fit(self, *args, **kwargs):
        """That of the student, with the help of the teacher."""
        with self._teaching():
            return self.student.fit(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """That of the student: its own loss and metrics."""
        return self.student.evaluate(*args, **kwargs)

    def predict(self, *args, **kwargs):
        """That of the student."""
        return self.student.predict(*args, **kwargs)

    @contextlib.contextmanager
    def _teaching(self):
        """The student's loss is that of the class; the projections are trained with its weights."""
        with self._noted(self.student, self._notes), contextlib.ExitStack() as stack:
            for each in self.of_tasks or [self]:
                stack.enter_context(each._taught(self._notes))
            self.student.train_function = None
            stack.callback(setattr, self.student, "train_function", None)
            yield

    @contextlib.contextmanager
    def _taught(self, notes):
        """The same of one task, of which `notes` are taken."""
        student, own_loss = self.student, self.student.compute_loss

        def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = own_loss(x, y, y_pred, sample_weight, training=training)
            if x is None or not training:
                return loss
            return self._loss(loss, notes, x, y, y_pred, sample_weight)

        with _parts(student, self.projections):
            student.compute_loss = compute_loss
            try:
                yield
            finally:
                del student.compute_loss

    def _loss(self, own_loss, mine, x, y, y_pred, sample_weight):
        """The sum of all terms for one batch, from what the student has just done."""
        weights, theirs = self.term_weights, Notes()
        with self._noted(self.teacher, theirs):
            taught = self.teacher(x, training=False)
        real = x.get("padding_mask")
        real = ops.ones_like(x["token_ids"]) if real is None else real
        real = ops.cast(real, "float32")  # [batch, seq]

        loss = weights["labels"] * own_loss
        if weights["logits"]:
            loss += weights["logits"] * self._of_logits(x, y, y_pred, taught, sample_weight)
        if weights["hidden"]:
            loss += weights["hidden"] * self._of_hidden_states(mine, theirs, real)
        if weights["attention"]:
            attended = (_log(_fixed(theirs.attention)), _log(mine.attention))
            loss += weights["attention"] * _mean(_mean_of_heads(_divergence(*attended)), real)
        if weights["values"]:
            related = (_relations(_fixed(theirs.values), real), _relations(mine.values, real))
            loss += weights["values"] * _mean(_mean_of_heads(_divergence(*related)), real)
        return loss

    def _of_logits(self, x, y, y_pred, taught, sample_weight):
        """`T² KL(p_t ‖ p_s)`, as the task compares two of its predictions."""
        student = self.student

        def softened(logits):
            return keras.tree.map_structure(
                lambda z: ops.cast(z, "float32") / self.temperature, logits
            )

        wanted, said = softened(keras.tree.map_structure(_fixed, taught)), softened(y_pred)
        if getattr(student, "crf", None) is not None:  # the scores of each token by itself
            divergence = token_divergence(y, wanted, said, sample_weight)
        else:
            try:
                divergence = student.divergence(x, y, wanted, said, sample_weight)
            except TypeError as error:
                raise ValueError(f"{error}; a Distiller takes it with logits=0") from error
        return self.temperature**2 * divergence

    def _of_hidden_states(self, mine, theirs, real):
        """`mean (h_s W − h_t)²`, the mean over all pairs of layers."""
        terms = []
        for project, (layer, taught) in zip(self.projections, self.layer_map.items(), strict=True):
            state, wanted = mine.hidden[layer], _fixed(theirs.hidden[taught])
            if project is not None:
                state = project(state)
            gap = ops.cast(state, "float32") - ops.cast(wanted, "float32")  # [batch, seq, hidden]
            terms.append(_mean(ops.mean(ops.square(gap), axis=-1), real))
        return sum(terms) / len(terms)

    # What is asked for

    @property
    def _looks_inside(self):
        return any(self.term_weights[name] for name in ("hidden", "attention", "values"))

    @contextlib.contextmanager
    def _noted(self, task, notes):
        """Write down what goes on in the backbone of a task, if it is asked for."""
        with contextlib.ExitStack() as stack:
            if self._looks_inside:
                relations = any(self.term_weights[name] for name in ("attention", "values"))
                only_training = task is self.student
                stack.enter_context(_noted(task.backbone, notes, relations, only_training))
            yield

    def _check(self):
        weights, student, teacher = self.term_weights, self.student, self.teacher
        if min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError(f"the weights must be 0 or more, and one of them more; got {weights}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be more than 0, got {self.temperature}")
        tokenizers = student.tokenizer, teacher.tokenizer
        kinds, vocabularies = zip(*((type(t), list(t.vocabulary)) for t in tokenizers), strict=True)
        if kinds[0] is not kinds[1] or vocabularies[0] != vocabularies[1]:
            raise ValueError(
                "student and teacher must have the same vocabulary, but the student has a "
                f"{kinds[0].__name__} of {len(vocabularies[0])} tokens, the teacher a "
                f"{kinds[1].__name__} of {len(vocabularies[1])}, and they differ: give the student "
                "the teacher's tokenizer"
            )
        longest = getattr(teacher.backbone.config, "max_length", student.max_length)
        if student.max_length > longest:
            raise ValueError(
                f"the teacher reads {longest} tokens, the student {student.max_length}; "
                f"make the student with max_length={longest}"
            )
        if weights["logits"] and _labels(student) != _labels(teacher):
            raise ValueError(
                f"to learn what the teacher says, the student must have its labels: it has "
                f"{_labels(student)}, the teacher {_labels(teacher)}; or pass logits=0"
            )
        if self._looks_inside:
            for task in (student, teacher):
                if not hasattr(task.backbone, "blocks"):
                    raise TypeError(
                        "hidden, attention and values are for encoders of lingxi.zoo.Bert, got a "
                        f"{type(task.backbone).__name__}; pass 0 for them"
                    )
        heads = [task.backbone.config.num_heads for task in (student, teacher)]
        if (weights["attention"] or weights["values"]) and heads[0] != heads[1]:
            raise ValueError(
                f"attention and values are compared head by head, but the student has {heads[0]} "
                f"heads, the teacher {heads[1]}: make the student with num_heads={heads[1]}, of "
                "any width, or pass 0 for both"
            )

    def _checked_map(self, layer_map):
        """`layer_map`, or the even one."""
        tasks = self.student, self.teacher
        depth, of_teacher = (len(task.backbone.blocks) for task in tasks)
        if layer_map is None:
            return {layer: round(layer * of_teacher / depth) for layer in range(depth + 1)}
        pairs = layer_map.items()
        if not pairs or not all(0 <= a <= depth and 0 <= b <= of_teacher for a, b in pairs):
            raise ValueError(
                f"layer_map must pair layers 0 to {depth} of the student with 0 to {of_teacher} of "
                f"the teacher, got {layer_map}"
            )
        return dict(layer_map)

    def _projection(self, layer):
        """`W` `[student's width, teacher's]` for a layer of the student; None of equal widths."""
        widths = [task.backbone.config.hidden_dim for task in (self.student, self.teacher)]
        if widths[0] == widths[1]:
            return None
        projection = Dense(widths[1], use_bias=False, name=f"projection_{layer}")
        projection.build((None, widths[0]))
        return projection


def _tasks_and_teachers(student, teacher):
    """The tasks of a `MultiTask` that are taught, each with its teacher; of others nothing."""
    if not hasattr(student, "tasks"):
        return []
    teachers = getattr(teacher, "tasks", teacher)
    if not isinstance(teachers, dict) or not teachers or not set(teachers) <= set(student.tasks):
        raise ValueError(
            "a MultiTask learns from a MultiTask or from {name: task}, with teachers of its tasks "
            f"{list(student.tasks)}; got {teacher!r}"
        )
    return [(student[name], each) for name, each in teachers.items()]


class Notes:
    """What a backbone did when it ran last.

    Attributes:
        hidden: the embeddings and the output of every block, `[batch, seq, hidden]`.
        attention: of the last block, `[batch, heads, query, key]`, before any dropout.
        values: of the last block, `[batch, heads, key, head_dim]`.
    """

    def __init__(self):
        self.hidden = []
        self.attention = self.values = None


@contextlib.contextmanager
def _noted(backbone, notes, relations, only_training):
    """Have `notes` taken of every run: all positions of all blocks are computed then."""
    first, last = backbone.blocks[0], backbone.blocks[-1]

    def run_block(block, call, inputs, **kwargs):
        if only_training and not kwargs.get("training"):
            return call(inputs, **kwargs)
        if block is first:
            notes.hidden = [inputs]
        outputs = call(inputs, **{**kwargs, "num_positions": None})
        notes.hidden.append(outputs)
        return outputs

    def run_attention(call, inputs, **kwargs):
        if only_training and not kwargs.get("training"):
            return call(inputs, **kwargs)
        wanted = {"return_attention_weights": True, "return_values": True}
        outputs, notes.attention, notes.values = call(inputs, **{**kwargs, **wanted})
        return outputs

    with contextlib.ExitStack() as stack:
        for block in backbone.blocks:
            stack.enter_context(intercepted(block, functools.partial(run_block, block)))
        if relations:
            stack.enter_context(intercepted(last.attention, run_attention))
        yield


@contextlib.contextmanager
def _parts(model, layers):
    """Within this context the weights of `layers` are among those of `model`."""
    tracker, locked = model._tracker, model._tracker.locked
    layers = [layer for layer in layers if layer is not None]
    tracker.unlock()
    for layer in layers:
        tracker.track(layer)
    try:
        yield
    finally:
        for layer in layers:
            tracker.untrack(layer)
        if locked:
            tracker.lock()


def _labels(task):
    """The names of what a task says, in the order of its logits; of others their number."""
    names = getattr(task, "tags", None) or getattr(task, "labels", None)
    return names or task.backbone.config.vocab_size


def _fixed(values):
    """Of the teacher: nothing learns from it there."""
    return ops.stop_gradient(values)


def _log(probabilities):
    return ops.log(ops.maximum(ops.cast(probabilities, "float32"), SMALLEST))


def _divergence(wanted, said):
    """`Σ p_t (log p_t − log p_s)` on the last axis, of logarithms of probabilities."""
    return ops.sum(ops.exp(wanted) * (wanted - said), axis=-1)


def _relations(values, real):
    """The logarithm of `softmax(V Vᵀ / √d)` among real tokens, `[batch, heads, seq, seq]`."""
    values = ops.cast(values, "float32")  # [batch, heads, seq, head_dim]
    scores = ops.matmul(values, ops.swapaxes(values, -1, -2)) * values.shape[-1] ** -0.5
    batch, seq = ops.shape(real)
    return ops.log_softmax(ops.where(ops.reshape(real, (batch, 1, 1, seq)) > 0, scores, LOWEST))


def _mean_of_heads(divergences):
    """`[batch, heads, query]` to `[batch, query]`."""
    return ops.mean(divergences, axis=1)


def _mean(values, weights):
    """The mean by weights, 0 where there are none."""
    total = ops.sum(weights)
    return ops.sum(values * weights) / ops.where(total > 0, total, 1.0)
