import signal

from stages.formats.apart.ending import described

LOG = """\
a warning of some library
Fatal Python error: Segmentation fault

Current thread 0x00007f (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 9 in wait
  File "/env/site-packages/tensorflow/lite/python/optimize/calibrator.py", line 3 in quantize
  File "/env/site-packages/tensorflow/lite/python/lite.py", line 5 in convert
"""


def test_the_first_frame_of_known_software_is_named_with_its_function():
    found = described(-signal.SIGSEGV, None, LOG, ["said in silence"])
    assert found.who == "TensorFlow's quantizer of TFLite files (in quantize)"
    assert "SIGSEGV: it touched memory that is not its own" in found.how
    assert found.said.splitlines() == ["a warning of some library", "said in silence"]  # not Python's own words


def test_without_such_a_frame_it_is_the_process():
    found = described(-signal.SIGKILL, None, "", [])
    assert found.who == "the process that runs outside software"
    assert "as the system does where memory runs out" in found.how
    assert found.said == ""


def test_a_reason_of_ours_and_a_plain_exit_are_told_as_they_are():
    assert described(-signal.SIGKILL, "took too long", "", []).how == "took too long"
    assert ":" not in described(3, None, "", []).how
    assert "3" in described(3, None, "", []).how
