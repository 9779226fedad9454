import numpy as np
import pytest

from pipeline.errors import DataError, RecipeError, StageError

PYTHON = {"source": "python", "function": "mine:load", "test": "test"}


@pytest.fixture
def module(tmp_path):
    def write(body, name="mine"):
        (tmp_path / f"{name}.py").write_text(f"import numpy as np\n{body}\n")
        return tmp_path

    return write


LOAD = "def load(split):\n    return np.arange(12.0).reshape(6, 2) + len(split), np.arange(6) % 2"


def test_the_function_gives_each_split_by_name(module, source):
    data = source(module(LOAD), **PYTHON)
    assert data.split("test").inputs()[0].tolist() == [4, 5]
    assert len(data.split("train")) + len(data.split("validation")) == 6
    assert data.split("train").inputs().min() >= 5


def test_several_inputs_and_no_targets(module, source):
    body = "def load(split):\n    return {'a': np.zeros((4, 2)), 'b': np.ones((4, 3), np.uint8)}"
    split = source(module(body), **PYTHON).split("test")
    assert (split.input_names, split.input_shapes(), split.task) == (("a", "b"), ((2,), (3,)), "unlabelled")


def test_the_digest_is_of_the_arrays_not_of_the_code(module, source):
    digest = source(module(LOAD), **PYTHON).digest("test")
    assert source(module(f"# words\n{LOAD}"), **PYTHON).digest("test") == digest
    assert source(module(LOAD.replace("+ len", "- len")), **PYTHON).digest("test") != digest
    assert source(module(LOAD.replace("% 2", "% 3")), **PYTHON).digest("test") != digest
    transposed = LOAD.replace("reshape(6, 2)", "reshape(6, 2).copy(order='F')")
    assert source(module(transposed), **PYTHON).digest("test") == digest


def test_what_lies_beside_it_can_be_imported_and_nothing_stays_on_the_path(module, source):
    import sys

    module("VALUE = 3", "beside_mine")
    folder = module("from beside_mine import VALUE\ndef load(split):\n    return np.full((2, 1), VALUE)")
    assert source(folder, **PYTHON).split("test").inputs().tolist() == [[3], [3]]
    assert str(folder) not in sys.path


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("def other(split): ...", RecipeError, "has no function load"),
        ("raise ValueError('no')", StageError, r"mine.py failed: ValueError: no \(mine.py:2\)$"),
        (
            "def load(split):\n    return 1 / 0",
            DataError,
            r"ZeroDivisionError: division by zero \(mine.py:3, in load\)$",
        ),
        ("import sys\ndef load(split):\n    sys.exit(0)", DataError, r"SystemExit: 0 \(mine.py:4, in load\)$"),
        (
            "def load(split):\n    return np.load('no.npy')",
            DataError,
            r"FileNotFoundError: .*'no.npy' \(mine.py:3, in load\)$",
        ),
        (
            "def f():\n    raise KeyError\ndef load(split):\n    f()",
            DataError,
            r"failed: KeyError \(mine.py:3, in f\)$",
        ),
        (
            "def load(split):\n    return 1 +",
            StageError,
            r"mine.py failed: SyntaxError: invalid syntax .*\(mine.py:3\)$",
        ),
        ("def load(split):\n    return [1, 2]", DataError, "gave inputs as a list: numpy arrays with a row a sample"),
        ("def load(split):\n    return None", DataError, "gave inputs as a NoneType"),
        ("def load(split):\n    return np.ones(3), [1, 2, 3]", DataError, "gave targets as a list"),
        ("def load(split):\n    return np.float32(1), None", DataError, "gave inputs as a float32"),
        ("def load(split):\n    return {}", DataError, "gave no inputs"),
        ("def load(split):\n    return np.zeros(3), np.zeros(4)", DataError, "numbers of samples: inputs 3, targets 4"),
        ("def load(split):\n    return np.array(['a'])", DataError, "inputs that are not numbers: <U1"),
    ],
)
def test_functions_that_give_nothing_are_named(module, source, body, error, words):
    with pytest.raises(error, match=words) as caught:
        source(module(body), **PYTHON).digest("test")
    assert caught.value.where.endswith("/mine.py")


def test_a_module_that_is_not_there_is_named(source, tmp_path):
    with pytest.raises(RecipeError, match="can't be read"):
        source(tmp_path, **PYTHON).digest("test")


def test_arrays_may_lie_in_a_file(module, source, tmp_path):
    np.save(tmp_path / "big.npy", np.arange(20.0).reshape(10, 2))
    body = f"def load(split):\n    return np.load({str(tmp_path / 'big.npy')!r}, mmap_mode='r')"
    split = source(module(body), **PYTHON).split("test")
    assert isinstance(split.x, np.memmap)
    assert split.take(np.array([9]))[0].tolist() == [[18, 19]]


def test_targets_by_output(module, source):
    body = "def load(split):\n    return np.ones((4, 2)), {'kind': np.arange(4) % 2, 'level': np.arange(4) / 4}"
    data = source(module(body), **PYTHON)
    split = data.split("test")
    assert (split.task, split.y["level"].tolist()) == ({"kind": "classes", "level": "regression"}, [0, 0.25, 0.5, 0.75])
    digest = data.digest("test")
    assert source(module(body.replace("/ 4}", "/ 8}")), **PYTHON).digest("test") != digest
    with pytest.raises(DataError, match="samples: inputs 4, targets kind 4, targets level 3"):
        source(module(body.replace("np.arange(4) / 4", "np.ones(3)")), **PYTHON).split("test")
