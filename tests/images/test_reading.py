"""Pictures of every kind become the same grey numbers; what is none is a clear error."""

import numpy as np
import pytest
import tensorflow as tf

from lingxi.images import files_in, read

GREY = (np.arange(20 * 24).reshape(20, 24, 1) % 256).astype("uint8")


def png(array):
    return tf.io.encode_png(array).numpy()


def test_a_path_its_bytes_an_array_and_a_pil_image_are_the_same(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    path = tmp_path / "grey.png"
    path.write_bytes(png(GREY))
    expected = GREY / np.float32(255)
    for picture in (path, str(path), path.read_bytes(), GREY, GREY[..., 0], tf.constant(GREY)):
        np.testing.assert_allclose(read(picture), expected, atol=1e-7)
    np.testing.assert_allclose(read(pil.open(path)), expected, atol=1e-7)
    assert read(path).dtype == np.float32


def test_sixteen_bits_keep_their_precision(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    fine = (np.arange(20 * 24).reshape(20, 24, 1) + 30000).astype("uint16")
    path = tmp_path / "fine.png"
    path.write_bytes(png(fine))
    for picture in (path, fine, pil.open(path)):
        np.testing.assert_allclose(read(picture), fine / 65535, atol=1e-7)


def test_colours_are_weighed_and_transparency_is_white():
    red = np.zeros((16, 16, 3), "uint8")
    red[..., 0] = 255
    assert read(red)[0, 0, 0] == pytest.approx(0.299)
    assert read(png(red))[0, 0, 0] == pytest.approx(0.299)
    for channels in (2, 4):
        half = np.zeros((16, 16, channels), "uint8")
        half[:, 8:, -1] = 255
        for picture in (half, png(half)):
            assert read(picture)[0, 0, 0] == 1.0
            assert read(picture)[0, 15, 0] == 0.0


def test_a_palette_of_pil_is_read_as_its_colours():
    pil = pytest.importorskip("PIL.Image")
    image = pil.fromarray(GREY[..., 0]).convert("P")
    assert np.abs(read(image) - GREY / 255).max() < 0.01


def test_jpeg_and_bool():
    contents = tf.io.encode_jpeg(np.full((16, 32, 3), 128, "uint8")).numpy()
    assert read(contents).shape == (16, 32, 1)
    assert read(contents)[0, 0, 0] == pytest.approx(128 / 255, abs=0.01)
    assert read(np.ones((16, 16), bool)).min() == 1.0


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "half.png"
    path.write_bytes(png(GREY)[:60])
    with pytest.raises(ValueError, match=r"half.png' is damaged or of no known type"):
        read(path)
    with pytest.raises(ValueError, match="damaged or of no known type"):
        read(b"no picture")
    with pytest.raises(ValueError, match="damaged or of no known type"):
        read(b"")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing.png")


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (np.zeros((15, 40), "uint8"), ValueError, "40 × 15 pixels; at least 16"),
        (np.zeros((0, 40), "uint8"), ValueError, "at least 16"),
        (np.zeros((20, 20, 5), "uint8"), ValueError, r"got shape \(20, 20, 5\)"),
        (np.zeros((2, 20, 20, 3), "uint8"), ValueError, "1 to 4 channels"),
        (np.full((20, 20), 255.0), ValueError, "floats from 255 to 255"),
        (np.full((20, 20), np.nan), ValueError, "must be from 0 to 1"),
        (np.zeros((20, 20), "int64"), TypeError, "must be uint8, uint16, bool or float"),
        (None, TypeError, "got NoneType"),
        (7, TypeError, "got int"),
    ],
)
def test_what_is_no_picture_is_an_error(picture, error, message):
    with pytest.raises(error, match=message):
        read(picture)


def test_the_pictures_of_a_folder(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("b.PNG", "below/a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(png(GREY))
    assert [path.name for path in files_in(tmp_path)] == ["b.PNG", "a.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no \.bmp, \.gif"):
        files_in(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no folder"):
        files_in(tmp_path / "nowhere")
