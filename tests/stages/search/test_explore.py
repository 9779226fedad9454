from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import StoreError
from pipeline.recipe.search_spec import Interval
from stages.search.explore import Explorer, open_storage, reaching, study_name
from stages.search.space import Space

SPACE = Space(
    "stages.prune.macs",
    Interval(low=0.1, high=0.9),
    {
        "stages.finetune.epochs": (2, 4),
        "stages.prune.measure_on": ({"target": "cpu"}, None),
        "seed": Interval(low=1, high=9),
    },
    {"stages.prune.params": None},
    {"stages.finetune.epochs": 2, "stages.prune.measure_on": None, "seed": 3},
)


@pytest.fixture
def open_study(tmp_path, goal):
    def make(**changed):
        return Explorer(f"sqlite:///{tmp_path / 'study.db'}", "s", SPACE, replace(goal, **changed), 7)

    return make


def test_settings_come_back_as_they_were_asked_for(open_study):
    asked = open_study().ask("border", 0.4, SPACE.usual)
    assert asked.settings == {**SPACE.fixed, **SPACE.usual, "stages.prune.macs": 0.4}
    assert (asked.number, asked.why, asked.ended) == (0, "border", "running")


def test_what_is_proposed_stays_in_its_bounds(open_study):
    study = open_study()
    for _ in range(8):
        settings = study.ask("explored", Interval(low=0.3, high=0.5)).settings
        assert 0.3 <= settings["stages.prune.macs"] <= 0.5
        assert settings["stages.finetune.epochs"] in (2, 4)
        assert settings["stages.prune.measure_on"] in ({"target": "cpu"}, None)
        assert settings["seed"] in range(1, 10)


def test_a_study_that_is_opened_again_knows_what_ended_and_drops_what_ran(open_study, trial):
    study = open_study()
    done, lost = study.ask("border", 0.4, SPACE.usual), study.ask("border", 0.3, SPACE.usual)
    reached = trial(0, 0.4, fitted=0.8).reached
    kept = done.model_copy(update={"reached": reached, "ended": "done"})
    study.tell(kept, 0.4, 0.1, 0.01)
    study.spend(12.5)
    again = open_study()
    assert again.trials == (kept,)
    assert again.spent_s == 12.5
    assert again.ask("border", 0.2, SPACE.usual).number == lost.number + 1


@pytest.mark.parametrize(("lost", "most"), [(0.02, 0.01), (0.008, 0.004)])
def test_the_sampler_learns_where_the_goal_is_met(open_study, lost, most):
    study, proposed = open_study(), []
    for _ in range(30):
        asked = study.ask("explored", SPACE.bounds)
        share = asked.settings["stages.prune.macs"]
        proposed.append(share)
        study.tell(asked.model_copy(update={"ended": "done"}), share, lost if share < 0.5 else 0.0, most)
    early, late = proposed[:10], proposed[-10:]
    assert sum(abs(share - 0.5) for share in late) < sum(abs(share - 0.5) for share in early)


def test_hopeless_candidates_are_given_up_and_only_under_a_goal(open_study, trial):
    reached = trial(0, 0.4, fitted=0.8).reached

    def given_up(study):
        found = []
        for number in range(16):
            asked = study.ask("explored", SPACE.bounds).model_copy(update={"reached": reached})
            score = 0.5 if number % 2 else 5.0
            gives_up = study.gives_up(asked, score)
            study.tell(asked.model_copy(update={"ended": "pruned" if gives_up else "done"}), score, 0.0, 0.01)
            found.append((score, gives_up))
        return found

    under_goal = given_up(open_study())
    assert {score for score, gives_up in under_goal if gives_up} == {5.0}


def test_without_a_goal_nothing_is_given_up(open_study, trial):
    study = open_study(max_drop=None)
    asked = study.ask("explored", SPACE.bounds).model_copy(update={"reached": trial(0, 0.4, fitted=0.8).reached})
    assert not study.gives_up(asked, 9.0)
    study.tell(asked.model_copy(update={"ended": "done"}), 0.5, 0.01, None)
    assert len(study.trials) == 1


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("sqlite:////nowhere/at/all/s.db", "unable to open database file"),
        ("no url", "Could not parse SQLAlchemy URL"),
        ("redis://user:secret@localhost/1", "RedisStorage is removed"),
        ("mysql+cymysql://user:secret@localhost/studies", "cymysql is not installed"),
        ("unheard://user:secret@localhost/1", "Can't load plugin"),
    ],
)
def test_a_database_that_can_not_be_used_is_told_without_its_password(url, what):
    with pytest.raises(StoreError, match="the study's database can't be used") as caught:
        open_storage(url)
    assert what in caught.value.what
    assert "secret" not in str(caught.value)


def test_a_database_that_goes_away_ends_the_study_with_an_error_that_names_it(open_study, tmp_path):
    study, url = open_study(), f"sqlite:///{tmp_path / 'study.db'}"
    (tmp_path / "study.db").write_bytes(b"")  # all tables are gone
    with pytest.raises(StoreError, match="no such table") as caught, reaching(url):
        study.ask("explored", SPACE.bounds)
    assert caught.value.where == url


def test_another_model_or_data_or_goal_is_another_study(searched):
    recipe = searched("{constraints: {accuracy_drop: 0.02}}")
    name = study_name(recipe, recipe.search, ("a", "b"))
    assert name.startswith("small-")
    assert study_name(recipe, recipe.search, ("a", "b")) == name
    assert study_name(recipe, recipe.search, ("a", "c")) != name
    other = recipe.search.model_copy(update={"constraints": {"accuracy_drop": 0.5}})
    assert study_name(recipe, other, ("a", "b")) != name
