import signal

import pytest

from pipeline.system import interruption


@pytest.fixture(autouse=True)
def nothing_requested():
    yield
    interruption.forget()


def ask():
    interruption.request(signal.SIGTERM, None)


def test_a_request_raises_at_once_and_is_remembered():
    interruption.check()
    with pytest.raises(KeyboardInterrupt):
        ask()
    with pytest.raises(KeyboardInterrupt):
        interruption.check()


def asked_in_a_step(times, done):
    with interruption.between_steps():
        for _ in range(times):
            ask()
            done.append("the step's rest")
        interruption.check()
        done.append("the next step")


def test_between_steps_it_waits_for_the_end_of_the_step():
    done = []
    with pytest.raises(KeyboardInterrupt):
        asked_in_a_step(1, done)
    assert done == ["the step's rest"]


def test_a_second_request_raises_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt):
        asked_in_a_step(3, done)
    assert done == ["the step's rest"]  # the second of three


def test_a_request_after_the_last_step_is_not_lost_and_later_ones_raise_at_once_again():
    with pytest.raises(KeyboardInterrupt), interruption.between_steps():
        ask()
    interruption.forget()
    with pytest.raises(KeyboardInterrupt):
        ask()
