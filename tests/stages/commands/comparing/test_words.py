from stages.commands.comparing.words import basis, both, bound, changed, headline, remarks, sentence


def test_numbers_of_rounds_are_ratios_with_intervals_and_others_are_changes(make_report):
    (pair,) = make_report("regression").pairs
    latency, accuracy, memory = pair.metrics
    said = [(changed(one), both(one), bound(one), basis(one)) for one in (latency, accuracy, memory)]
    assert said == [
        ("1.083 [1.071, 1.094]", "0.031 → 0.034 ms", "≤ 1.05", "10 rounds"),
        ("-0.40 points", "88.40 → 88.00 %", "≥ -1 points", "exact"),
        ("1.000 [1.000, 1.000]", "1.0 MB = 1.0 MB", "", "10 rounds"),
    ]
    size = accuracy.model_copy(update={"metric": "size", "unit": "bytes", "change": 0.0784, "estimated": True})
    assert (changed(size), bound(size), basis(size)) == ("+7.84 %", "≤ +1 %", "estimate")
    assert changed(size.model_copy(update={"change": 0.0})) == "equal"


def test_a_sentence_stands_alone_and_the_headline_counts(make_report):
    report = make_report("regression")
    (pair,) = report.pairs
    assert sentence(pair, pair.metrics[0]) == (
        "tflite/int8 latency@cpu: 1.083 [1.071, 1.094] (0.031 → 0.034 ms), allowed ≤ 1.05; 10 rounds"
    )
    assert headline(report) == "REGRESSION  3f2a → 77ab: 1 of 2 worse"
    assert headline(make_report("ok")) == "ok  3f2a → 77ab: 2 of 2 within tolerance"
    assert headline(make_report("inconclusive")) == "inconclusive  3f2a → 77ab: 1 of 2 can't be told"


def test_remarks_are_of_what_is_judged_and_of_what_is_not_compared(make_report):
    assert remarks(make_report("ok")) == [
        "tflite/int8 latency@cpu: noise floor 0.6 % (one model against itself, 95 of 100 times)",
        "tflite/int8 latency@cpu: rounds that stand apart, and count: 10 (×1.500)",
        "not compared: onnx/int8: only in 3f2a",
    ]
