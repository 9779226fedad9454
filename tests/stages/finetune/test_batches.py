import numpy as np

from stages.finetune.batches import training_batches, validation_batches


def test_each_epoch_visits_every_sample_once_in_an_order_of_its_own(pair):
    train, _ = pair()
    batches = list(training_batches(train, 16, seed=1, first_epoch=0, epochs=2))
    assert [len(labels) for _, labels in batches] == [16, 16, 16, 16, 6] * 2
    epochs = [np.concatenate([np.asarray(x) for x, _ in batches[i : i + 5]]) for i in (0, 5)]
    assert not np.array_equal(epochs[0], epochs[1])
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch.sum((1, 2, 3))), np.sort(train.x.sum((1, 2, 3))))
    later = next(iter(training_batches(train, 16, seed=1, first_epoch=1, epochs=2)))
    assert np.array_equal(later[0], batches[5][0])


def test_the_seed_of_a_batch_is_its_own_and_the_same_after_a_resume(pair):
    train, _ = pair()

    def seeds(first_epoch, seed=1):
        kept = training_batches(train, 16, seed, first_epoch, 2, transform=lambda batch_seed, x, y: (batch_seed, y))
        return [tuple(np.asarray(batch_seed)) for batch_seed, _ in kept]

    assert len(set(seeds(0))) == 10
    assert seeds(1) == seeds(0)[5:]
    assert not set(seeds(0, seed=2)) & set(seeds(0))


def test_validation_is_in_stored_order(pair):
    _, validation = pair()
    labels = np.concatenate([np.asarray(y) for _, y in validation_batches(validation, 16)])
    assert np.array_equal(labels, validation.y)


def test_several_inputs_go_by_name(samples):
    x = {"left": np.ones((5, 3), np.float32), "right": np.arange(5, dtype=np.int32)[:, None]}
    split = samples("train", x, np.arange(5, dtype=np.uint8))
    for batches in (training_batches(split, 5, 0, 0, 1), validation_batches(split, 5)):
        inputs, labels = next(iter(batches))
        assert np.array_equal(np.asarray(inputs["right"])[:, 0], labels)
        assert labels.dtype == np.int64
        assert inputs["left"].shape == (5, 3)


def test_numbers_and_several_labels_are_float32_and_no_labels_are_none(pair):
    for task, parts in (("regression", 2), ("multilabel", 2), ("unlabelled", 1)):
        for batches, split in zip(
            (training_batches(pair(task)[0], 16, 0, 0, 1), validation_batches(pair(task)[1], 16)),
            pair(task),
            strict=True,
        ):
            batch = next(iter(batches))
            assert len(batch) == parts
            if parts == 2:
                assert batch[1].dtype == np.float32
                assert batch[1].shape[1:] == split.y.shape[1:]
