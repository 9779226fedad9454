from pipeline.data.table import first_of, train_first


def test_three_are_named_and_the_rest_is_counted():
    failures = {index: f"{index}.png (why)" for index in range(5)}
    assert first_of(failures) == "0.png (why), 1.png (why), 2.png (why), and 2 more"
    assert first_of({7: "7.png (why)"}) == "7.png (why)"


def test_train_comes_before_other_splits():
    assert train_first({"test", "a", "train"}) == ["train", "a", "test"]
