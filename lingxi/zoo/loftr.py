"""LoFTR: matches between two images, from coarse to fine, without a detector (Sun et al. 2021)."""

import dataclasses
import itertools
import pathlib

import keras
from keras import ops

from lingxi.layers import (
    Dense,
    PairTransformer,
    SinusoidalPosition2D,
    dual_softmax,
    expectation_2d,
    inside_border,
    mutual_nearest,
    mutual_nearest_blockwise,
    windows_2d,
)
from lingxi.layers.gather import pick
from lingxi.layers.matching import least
from lingxi.zoo import loftr_checkpoint
from lingxi.zoo.backbone import Backbone
from lingxi.zoo.resnet_fpn import ResnetFpn

FINE_CELLS = 4  # fine cells on the side of a coarse one
CHUNK = 128  # matches that are refined at a time


@dataclasses.dataclass(frozen=True)
class LoftrConfig:
    """Sizes of a `Loftr`, and which of its matches count.

    Attributes:
        backbone_dims: widths of the convolutions at 1/2, 1/4, … of the image. The last is the
            coarse resolution, the last but two the fine one: 1/8 and 1/2 for three widths.
        num_layers: pairs of self- and cross-attention over the coarse cells.
        num_heads: of the coarse attention.
        num_fine_layers: the same over the windows; 0 for a coarse model without refinement.
        num_fine_heads: of the fine attention.
        window_size: odd side of the windows, in fine cells.
        temperature: τ of the dual softmax.
        threshold: least confidence of a match, in [0, 1].
        border: coarse cells at the edge of the picture that match nothing.
        max_matches: of one pair, at most.
        precedence_slip: see `lingxi.layers.SinusoidalPosition2D`.
        norm_epsilon: of the layer norms.
    """

    model_type: str = "loftr"
    backbone_dims: tuple = (128, 196, 256)
    num_layers: int = 4
    num_heads: int = 8
    num_fine_layers: int = 1
    num_fine_heads: int = 8
    window_size: int = 5
    temperature: float = 0.1
    threshold: float = 0.2
    border: int = 2
    max_matches: int = 1024
    precedence_slip: bool = False
    norm_epsilon: float = 1e-5

    def __post_init__(self):
        object.__setattr__(self, "backbone_dims", tuple(self.backbone_dims))  # a list in JSON
        if len(self.backbone_dims) < 3:
            raise ValueError(f"backbone_dims needs three widths or more, got {self.backbone_dims}")
        if self.window_size % 2 == 0:
            raise ValueError(f"window_size must be odd, got {self.window_size}")

    @property
    def hidden_dim(self):
        """Width of the coarse features."""
        return self.backbone_dims[-1]

    @property
    def fine_dim(self):
        """Width of the fine features."""
        return self.backbone_dims[-3]

    @property
    def stride(self):
        """Pixels on the side of a coarse cell: 8 for three widths."""
        return 2 ** len(self.backbone_dims)

    @property
    def fine_stride(self):
        """Pixels on the side of a fine cell: 2 for three widths."""
        return self.stride // FINE_CELLS

    @property
    def window_radius(self):
        """Pixels that the refinement can move a point, at most: 4 for windows of 5 at 1/2."""
        return self.window_size // 2 * self.fine_stride

    @property
    def num_parameters(self):
        dims = self.backbone_dims
        fine, middle, coarse = dims[-3:]
        stem = 7 * 7 * dims[0] + 2 * dims[0]
        stages = sum(4 * 9 * dim * dim + 8 * dim for dim in dims)  # as if all had equal widths
        for before, dim in itertools.pairwise(dims):
            stages += 9 * (before - dim) * dim + before * dim + 2 * dim
        pyramid = coarse * coarse + middle * coarse + fine * middle
        pyramid += 9 * (coarse * coarse + coarse * middle + middle * middle + middle * fine)
        pyramid += 2 * coarse + 2 * middle

        def transformer(layers, dim):
            return 2 * layers * (4 * dim * dim + 4 * dim * dim + 2 * dim * dim + 4 * dim)

        refinement = transformer(self.num_fine_layers, fine)
        if self.num_fine_layers:
            refinement += coarse * fine + 2 * fine * fine + 2 * fine
        return stem + stages + pyramid + transformer(self.num_layers, coarse) + refinement


