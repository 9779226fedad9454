from pipeline.contracts.shared import Shared


class Kept:
    def __init__(self):
        self.models = {}


def test_each_class_has_one_object_in_a_run_and_another_in_the_next():
    run = Shared()
    run.of(Kept).models["a"] = 1
    assert run.of(Kept).models == {"a": 1}
    assert run.of(dict) == {}
    assert Shared().of(Kept).models == {}
