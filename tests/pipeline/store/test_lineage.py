from pipeline.records.manifest import ActionRecord
from pipeline.store.lineage import digests_named, makers


def test_the_maker_of_an_artifact_is_not_the_stage_that_passed_it_on(store, record):
    made = record(store)
    (artifact,) = made.outputs
    passing = made.action.model_copy(update={"stage": "strip", "inputs": {"model": artifact.digest}})
    fields = dict(made) | {"action": passing, "key": passing.key}
    store.records.put(ActionRecord.sealed(**{name: value for name, value in fields.items() if name != "seal"}))
    assert len(list(store.records.keys())) == 2
    assert makers(store) == {artifact.digest: (made, artifact)}


def test_first_digits_name_all_digests_that_begin_with_them():
    digests = [f"sha256:{begin}{'0' * 58}" for begin in ("abcdef", "abcd00", "123456")]
    assert digests_named("abcd", digests) == sorted(digests[:2])
    assert digests_named("sha256:abcde", digests) == digests[:1]
    assert digests_named("abc", digests) == digests_named("ffff", digests) == []