@keras.saving.register_keras_serializable(package="lingxi")
class Loftr(Backbone):
    """Matches between two grey images: coarse cells by attention, then to parts of a pixel.

    Inputs, a dict: `image_a`, `image_b` float `[batch, height, width, 1]` in [0, 1], sides that are
    multiples of `config.stride` (8), the two of any sizes; `mask_a`, `mask_b` bool
    `[batch, height / 8, width / 8]`, True for cells of the picture, False for padding, all picture
    if left out.

    Outputs, a dict: `points_a`, `points_b` float32 `[batch, matches, 2]`, (x, y) in pixels;
    `scores` float32 `[batch, matches]`, the confidence, falling; `is_match` bool
    `[batch, matches]`: the rest is zeros. `matches` is `max_matches` or, if less, the cells of a.
    A match is a pair of mutually nearest cells whose confidence is above the threshold, both
    `border` cells inside their pictures. Cell (row, column) stands for pixel (8 · row, 8 · column);
    points of a are such pixels.

    Also `confidence` float32 `[batch, cells_a, cells_b]`, cells row by row, 0 for padding. It takes
    4 · cells_a · cells_b bytes a pair and thrice that while it is computed (see
    `lingxi.layers.dual_softmax`): 92 MB for 640x480. `return_confidence=False` leaves it out and
    finds the same matches in blocks of at most 64 MiB.

    For training, the parts: `features`, `confidence`, `refine`.
    """

    config_class = LoftrConfig
    presets = {
        # Sun et al. 2021, section 3.5 and the released code; and sizes for CPUs
        "loftr_base": LoftrConfig(),
        "loftr_small": LoftrConfig(
            backbone_dims=(64, 96, 128), num_layers=3, num_heads=4, num_fine_heads=4
        ),
        "loftr_tiny": LoftrConfig(
            backbone_dims=(16, 32, 64), num_layers=2, num_heads=2, num_fine_heads=1
        ),
    }
    layouts = {"loftr": loftr_checkpoint.LAYOUT}

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        c, dtype = config, self.dtype_policy
        self.backbone = ResnetFpn(c.backbone_dims, dtype=dtype, name="backbone")
        self.position = SinusoidalPosition2D(
            c.hidden_dim, c.precedence_slip, dtype=dtype, name="position"
        )
        self.transformer = PairTransformer(
            c.num_heads, c.num_layers, c.norm_epsilon, dtype=dtype, name="transformer"
        )
        if c.num_fine_layers:
            self.context_dense = Dense(c.fine_dim, dtype=dtype, name="context")
            self.window_dense = Dense(c.fine_dim, dtype=dtype, name="window")
            self.fine_transformer = PairTransformer(
                c.num_fine_heads,
                c.num_fine_layers,
                c.norm_epsilon,
                dtype=dtype,
                name="fine_transformer",
            )
        self.build()

    def build(self, inputs_shape=None):
        c = self.config
        self.backbone.build((None, None, None, 1))
        self.transformer.build((None, None, c.hidden_dim))
        if c.num_fine_layers:
            self.context_dense.build((None, c.hidden_dim))
            self.window_dense.build((None, 2 * c.fine_dim))
            self.fine_transformer.build((None, c.window_size**2, c.fine_dim))
        self.built = True

    def __call__(self, inputs, *args, **kwargs):
        """As in Keras, after a look at the inputs.

        Raises:
            ValueError: images or masks of wrong shapes or types; what is accepted is said.
        """
        self._check(inputs)
        return super().__call__(inputs, *args, **kwargs)

    @classmethod
    def from_preset(cls, name, load_weights=True, dtype=None, config=None):
        """A model from a preset.

        Args:
            name: as of `Backbone.from_preset`; or a file with the tensors of a PyTorch LoFTR, the
                original's (`loftr_outdoor.ckpt`) or kornia's: `.ckpt`, `.pth`, `.pt`, `.bin`
                (`torch.load(weights_only=True)`), `.safetensors`, `.npz`.
            load_weights: False for random weights.
            dtype: a Keras dtype policy.
            config: a `LoftrConfig`, for such a file only. By default it is read from the shapes of
                the tensors, and what these do not tell is as in the released "outdoor" and
                "indoor" weights ("indoor_ds_new": `precedence_slip=False`).

        Raises:
            As `Backbone.from_preset`.
        """
        path = pathlib.Path(name).expanduser()
        if not path.is_file():
            if config is not None:
                raise ValueError(f"{name} is not a file of tensors, so it has a config of its own")
            return super().from_preset(name, load_weights, dtype)
        config = config or LoftrConfig(**loftr_checkpoint.read_fields(path))
        if not load_weights:
            return cls(config, dtype=dtype)
        return cls.load(config, loftr_checkpoint.LAYOUT, path, dtype)

    def call(
        self,
        inputs,
        training=None,
        max_matches=None,
        threshold=None,
        return_confidence=True,
    ):
        """Match. `max_matches` and `threshold` replace those of the config."""
        c = self.config
        threshold = c.threshold if threshold is None else threshold
        features = self.features(inputs, training=training)
        mask_a = self._mask(inputs, "mask_a", features["fine_a"])
        mask_b = self._mask(inputs, "mask_b", features["fine_b"])
        outputs = {}
        if return_confidence:
            outputs["confidence"] = self.confidence(features, mask_a, mask_b)
            nearest, best, is_mutual = mutual_nearest(outputs["confidence"])
        else:
            nearest, best, is_mutual = mutual_nearest_blockwise(
                *self._similar(features, mask_a, mask_b)
            )

        inside_b = pick(inside_border(mask_b, c.border), nearest)
        inside = ops.logical_and(inside_border(mask_a, c.border), inside_b)
        is_match = ops.logical_and(ops.logical_and(is_mutual, best > threshold), inside)
        best = ops.where(is_match, best, 0.0)  # [batch, cells_a]
        scores, cells_a = ops.top_k(best, least(max_matches or c.max_matches, ops.shape(best)[1]))
        cells_b = pick(nearest, cells_a)
        is_match = scores > 0

        points_a = self._points(cells_a, ops.shape(mask_a)[2])
        points_b = self._points(cells_b, ops.shape(mask_b)[2])
        if c.num_fine_layers:
            points_b = points_b + self._offsets(features, cells_a, cells_b, is_match)
        shown = ops.cast(ops.expand_dims(is_match, -1), "float32")
        return {
            **outputs,
            "points_a": points_a * shown,
            "points_b": points_b * shown,
            "scores": scores,
            "is_match": is_match,
        }

    def features(self, inputs, training=None):
        """What cells and windows are compared by.

        Args:
            inputs: as of the model.

        Returns:
            A dict: `coarse_a`, `coarse_b` `[batch, cells, hidden_dim]`, row by row, after the
            attention; `fine_a`, `fine_b` `[batch, height / 2, width / 2, fine_dim]`.
        """
        image_a, image_b = inputs["image_a"], inputs["image_b"]
        if image_a.shape[1:] == image_b.shape[1:] and None not in image_a.shape[1:]:
            both = ops.concatenate([image_a, image_b], axis=0)  # and one batch for the statistics
            coarse, fine = self.backbone(both, training=training)
            coarse_a, coarse_b = ops.split(coarse, 2, axis=0)
            fine_a, fine_b = ops.split(fine, 2, axis=0)
        else:
            coarse_a, fine_a = self.backbone(image_a, training=training)
            coarse_b, fine_b = self.backbone(image_b, training=training)

        coarse_a, coarse_b = self._cells(coarse_a), self._cells(coarse_b)
        mask_a = _flat(inputs.get("mask_a"))
        mask_b = _flat(inputs.get("mask_b"))
        coarse_a, coarse_b = self.transformer(coarse_a, coarse_b, mask_a, mask_b)
        return {"coarse_a": coarse_a, "coarse_b": coarse_b, "fine_a": fine_a, "fine_b": fine_b}

    def confidence(self, features, mask_a=None, mask_b=None):
        """`[batch, cells_a, cells_b]` of the `features`; masks as in the inputs of the model."""
        return dual_softmax(*self._similar(features, mask_a, mask_b))

    def refine(self, features, cells_a, cells_b, training=None):
        """Where in b, near the pixel of a cell, the pixel of a cell of a is.

        Args:
            features: what `features` returns.
            cells_a, cells_b: int `[batch, matches]`, row · columns + column.

        Returns:
            A dict, in pixels: `offset` float32 `[batch, matches, 2]`, (x, y) from the pixel of the
            cell of b, at most `config.window_radius` (4) in each direction, to which the paper
            normalizes its loss; `std` float32 `[batch, matches]`, the standard deviations of x and
            y added up.

        Raises:
            ValueError: a coarse model, which has no refinement.
        """
        c = self.config
        if not c.num_fine_layers:
            raise ValueError("this model has num_fine_layers=0: it is coarse, without refinement")
        window_a = self._windows(features["fine_a"], features["coarse_a"], cells_a)
        window_b = self._windows(features["fine_b"], features["coarse_b"], cells_b)
        window_a, window_b = self.fine_transformer(window_a, window_b)

        centre = ops.take(window_a, [c.window_size**2 // 2], axis=1)  # [batch * matches, 1, fine]
        centre, window_b = ops.cast(centre, "float32"), ops.cast(window_b, "float32")
        scores = ops.sum(centre * window_b, axis=-1) * c.fine_dim**-0.5
        mean, deviation = expectation_2d(ops.softmax(scores, axis=-1))
        batch, matches = ops.shape(cells_a)
        return {
            "offset": ops.reshape(mean, (batch, matches, 2)) * c.fine_stride,
            "std": ops.reshape(deviation, (batch, matches)) * c.fine_stride,
        }

    def _offsets(self, features, cells_a, cells_b, is_match):
        """The `offset` of `refine`, chunk by chunk as long as there are matches; then zeros."""
        batch, matches = ops.shape(cells_a)
        chunk = least(CHUNK, matches)
        count = ops.max(ops.sum(ops.cast(is_match, "int32"), axis=1))  # matches come first

        def refine_chunk(start, offsets):
            here = ops.minimum(start, matches - chunk)  # the last overlaps the one before
            parts = (ops.slice(cells, (0, here), (batch, chunk)) for cells in (cells_a, cells_b))
            offset = self.refine(features, *parts)["offset"]
            return start + chunk, ops.slice_update(offsets, (0, here, 0), offset)

        offsets = ops.zeros((batch, matches, 2), "float32")
        return ops.while_loop(lambda start, _: start < count, refine_chunk, (0, offsets))[1]

    def _windows(self, fine, coarse, cells):
        """`W [window, U coarse]`: `[batch * matches, window_size², fine_dim]`."""
        c = self.config
        windows = windows_2d(fine, cells, c.window_size, FINE_CELLS)
        context = ops.expand_dims(self.context_dense(pick(coarse, cells)), 2)
        windows = ops.concatenate([windows, ops.broadcast_to(context, ops.shape(windows))], axis=-1)
        return self.window_dense(ops.reshape(windows, (-1, c.window_size**2, 2 * c.fine_dim)))

    def _cells(self, coarse):
        """The cells of a map with their places, `[batch, cells, hidden]`."""
        batch, height, width, dim = ops.shape(coarse)
        return ops.reshape(coarse + self.position(coarse), (batch, height * width, dim))

    def _similar(self, features, mask_a, mask_b):
        """The arguments of `dual_softmax`."""
        coarse_a, coarse_b = features["coarse_a"], features["coarse_b"]
        return coarse_a, coarse_b, self.config.temperature, _flat(mask_a), _flat(mask_b)

    def _mask(self, inputs, name, fine):
        """`[batch, rows, columns]` of the inputs, or all True."""
        if inputs.get(name) is not None:
            return ops.cast(inputs[name], "bool")
        batch, height, width, _ = ops.shape(fine)
        return ops.ones((batch, height // FINE_CELLS, width // FINE_CELLS), "bool")

    def _points(self, cells, columns):
        """Pixels (x, y) of cells: float32 `[batch, matches, 2]`."""
        places = ops.stack([cells % columns, cells // columns], axis=-1)
        return ops.cast(places * self.config.stride, "float32")

    def _check(self, inputs):
        stride, batches = self.config.stride, set()
        for side in "ab":
            image, mask = inputs.get(f"image_{side}"), inputs.get(f"mask_{side}")
            if image is None:
                raise ValueError(f"no image_{side} among the inputs {', '.join(inputs)}")
            shape = tuple(image.shape)
            if len(shape) != 4 or shape[-1] != 1:
                raise ValueError(
                    f"image_{side} has shape {shape}; accepted: [batch, height, width, 1], grey"
                )
            if any(length is not None and (length % stride or not length) for length in shape[1:3]):
                raise ValueError(
                    f"image_{side} is {shape[1]} pixels high and {shape[2]} wide; both must be "
                    f"multiples of {stride}: pad it below and on the right, and give mask_{side}"
                )
            if "float" not in keras.backend.standardize_dtype(image.dtype):
                raise ValueError(
                    f"image_{side} has type {image.dtype}; accepted: floats in [0, 1] "
                    "(divide bytes by 255)"
                )
            batches.add(shape[0])
            if mask is None:
                continue
            cells = (shape[0], *(length and length // stride for length in shape[1:3]))
            known = zip(cells, mask.shape, strict=False)
            same = all(a == b or None in (a, b) for a, b in known)  # None: not known in a graph
            if len(mask.shape) != 3 or not same:
                raise ValueError(
                    f"mask_{side} has shape {tuple(mask.shape)}, but image_{side} has cells of "
                    f"shape {cells}; they must be equal, with True for cells of the picture"
                )
        if len(batches - {None}) > 1:
            raise ValueError(
                f"image_a has a batch of {inputs['image_a'].shape[0]}, image_b one of "
                f"{inputs['image_b'].shape[0]}; image i of the one is matched with i of the other"
            )


def _flat(mask):
    """A mask `[batch, rows, columns]` as bool `[batch, cells]`."""
    if mask is None:
        return None
    batch, rows, columns = ops.shape(mask)
    return ops.cast(ops.reshape(mask, (batch, rows * columns)), "bool")
