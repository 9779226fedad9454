import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe


def loaded(recipe_file, *replace, overrides=()):
    return Recipe.load(recipe_file(replace=replace), overrides)


def refusal(recipe_file, *replace, overrides=()):
    with pytest.raises(RecipeError) as caught:
        loaded(recipe_file, *replace, overrides=overrides)
    return caught.value


@pytest.fixture
def load():
    """Load the recipe with these replacements and overrides."""
    return loaded


@pytest.fixture
def refused():
    """Return the error with which the recipe is refused."""
    return refusal
