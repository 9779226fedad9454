from pipeline.recipe.model_spec import Application, ModelFiles
from pipeline.recipe.recipe import Recipe


def test_an_application_is_a_model(recipe_file, load):
    text = "{application: Xception, weights: null, include_top: false, input_shape: [96, 96, 3], head: {classes: 10}}"
    model = load(recipe_file, ("model.keras", text)).model
    assert isinstance(model, Application)
    assert (model.head.classes, model.input_shape) == (10, (96, 96, 3))


def test_the_three_forms(recipe_file):
    forms = ("model.keras", "{path: model.keras}", "{application: Xception}")
    found = [Recipe.load(recipe_file(replace=[("model.keras", form)])).model for form in forms]
    assert [type(model) for model in found[1:]] == [ModelFiles, Application]
    assert found[2].weights == "imagenet"
