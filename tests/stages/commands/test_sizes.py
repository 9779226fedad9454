import pytest

from pipeline.errors import RecipeError
from stages.commands.sizes import read_sizes


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        (None, None),
        ((), None),
        (("64",), 64),
        (("64,48",), (64, 48)),
        (("image=64,48", "words=20"), {"image": (64, 48), "words": 20}),
    ],
)
def test_sizes_are_those_of_a_recipe(texts, sizes):
    assert read_sizes(texts) == sizes


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("64x48",), "'64x48' are not sizes"),
        (("0",), "'0' are not sizes"),
        (("64", "image=48"), "sizes are said twice"),
    ],
)
def test_what_are_no_sizes_is_refused(texts, words):
    with pytest.raises(RecipeError, match=words) as caught:
        read_sizes(texts)
    assert caught.value.where == "--sizes"
