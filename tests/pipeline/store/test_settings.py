import pytest

from pipeline.errors import RecipeError
from pipeline.store.choice import Limits
from pipeline.store.settings import GcSettings, settings_file, user_settings


@pytest.fixture
def write(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def write(text):
        settings_file().parent.mkdir(parents=True, exist_ok=True)
        settings_file().write_text(text)

    return write


def test_without_a_file_nothing_is_automatic(write):
    assert user_settings().gc == GcSettings(automatic=False, max_size=None, keep_days=None)


def test_sizes_have_units(write):
    write("gc: {automatic: true, max_size: 20GB, keep_days: 14}")
    assert user_settings().gc == GcSettings(automatic=True, max_size=20_000_000_000, keep_days=14)


@pytest.mark.parametrize(("text", "what"), [("gc: {max_size: big}", "gc.max_size"), ("gc: {size: 1}", "gc.size")])
def test_a_mistake_is_told_with_its_place(write, text, what):
    write(text)
    with pytest.raises(RecipeError, match=what) as caught:
        user_settings()
    assert "settings.yaml:1" in caught.value.where


def test_a_limit_that_is_given_replaces_the_settings_and_none_at_all_means_30_days():
    settings = GcSettings(max_size=1000, keep_days=7)
    assert settings.limits() == Limits(7, 1000)
    assert settings.limits(max_size=5) == Limits(None, 5)
    assert settings.limits(keep_days=5) == Limits(5, None)
    assert GcSettings().limits() == Limits(30, None)
