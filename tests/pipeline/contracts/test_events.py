import signal

import pytest

from pipeline.contracts.events import ActionEvents, Advanced, Warned
from pipeline.system import interruption


def test_events_carry_the_action_s_id():
    heard = []
    events = ActionEvents("prune", heard.append)
    events.advanced(1, 4, "group 1/4")
    events.warned("took 0.29")
    assert heard == [Advanced("prune", 1, 4, "group 1/4"), Warned("prune", "took 0.29")]


def test_a_stage_that_tells_of_its_progress_can_be_interrupted_there():
    heard = []
    with pytest.raises(KeyboardInterrupt):
        interruption.request(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        ActionEvents("prune", heard.append).advanced(1, 4, "group 1/4")
    interruption.forget()
    assert heard == []
