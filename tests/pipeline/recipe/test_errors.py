import pytest

from pipeline.recipe.errors import nearest


@pytest.mark.parametrize(
    ("old", "new", "what", "where", "hint"),
    [
        ("ratio: 0.5", "raito: 0.5", "prune.raito: unknown key", ":11:13   stages[1].prune.raito", "nearest is ratio"),
        ("ratio: 0.5", "ratio: 1.5", "prune.ratio: 1.5", ":11:13   stages[1].prune.ratio", None),
        ("ratio: 0.5", 'ratio: "0.5"', 'prune.ratio: "0.5"', ":11:13", None),
        ("ratio: 0.5", "ratio: .nan", "prune.ratio: NaN", ":11:13", None),
        ("epochs: 1", "epochs: one", "finetune.epochs: ", ":12:16", None),
        ("  - strip", "  - stirp", "no stage is called 'stirp'", ":13:5   stages[3]", "nearest is strip"),
        ("seed: 3", "seed: no", 'seed: "no"', ":2:1   seed", None),
        ("seed: 3", "seeed: 3", "seeed: unknown key", ":2:1   seeed", "nearest is seed"),
        ("source: npz", "source: nzp", 'data.source: "nzp" is not allowed', ":5:3", "nearest is npz; allowed: 'csv'"),
        ("path: data.npz\n", "path: data.npz\n  tset: test\n", "data.tset: unknown key", ":7:3", "nearest are test"),
        (
            "[float32, int8]",
            "[float32, int9]",
            'quantize.schemes[1]: "int9" is not allowed',
            ":14:35",
            "nearest is int8",
        ),
        ("[float32, int8]", "[]", "quantize.schemes", ":14:16", None),
        ("[float32, int8]", "int8", 'quantize.schemes: "int8": a list is needed', ":14:16", 'write ["int8"]'),
        ("  - strip", "  - strip: 3", "strip: 3: a map of settings is needed", ":13:5", "{key: value}"),
        ("max: 0.5", "mxa: 0.5", "gates[0]", ":19:", None),
        ("max: 0.5", "min: -.inf", "gates[0].min", ":19:", None),
        ("name: small", "name: ../up", "name: ", ":1:1", None),
        ("seed: 3", "Seed: 3", "Seed: unknown key", ":2:1   Seed", "seed"),
        ("seed: 3", '"a.b": 3', "a.b: unknown key", ":2:1", None),
        ("path: data.npz", "path: 5", "data.path: 5: text is needed", ":6:3   data.path", 'write "5"'),
        ("control: true", "control: {narow: true}", "control.narow: unknown key", ":8:11", "nearest is narrow"),
        ("control: true", "control: {source_epochs: 3}", "source_epochs is for narrow: true", ":8:1   control", None),
        ("control: true", "control: {narrow: 1}", "control.narrow: 1", ":8:11   control.narrow", None),
        ("control: true", "control: no", 'control: "no"', ":8:1   control", None),
        ("epochs: 1", "epochs: 99999999999999999999", "is larger than any setting takes", ":12:16", None),
        ("threads", "threads", "", "", None),
    ],
)
def test_mistakes_are_named_with_their_place(recipe_file, old, new, what, where, hint, refused):
    if old == "threads":  # a missing key has no separate place
        old, new, what, where = "model: model.keras\n", "", "model: is missing", "recipe.yaml"
    error = refused(recipe_file, (old, new))
    assert what in error.what
    assert where in error.where
    if hint:
        assert hint in error.hint
    assert error.exit_code == 2


def test_of_many_names_the_first_are_told_if_none_is_near():
    assert nearest("zzz", ["aa", "bb"]) == "known: aa, bb"
    assert nearest("zzz", [f"n{number}" for number in range(14)]).endswith("n11 and 2 more")
