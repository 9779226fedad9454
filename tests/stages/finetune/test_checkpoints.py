import numpy as np
import pytest

from stages.finetune.checkpoints import Checkpoint, Checkpoints


def saved(folder, bests):
    kept = Checkpoints(folder)
    for epoch, best in enumerate(bests, start=1):
        arrays = {"weight-0": np.full(3, epoch, np.float32), "optimizer-0": np.int64(epoch)}
        kept.save(Checkpoint(epoch, best, {"lr": 0.1 * epoch}, arrays))
    return kept


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_read_is_what_was_saved(tmp_path):
    latest = saved(tmp_path, [1, 2, 2]).latest()
    assert (latest.epoch, latest.best, latest.state) == (3, 2, {"lr": pytest.approx(0.3)})
    assert latest.arrays["weight-0"].tolist() == [3, 3, 3]
    assert latest.arrays["weight-0"].dtype == np.float32
    assert latest.arrays["optimizer-0"] == 3


@pytest.mark.parametrize(
    ("bests", "epochs"),
    [
        ([1], [1]),
        ([None, None, None], [2, 3]),
        ([1, 2, 3], [2, 3]),
        ([1, 1, 1, 1], [1, 3, 4]),
        ([1, 2, 2, 4], [2, 3, 4]),
    ],
)
def test_the_last_two_and_their_best_are_kept(tmp_path, bests, epochs):
    saved(tmp_path, bests)
    assert files(tmp_path) == [f"epoch-{epoch:05d}.checkpoint" for epoch in epochs]


def damages(data):
    """Yield data cut anywhere, with a bit flipped anywhere, empty, longer than it was."""
    middle = len(data) // 2
    yield from (data[:0], data[:40], data[:middle], data[:-1], data + b"x")
    for place in (0, 80, middle, len(data) - 1):
        yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path):
    kept = saved(tmp_path, [1, 2, 3])
    path = tmp_path / "epoch-00003.checkpoint"
    whole = path.read_bytes()
    for data in damages(whole):
        path.write_bytes(data)
        assert kept.latest().epoch == 2
    path.unlink()
    assert kept.latest().epoch == 2
    path.write_bytes(whole)
    assert kept.latest().epoch == 3
    path.rename(tmp_path / "epoch-00007.checkpoint")  # a whole one, of another epoch than its name says
    assert kept.latest().epoch == 2


def test_without_its_best_a_checkpoint_is_of_no_use(tmp_path):
    kept = saved(tmp_path, [1, 2, 3, 3])
    (tmp_path / "epoch-00003.checkpoint").write_bytes(b"")
    assert kept.latest() is None


def test_after_a_fall_back_the_damaged_one_is_written_anew_and_nothing_needed_is_removed(tmp_path):
    saved(tmp_path, [1, 1, 1, 4])
    (tmp_path / "epoch-00004.checkpoint").write_bytes(b"cut")
    again = Checkpoints(tmp_path)
    latest = again.latest()
    assert (latest.epoch, latest.best) == (3, 1)
    again.save(Checkpoint(4, 4, {}, {"weight-0": np.zeros(1)}))
    assert files(tmp_path) == [f"epoch-{epoch:05d}.checkpoint" for epoch in (1, 3, 4)]
    again.save(Checkpoint(5, 4, {}, {"weight-0": np.zeros(1)}))
    assert files(tmp_path) == [f"epoch-{epoch:05d}.checkpoint" for epoch in (4, 5)]


def test_what_would_need_unpickling_is_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        Checkpoints(tmp_path).save(Checkpoint(1, 1, {}, {"weight-0": np.array([object()])}))
    assert files(tmp_path) == []


def test_what_is_no_checkpoint_is_passed_over_and_a_folder_in_place_of_one_is_replaced(tmp_path):
    kept = saved(tmp_path, [1, 2])
    for name in ("epoch-x.checkpoint", "epoch-.checkpoint", "epoch-00003.checkpoint.bak", "epoch-\u00b2.checkpoint"):
        (tmp_path / name).write_text("x")
    folder = tmp_path / "epoch-00003.checkpoint"
    (folder / "inside").mkdir(parents=True)
    assert kept.latest().epoch == 2
    kept.save(Checkpoint(3, 3, {}, {"weight-0": np.zeros(1)}))
    assert folder.is_file()
    assert kept.latest().epoch == 3
