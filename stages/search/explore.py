"""Propose candidates with Optuna, and keep what became of them in its storage, so that a killed study goes on.

With an accuracy to keep, the tree-structured Parzen estimator minimizes the cost under that constraint (Bergstra et
al., 2011), and Hyperband (arXiv:1603.06560) gives up candidates after their first level: levels are its resource.
Without one there are two objectives, and NSGA-II (Deb et al., 2002) looks for their front.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import StoreError, first_line
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.search_spec import Interval, SearchSpec
from pipeline.records.keys import digest_of
from pipeline.records.values import Json
from pipeline.store import Store
from stages.search.goal import Goal
from stages.search.space import Dimension, Space
from stages.search.trial import Trial

if TYPE_CHECKING:
    import optuna

LEVELS = 3
TRIAL, SPENT = "trial", "seconds"
STARTUP = 6  # candidates at random before the estimator proposes


class Explorer:
    """Wrap one study of Optuna. Choices are stored as JSON, since Optuna takes only numbers and text."""

    def __init__(self, storage: str, name: str, space: Space, goal: Goal, seed: int) -> None:
        self._space, self._goal = space, goal
        self._asked: dict[int, optuna.trial.Trial] = {}
        self._study = _opened(storage, name, goal, seed)
        for left in self._study.get_trials(deepcopy=False):
            if left.state.name == "RUNNING":  # by a study that was killed: its results are in the store
                self._study.tell(left.number, state=_state("FAIL"))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Return all candidates that ended, in the order in which they were proposed."""
        kept = (frozen.user_attrs.get(TRIAL) for frozen in self._study.get_trials(deepcopy=False))
        return tuple(Trial.model_validate_json(text) for text in kept if text is not None)

    @property
    def spent_s(self) -> float:
        """Return for how long earlier parts of the study ran."""
        return float(self._study.user_attrs.get(SPENT, 0.0))

    def spend(self, seconds: float) -> None:
        """Keep for how long the study has run."""
        self._study.set_user_attr(SPENT, seconds)

    def ask(self, why: str, budget: float | Interval, settings: Mapping[str, Json] | None = None) -> Trial:
        """Return a new candidate: of these settings, or of those that the sampler proposes near a budget."""
        bounds = budget if isinstance(budget, Interval) else self._space.bounds
        if settings is not None:
            self._study.enqueue_trial({**{k: _stored(v) for k, v in settings.items()}, self._space.budget: budget})
        asked = self._study.ask()
        self._asked[asked.number] = asked
        chosen: dict[str, Json] = {self._space.budget: _suggested(asked, self._space.budget, bounds)}
        for key, dimension in self._space.dimensions.items():
            chosen[key] = _suggested(asked, key, dimension)
        return Trial.model_validate({"number": asked.number, "settings": {**self._space.fixed, **chosen}, "why": why})

    def gives_up(self, trial: Trial, score: float) -> bool:
        """Report a candidate's score at its level; return whether it should go no further."""
        if self._goal.max_drop is None:
            return False
        asked = self._asked[trial.number]
        asked.report(score, len(trial.reached))
        return bool(asked.should_prune())

    def tell(self, trial: Trial, share: float | None, drop: float | None, most: float | None) -> None:
        """Keep a candidate that ended, and let the sampler learn what it costs, loses, and may lose at `most`."""
        asked = self._asked.pop(trial.number)
        asked.set_user_attr(TRIAL, trial.model_dump_json())
        if share is None or drop is None:
            self._study.tell(asked, state=_state("FAIL"))
            return
        if most is not None:
            asked.set_constraint("drop", drop - most)
        if trial.ended == "pruned":
            self._study.tell(asked, state=_state("PRUNED"))
        else:
            self._study.tell(asked, share if self._goal.max_drop is not None else (share, drop))


def study_name(recipe: Recipe, spec: SearchSpec, keys: Sequence[str]) -> str:
    """Return the name of a study in its storage: it is another one if the recipe or what is looked for changes.

    `keys` are those of the yardstick: a changed model, data or version begins another study too.
    """
    what = [recipe.digest, spec.model_dump(mode="json"), list(keys)]
    return f"{recipe.name}-{digest_of('study', what)[-12:]}"


def storage_in(store: Store, name: str) -> str:
    """Return the URL of a study's storage in a store, which is made."""
    store.create()
    return f"sqlite:///{store.root / 'studies' / f'{name}.db'}"


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Return the storage at a URL, with its tables; StoreError if it can't be used."""
    from optuna.storages import get_storage

    try:
        with reaching(url):
            return get_storage(url)
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None) or "its driver"
        raise _unreachable(
            url, f"{missing} is not installed", "install a package that has it beside secateur"
        ) from error
    except (RuntimeError, ValueError) as error:  # of another release of Optuna; of a kind that it knows no more
        raise _unreachable(url, first_line(str(error))) from error


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Raise StoreError, without the URL's password, where the database at it fails."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        raise _unreachable(url, first_line(str(getattr(cause, "orig", None) or cause))) from error


def _unreachable(
    url: str, why: str, hint: str = "check the URL; the same command goes on where this one ended"
) -> StoreError:
    return StoreError(f"the study's database can't be used: {why}", where=_without_password(url), hint=hint)


def _opened(storage: str, name: str, goal: Goal, seed: int) -> optuna.Study:
    import optuna

    opened = open_storage(storage)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler: Any
    pruner: Any
    if goal.max_drop is None:
        sampler = optuna.samplers.NSGAIISampler(population_size=2 * STARTUP, seed=seed)
        directions, pruner = ["minimize", "minimize"], optuna.pruners.NopPruner()
    else:
        sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
        directions = ["minimize"]
        pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=LEVELS, reduction_factor=3)
    with reaching(storage):
        return optuna.create_study(
            storage=opened, study_name=name, sampler=sampler, pruner=pruner, directions=directions, load_if_exists=True
        )


def _state(name: str) -> Any:
    import optuna

    return optuna.trial.TrialState[name]


def _stored(value: Json) -> str:
    return json.dumps(value, sort_keys=True)


def _suggested(asked: Any, key: str, dimension: Dimension) -> Json:
    """Return a value of a dimension: a number of an interval, or one of its choices."""
    if not isinstance(dimension, Interval):
        return json.loads(asked.suggest_categorical(key, [_stored(choice) for choice in dimension]))
    numbers = (dimension.low, dimension.high, dimension.step or 1)
    if all(isinstance(number, int) for number in numbers):
        return asked.suggest_int(key, dimension.low, dimension.high, step=dimension.step or 1, log=dimension.log)
    value = asked.suggest_float(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
    return round(value, 4)


def _without_password(storage: str) -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return str(make_url(storage).render_as_string(hide_password=True))
    except ArgumentError:
        return storage
