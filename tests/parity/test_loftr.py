"""LoFTR against kornia on PyTorch, and a real coarse model against its own ONNX file."""

import copy

import numpy as np
import pytest

from lingxi.zoo import Loftr
from tests.parity.conftest import NO_REFERENCE

pytestmark = pytest.mark.parity

TOLERANCE = 1e-4  # of features and confidences; of places, in pixels, 1e-3


@pytest.fixture(scope="module")
def kornia():
    pytest.importorskip("torch", reason=NO_REFERENCE)
    return pytest.importorskip("kornia", reason=NO_REFERENCE)


class Reference:
    """kornia's LoFTR with random weights, and what its parts gave at the last call."""

    def __init__(self, kornia, dims=(128, 196, 256), layers=4, slip=True, seed=0):
        import torch
        from kornia.feature.loftr.loftr import default_cfg

        config = copy.deepcopy(default_cfg)
        config["resnetfpn"] = {"initial_dim": dims[0], "block_dims": list(dims)}
        config["coarse"] |= {"d_model": dims[2], "d_ffn": dims[2], "nhead": dims[2] // 32}
        config["coarse"] |= {"layer_names": ["self", "cross"] * layers, "temp_bug_fix": not slip}
        config["fine"] |= {"d_model": dims[0], "d_ffn": dims[0], "nhead": max(1, dims[0] // 16)}
        config["match_coarse"] |= {"thr": 0.0}
        torch.manual_seed(seed)
        self.model = kornia.feature.LoFTR(pretrained=None, config=config).eval()
        with torch.no_grad():
            for name, value in self.model.state_dict().items():  # norms start at 0 and 1
                if name.endswith("running_var"):
                    value.uniform_(0.7, 1.3)
                elif value.ndim == 1:
                    value.add_(torch.randn_like(value) * 0.05)
        self.seen = {}
        for name in ("backbone", "loftr_coarse", "loftr_fine"):
            getattr(self.model, name).register_forward_hook(
                lambda module, given, made, name=name: self.seen.update({name: made})
            )
        self.model.coarse_matching.register_forward_hook(
            lambda module, given, made: self.seen.update(confidence=given[2]["conf_matrix"])
        )

    def save(self, path):
        import safetensors.torch

        safetensors.torch.save_file(self.model.state_dict(), path)
        return path

    def __call__(self, inputs):
        """`{point of a: (point of b, score)}` of one pair, by our names of the inputs."""
        import torch

        given = {}
        for side, index in (("a", 0), ("b", 1)):
            image = inputs[f"image_{side}"].transpose(0, 3, 1, 2)
            given[f"image{index}"] = torch.tensor(image)
            if f"mask_{side}" in inputs:
                mask = inputs[f"mask_{side}"].repeat(8, axis=1).repeat(8, axis=2)
                given[f"mask{index}"] = torch.tensor(mask)
        with torch.no_grad():
            made = self.model(given)
        points = zip(
            made["keypoints0"].tolist(),
            made["keypoints1"].numpy(),
            made["confidence"].numpy(),
            strict=True,
        )
        return {tuple(a): (b, score) for a, b, score in points}


def matches(outputs):
    real = np.asarray(outputs["is_match"])[0]
    a, b, scores = (
        np.asarray(outputs[name])[0][real] for name in ("points_a", "points_b", "scores")
    )
    return {tuple(p): (q, s) for p, q, s in zip(a.tolist(), b, scores, strict=True)}


def compare(model, reference, inputs, assert_near):
    """Every stage of one pair; the number of matches."""
    theirs = reference(inputs)
    seen = reference.seen
    ours = model(inputs, threshold=0.0)
    features = model.features(inputs)
    same_size = inputs["image_a"].shape == inputs["image_b"].shape
    if same_size:  # kornia then runs its backbone once
        both = np.concatenate([inputs["image_a"], inputs["image_b"]])
        for name, mine, other in zip(
            ("coarse", "fine"), model.backbone(both), seen["backbone"], strict=True
        ):
            other = other.numpy().transpose(0, 2, 3, 1)
            assert_near(f"{name} map", mine, other, TOLERANCE)
    for side, other in zip("ab", seen["loftr_coarse"], strict=True):
        real = inputs.get(f"mask_{side}", np.ones(1, bool)).reshape(-1)
        other, mine = other.numpy()[0], np.asarray(features[f"coarse_{side}"])[0]
        real = np.broadcast_to(real, len(other))
        assert_near("coarse features", mine[real], other[real], TOLERANCE)
    assert_near("confidence", ours["confidence"], seen["confidence"].numpy(), TOLERANCE)

    found = matches(ours)
    if "mask_a" in inputs or "mask_b" in inputs:  # kornia leaves no border beside the padding
        assert set(found) <= set(theirs)
    else:
        assert set(found) == set(theirs)
    for point, (place, score) in found.items():
        assert_near("places, pixels", place, theirs[point][0], 1e-3)
        assert_near("scores", score, theirs[point][1], TOLERANCE)
    return len(found)


def grey(data_path, name, size, box=None):
    """A photograph, or a part of it, `[1, height, width, 1]`."""
    from PIL import Image

    with Image.open(data_path(f"images/{name}")) as image:
        image = image.convert("L").resize(size, box=box)
    return np.asarray(image, "float32")[np.newaxis, :, :, np.newaxis] / 255


def random_pair(size_a, size_b, seed=0):
    generator = np.random.default_rng(seed)
    return {
        f"image_{side}": generator.random((1, *size, 1)).astype("float32")
        for side, size in zip("ab", (size_a, size_b), strict=True)
    }


def test_the_published_configuration_on_photographs(kornia, data_path, tmp_path, assert_near):
    reference = Reference(kornia)
    model = Loftr.from_preset(reference.save(tmp_path / "loftr.safetensors"))
    wanted = sum(p.numel() for p in reference.model.parameters())
    assert model.config.num_parameters == wanted == 11_561_456
    found = 0
    for name, size, box in (
        ("camera.png", (160, 120), (20, 30, 480, 470)),
        ("coffee.png", (96, 128), (40, 0, 560, 400)),
    ):
        pair = {
            "image_a": grey(data_path, name, size),
            "image_b": grey(data_path, name, size, box),
        }
        found += compare(model, reference, pair, assert_near)
    assert found >= 10


SMALL = {
    "with the slip": {"dims": (16, 24, 32), "layers": 1},
    "places of the paper": {"dims": (32, 48, 64), "layers": 2, "slip": False},
}


@pytest.mark.parametrize("name", SMALL)
def test_random_images_of_several_sizes(name, kornia, tmp_path, assert_near):
    reference = Reference(kornia, **SMALL[name])
    path = reference.save(tmp_path / "loftr.safetensors")
    model = Loftr.from_preset(path)
    if "slip" in SMALL[name]:
        config = model.config.__class__(**vars(model.config) | {"precedence_slip": False})
        model = Loftr.from_preset(path, config=config)
    found = 0
    sizes = [((64, 64), (64, 64)), ((48, 120), (72, 56)), ((8, 48), (40, 40)), ((88, 56), (88, 56))]
    for seed, (size_a, size_b) in enumerate(sizes):
        found += compare(model, reference, random_pair(size_a, size_b, seed), assert_near)
    assert found >= 8


def test_padded_images(kornia, tmp_path, assert_near):
    reference = Reference(kornia, dims=(16, 24, 32), layers=2)
    model = Loftr.from_preset(reference.save(tmp_path / "loftr.safetensors"))
    pair = random_pair((80, 96), (96, 80))
    pair["mask_a"], pair["mask_b"] = np.ones((1, 10, 12), bool), np.ones((1, 12, 10), bool)
    pair["mask_a"][:, 8:] = pair["mask_b"][:, :, 8:] = False
    assert compare(model, reference, pair, assert_near)


def test_statistics_of_the_batch_while_training(kornia, tmp_path, assert_near):
    import torch

    reference = Reference(kornia, dims=(16, 24, 32), layers=1)
    model = Loftr.from_preset(reference.save(tmp_path / "loftr.safetensors"))
    images = random_pair((64, 64), (64, 64))["image_a"]
    reference.model.backbone.train()
    with torch.no_grad():
        theirs = reference.model.backbone(torch.tensor(images.transpose(0, 3, 1, 2)))
    for ours, other in zip(model.backbone(images, training=True), theirs, strict=True):
        assert_near("maps in training", ours, other.numpy().transpose(0, 2, 3, 1), TOLERANCE)
    mean = reference.model.backbone.layer3[1].bn2.running_mean.numpy()
    ours = np.asarray(model.backbone.stages[2][1].second.norm.moving_mean)
    assert_near("remembered means", ours, mean, TOLERANCE)


def test_kornia_loads_what_lingxi_saves(kornia, tmp_path, assert_near):
    import safetensors.torch

    reference = Reference(kornia, dims=(16, 24, 32), layers=1)
    model = Loftr.from_preset(reference.save(tmp_path / "loftr.safetensors"))
    model.save_preset(tmp_path / "saved")
    again = Reference(kornia, dims=(16, 24, 32), layers=1, seed=1)
    saved = safetensors.torch.load_file(tmp_path / "saved" / "model.safetensors")
    missing, unexpected = again.model.load_state_dict(saved, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    compare(model, again, random_pair((64, 64), (64, 64)), assert_near)


def test_real_coarse_weights_on_photographs(data_path, assert_near):
    onnxruntime = pytest.importorskip("onnxruntime", reason=NO_REFERENCE)
    folder = data_path("loftr_coarse")
    session = onnxruntime.InferenceSession(folder / "LoFTR_teacher.onnx")
    model = Loftr.from_preset(folder / "LoFTR_teacher.npz")
    size = (640, 480)  # what the ONNX file takes
    pairs = {
        "camera": (
            grey(data_path, "camera.png", size),
            grey(data_path, "camera.png", size, (20, 30, 480, 470)),
        ),
        "Boston": (
            grey(data_path, "homographies/BostonA.jpg", size),
            grey(data_path, "homographies/BostonB.jpg", size),
        ),
        "unrelated": (grey(data_path, "coffee.png", size), grey(data_path, "rocket.jpg", size)),
    }
    count = {}
    for name, (a, b) in pairs.items():
        theirs, _ = session.run(
            None, {"img0": a.transpose(0, 3, 1, 2), "img1": b.transpose(0, 3, 1, 2)}
        )
        ours = model({"image_a": a, "image_b": b})
        assert_near("confidence", ours["confidence"], theirs, TOLERANCE)
        count[name] = len(matches(ours))
    assert count["camera"] > 50
    assert count["Boston"] > 20
    assert count["unrelated"] == 0
