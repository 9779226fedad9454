"""Check the table of graph nodes: each names a public function, its arguments, and the node's names for them."""

import inspect
import operator

import pytest

from pipeline.errors import SecateurError
from stages.keras.tensorflow import import_tensorflow
from stages.load.code import refuse_code
from stages.load.raw_operations import NODES


@pytest.mark.parametrize("kind", sorted(NODES))
def test_functions_take_what_the_table_gives_them(kind):
    tf = import_tensorflow()
    path, *words = NODES[kind].split()
    parameters = list(inspect.signature(operator.attrgetter(path)(tf)).parameters)
    targets = [word.partition("=")[0].partition(":")[0] for word in words]
    assert set(targets) <= set(parameters), parameters
    assert parameters[0] in targets  # tf_keras records a call by its first argument
    assert hasattr(tf.raw_ops, kind), "there is no such node"


def test_what_is_written_may_be_loaded_again():
    """A stored model is a file like any other: what the table makes is what `code` lets in."""
    tf = import_tensorflow()
    from tensorflow.python.util.tf_export import get_canonical_name_for_symbol
    from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

    for words in NODES.values():
        function = operator.attrgetter(words.split()[0])(tf)
        symbol = get_canonical_name_for_symbol(function, add_prefix_to_v1_names=True)
        config = {"name": "x", "function": symbol}
        entry = {"class_name": "TFOpLambda", "config": config}
        refuse_code({"config": {"layers": [entry]}}, "m.keras")  # raises where it is refused
        made = TFOpLambda.from_config(config).function
        assert get_canonical_name_for_symbol(made, add_prefix_to_v1_names=True) == symbol


def test_other_functions_of_tensorflow_may_not():
    config = {"class_name": "TFOpLambda", "config": {"name": "x", "function": "io.write_file"}}
    with pytest.raises(SecateurError, match=r"io\.write_file"):
        refuse_code({"config": {"layers": [config]}}, "m.keras")
