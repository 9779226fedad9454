from pipeline.running.run import _let_go


def test_an_error_that_is_its_own_cause_is_let_go():
    error = ValueError("of outside software")
    error.__cause__ = error
    _let_go(error)
    assert error.__traceback__ is None
