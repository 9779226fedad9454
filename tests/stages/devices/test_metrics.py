from stages.devices.metrics import INSTRUCTION_RATIO, INSTRUCTIONS, LATENCY, LATENCY_RATIO, TIMED, ratio_of


def test_the_ratio_of_a_main_number_is_the_one_that_is_declared_of_it():
    assert ratio_of(LATENCY.name, TIMED) == LATENCY_RATIO
    assert ratio_of(INSTRUCTIONS.name, (INSTRUCTIONS, INSTRUCTION_RATIO)) == INSTRUCTION_RATIO
    assert ratio_of(INSTRUCTIONS.name, TIMED) is None
    assert ratio_of(None, TIMED) is None
