import numpy as np
import pytest

from pipeline.data.images import CHECKED_AT_A_TIME, ImageForm, ImageSamples
from pipeline.errors import DataError


@pytest.fixture
def samples(image):
    """Serve gray pictures of the values 0, 1, 2 …, except for those in `broken`."""

    def make(count, broken=()):
        def read(indices):
            return [b"no picture" if index in broken else image(index) for index in indices]

        form = ImageForm((3, 4), "nearest", 1)
        return ImageSamples(count, read, lambda index: f"{index}.png", form, "folder", threads=0)

    return make


def test_pictures_are_decoded_by_slices_and_by_indices(samples):
    found = samples(5)
    assert (found.shape, len(found), found[:].shape) == ((5, 3, 4, 1), 5, (5, 3, 4, 1))
    assert found[1:3][:, 0, 0, 0].tolist() == [1, 2]
    assert found[np.array([4, 0])][:, 2, 3, 0].tolist() == [4, 0]


def test_those_that_do_not_decode_are_named_and_the_others_are_read(samples):
    last = CHECKED_AT_A_TIME + 1
    found = samples(last + 1, broken=(1, last))
    assert found[2:4][:, 0, 0, 0].tolist() == [2, 3]
    with pytest.raises(DataError, match=r"1 of 2 images that were read can't be decoded: 1\.png \(") as caught:
        found[1:3]
    assert caught.value.where == "folder"
    undecodable = found.undecodable(np.arange(len(found)))
    assert list(undecodable) == [1, last]
    assert undecodable[last].startswith(f"{last}.png (")
