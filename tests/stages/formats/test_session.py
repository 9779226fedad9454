"""Feed files in their own types and batches: numbers are rounded, clipped and padded, and come back as they were."""

import numpy as np
import pytest

from stages.formats.session import content_of, dequantized, in_batches, quantized, random_feeds

INT8 = {"quantization": (0.5, -3), "dtype": np.int8}
FLOAT = {"quantization": (0.0, 0), "dtype": np.float32}


def test_numbers_are_rounded_to_steps_and_clipped_to_the_type():
    stored = quantized(np.float32([0, 0.74, 0.76, 1e6, -1e6]), INT8)
    assert (stored.dtype, stored.tolist()) == (np.int8, [-3, -2, -1, 127, -128])
    back = dequantized(stored[:3], INT8)
    assert (back.dtype, back.tolist()) == (np.float32, [0, 0.5, 1])


def test_numbers_of_float_files_stay_and_what_comes_out_is_a_copy():
    values = np.float64([[1.5, -2]]).T
    assert quantized(values, FLOAT).dtype == np.float32
    assert quantized(values, FLOAT).flags.c_contiguous
    memory = np.float32([1, 2])
    found = dequantized(memory, FLOAT)
    memory[:] = 9
    assert found.tolist() == [1, 2]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_samples_are_run_in_batches_of_one_size_and_padding_is_dropped(size):
    sizes = []

    def run(batch):
        sizes.append(len(batch["x"]))
        return {"y": batch["x"] * 2}

    x = np.arange(7)
    np.testing.assert_array_equal(in_batches(run, {"x": x}, size)["y"], x * 2)
    assert set(sizes) == {size}


def test_random_inputs_have_the_ports_shapes_and_open_sizes_are_asked_for():
    ports = [("image", (None, None, 3), "float32"), ("word", (None,), "int64")]
    feeds = random_feeds(ports, {"image": (2, 8, 3)})
    assert {name: (array.shape, array.dtype.name) for name, array in feeds.items()} == {
        "image": ((2, 8, 3), "float32"),
        "word": ((1,), "int64"),
    }
    assert set(feeds["word"]) <= {0, 1}
    np.testing.assert_array_equal(feeds["image"], random_feeds(ports, {"": (2, 8, 3)})["image"])
    for shapes in ({}, {"image": (2, 8)}, {"image": (2, 8, 4)}):
        with pytest.raises(ValueError, match=r"--shape image=\?,\?,3"):
            random_feeds(ports, shapes)


def test_a_model_is_bytes_or_a_path(tmp_path):
    (tmp_path / "m").write_bytes(b"abc")
    assert content_of(tmp_path / "m") == content_of(b"abc") == b"abc"
