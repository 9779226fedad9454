from threadpoolctl import threadpool_info, threadpool_limits

from stages.keras.regression.one_thread import one_blas_thread


def threads():
    import numpy as np

    np.eye(2) @ np.eye(2)  # so that NumPy's library is loaded
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_products_take_one_thread_meanwhile():
    with threadpool_limits(2, user_api="blas"):
        assert threads() == {2}
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == {2}
