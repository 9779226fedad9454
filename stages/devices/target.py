"""Targets: what a benchmark runs on, found by name, and the three things that can be asked of one.

A target is a small YAML file, `kind: …` and that kind's settings; what drives a kind is a class in the entry-point
group `secateur.targets`. Targets whose numbers are times give a Measurement of one fresh process (`measure`); the
others give numbers that repeat exactly, or nearly, and that are no times (`count`). Whatever a process does on its
target (crash, hang, print nonsense), what comes back is a result or a DeviceError that names the artifact.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import platformdirs
from pydantic import ValidationError

from pipeline.contracts.discovery import target_drivers
from pipeline.errors import DeviceError, RecipeError
from pipeline.recipe.errors import nearest, validate
from pipeline.recipe.yaml_source import Source, read_yaml
from pipeline.records.artifacts import Kind
from pipeline.records.schemes import Quantization
from pipeline.records.values import Value
from pipeline.reports.command_lines import secateur
from pipeline.system.processes import TIMEOUT_S, Ended, last_lines, require_success, run_process

if TYPE_CHECKING:  # pydantic takes 5 ms to build them, and a fingerprint needs none
    from stages.devices.counts import Counts
    from stages.devices.measurement import Measurement

BUILTIN = Path(__file__).parent / "builtin"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one process takes its samples: at least `min_iterations` of them, and for `seconds`.

    `shapes` are for inputs of free size: `NAME=1,224,224,3`, or `1,224,224,3` whatever the input is called.
    """

    seconds: float = 0.1
    threads: int = 1
    seed: int = 0
    min_iterations: int = 20
    warmup: int = 5
    shapes: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """The runner's options."""
        return [
            *("--seconds", repr(self.seconds), "--threads", str(self.threads), "--seed", str(self.seed)),
            *("--min-iterations", str(self.min_iterations), "--warmup", str(self.warmup)),
            *(word for shape in self.shapes for word in ("--shape", shape)),
        ]


PROBING = Sampling(seconds=0.005, min_iterations=30)  # of each of some hundred small models in one process


class TargetSettings(Value):
    """What every kind of target has beside its own settings."""

    kind: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A target with its settings; `file` is where they stand."""

    name: str
    kind: str
    settings: Any
    file: Path

    @property
    def driver(self) -> TimingDriver | CountingDriver:
        """What drives its kind."""
        return target_drivers()[self.kind]()  # type: ignore[no-any-return]

    def refuses(self, how: Quantization) -> str | None:
        """Why it can't take files that were quantized so, or None."""
        driver = self.driver
        return driver.refuses(how) if isinstance(driver, ChoosingDriver) else None

    @property
    def counts(self) -> bool:
        """Whether its numbers are counts or estimates, and not times."""
        return isinstance(self.driver, CountingDriver)

    @property
    def takes_shapes(self) -> bool:
        """Whether free sizes of inputs can be chosen on it."""
        return not self.counts or isinstance(self.driver, ShapingDriver)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The flat metrics that a benchmark on it can have."""
        return self.driver.metrics

    @property
    def shadow(self) -> str | None:
        """A warning where it takes the place of a built-in target; else None."""
        if self.file.parent == BUILTIN or not (BUILTIN / self.file.name).is_file():
            return None
        return f"target {self.name} is {self.file}, not the built-in one: rename the file if that is not meant"

    @property
    def set_up_command(self) -> str:
        """What gets it ready, to be printed; with its folder where it would not be found from this one."""
        found = next((path for place in _places(Path()) if (path := place / self.file.name).is_file()), None)
        here = found is not None and found.resolve() == self.file.resolve()
        return secateur("target", "setup", self.name, *(() if here else ("--folder", self.file.parent)))

    @property
    def formats(self) -> tuple[Kind, ...]:
        """The kinds of artifacts that it takes."""
        return self.driver.formats


class Driver(Protocol):
    """What drives a kind of target; each is a TimingDriver or a CountingDriver."""

    settings: ClassVar[type[TargetSettings]]
    metrics: ClassVar[tuple[str, ...]]
    formats: ClassVar[tuple[Kind, ...]]

    def fingerprint(self, target: Target) -> dict[str, str]:
        """What its numbers depend on as a device. Cheap, offline; DeviceError where set-up is needed first."""

    def set_up(self, target: Target, say: Say) -> None:
        """Get ready, and record what was found; `say` hears what is going on."""


CostUnit = Literal["instructions", "nanoseconds"]


@dataclass(frozen=True, slots=True)
class Probed:
    """What one inference of each model of an archive cost in one process."""

    runtime: str
    costs: tuple[float, ...]


@runtime_checkable
class ProbingDriver(Driver, Protocol):
    """Drives what can go through an archive of small models in one process."""

    cost_unit: ClassVar[CostUnit]

    def probe(self, target: Target, archive: Path, name: str, options: Sequence[str] = ()) -> Probed:
        """The models of a zip file, in order; `options` are more of the runner's."""

    def document(self, target: Target, model: Path, options: Sequence[str], name: str) -> dict[str, Any]:
        """What the runner prints of a model there, with these options."""


class TimingDriver(Driver, Protocol):
    """Drives what has a clock that means something."""

    def measure(self, target: Target, model: Path, sampling: Sampling, name: str, timeout_s: float) -> Measurement:
        """One fresh process with one model."""


@runtime_checkable
class CountingDriver(Driver, Protocol):
    """Drives what counts or estimates."""

    def count(self, target: Target, model: Path, name: str) -> Counts:
        """What is counted or estimated of one model."""


@runtime_checkable
class ChoosingDriver(Driver, Protocol):
    """Drives what can't compute every scheme rightly."""

    def refuses(self, how: Quantization) -> str | None:
        """Why files that were quantized so are not for it, or None; asked before anything runs."""


@runtime_checkable
class ShapingDriver(CountingDriver, Protocol):
    """Drives what counts, and can choose the free sizes of a model's inputs."""

    def count_shaped(self, target: Target, model: Path, name: str, shapes: Sequence[str]) -> Counts:
        """`count` with inputs of these shapes, written as Sampling has them."""


def find_target(name: str, folder: Path | None = None) -> Target:
    """The target called `name`: of the recipe's folder, of the user's configuration, or built in. Else RecipeError.

    A file without a `kind`, such as a recipe of that name, is passed over; where there is no other, that is the error.
    """
    files = [path for place in _places(folder) if (path := place / f"{name}.yaml").is_file()]
    if files:
        return read_target(next((path for path in files if _describes_a_target(path)), files[0]))
    raise RecipeError(f"there is no target {name!r}", hint=nearest(name, target_names(folder)))


def read_target(path: Path) -> Target:
    """The target that a file describes; RecipeError with line and column where it does not."""
    source = read_yaml(path)
    kind = source.data.get("kind")
    if kind not in target_drivers():
        what = f"{kind!r} is no kind of target" if kind else "a target needs a kind"
        raise RecipeError(what, where=source.where(("kind",)), hint=nearest(str(kind), sorted(target_drivers())))
    driver: Driver = target_drivers()[kind]()
    return Target(path.stem, kind, _settings(driver, source), path)


def _settings(driver: Driver, source: Source) -> TargetSettings:
    return validate(driver.settings, source.data, (), source)


def target_names(folder: Path | None = None) -> list[str]:
    """The names of all targets that can be found from `folder`."""
    found = {path.stem for place in _places(folder) for path in place.glob("*.yaml") if _describes_a_target(path)}
    return sorted(found)


def _describes_a_target(path: Path) -> bool:
    """Recipes stand in the same folder as targets: a target's file has a `kind`, a recipe has none at its top."""
    try:
        text = path.read_text(encoding="utf-8")
        if any(line.startswith("kind:") for line in text.splitlines()):
            return True
        return "kind" in text and "kind" in read_yaml(path).data  # written otherwise: `{kind: cpu}`
    except (OSError, UnicodeDecodeError, RecipeError):
        return False


def _places(folder: Path | None) -> list[Path]:
    own = [] if folder is None else [folder / "targets", folder]
    return [*own, Path(platformdirs.user_config_path("secateur")) / "targets", BUILTIN]


def named(target: str | Target) -> Target:
    """A target by its name, or as it is."""
    return find_target(target) if isinstance(target, str) else target


def measure(
    target: str | Target, model: Path, sampling: Sampling, name: str, timeout_s: float = TIMEOUT_S
) -> Measurement:
    """Run `model` in a fresh process on `target`; `name` is what errors call it. Raises DeviceError."""
    found = named(target)
    driver = found.driver
    if isinstance(driver, CountingDriver):
        raise DeviceError(f"{found.name} measures no time", where=name, hint="its numbers are compared as counts")
    return driver.measure(found, model, sampling, name, timeout_s)


def count(target: str | Target, model: Path, name: str, shapes: Sequence[str] = ()) -> Counts:
    """What `target` counts of `model`; equal models give equal counts, within their `spread`. Raises DeviceError.

    `shapes` are for inputs of free size, as Sampling has them.
    """
    found = named(target)
    driver = found.driver
    if not isinstance(driver, CountingDriver):
        raise DeviceError(f"{found.name} measures times and counts nothing", where=name)
    if not shapes:
        return driver.count(found, model, name)
    if not isinstance(driver, ShapingDriver):
        what = f"{found.name} takes files whose inputs have fixed sizes"
        raise DeviceError(what, where=name, hint="export the model with fixed sizes")
    return driver.count_shaped(found, model, name, shapes)


def probe(target: str | Target, archive: Path, name: str, *, as_is: bool = False) -> Probed:
    """What the models of a zip file cost on `target`, in one fresh process. Raises DeviceError.

    `as_is` is for what `optimized_there` gave: ONNX Runtime leaves these graphs as they are.
    """
    found = named(target)
    return probing_driver(found).probe(found, archive, name, ["--as-is"] if as_is else [])


def optimized_there(target: str | Target, model: Path, name: str) -> bytes:
    """The ONNX file that ONNX Runtime makes of one on `target` before it runs it. Raises DeviceError."""
    found = named(target)
    return b64decode(probing_driver(found).document(found, model, ["--optimized"], name)["optimized"])


def probing_driver(target: Target) -> ProbingDriver:
    """The driver of a target that can go through probes; DeviceError of any other."""
    driver = target.driver
    if not isinstance(driver, ProbingDriver):
        raise DeviceError(f"{target.name} can't go through small probes", hint="name a cpu, ssh or qemu target")
    return driver


def device_fingerprint(target: str | Target) -> dict[str, str]:
    """What numbers of `target` depend on as a device; it enters the key of each measurement. Cheap and offline."""
    found = named(target)
    return found.driver.fingerprint(found)


def run_command(command: Sequence[str], name: str, timeout_s: float) -> Measurement:
    """The measurement that a runner's command line prints; DeviceError for anything else."""
    return measurement_of(run_process(command, name, timeout_s), name)


def measurement_of(done: Ended, name: str) -> Measurement:
    """The measurement that a runner printed before it ended; DeviceError for anything else."""
    from stages.devices.measurement import Measurement

    require_success(done, name, "the device runner", "can't measure this model")
    try:
        return Measurement.model_validate_json(done.stdout)
    except ValidationError as error:
        raise DeviceError(
            f"the device runner printed no valid measurement ({error.error_count()} faults)",
            where=name,
            hint=f"{error.errors()[0]['msg']}; its last words: {last_lines(done.stderr)}",
        ) from error


def document_of(done: Ended, name: str) -> dict[str, Any]:
    """What a runner printed before it ended; DeviceError for anything else."""
    require_success(done, name, "the device runner", "can't run what it was given")
    try:
        return json.loads(done.stdout)  # type: ignore[no-any-return]
    except ValueError as error:
        what = "the device runner printed no valid document"
        raise DeviceError(what, where=name, hint=last_lines(done.stderr)) from error


def series_times(done: Ended, name: str) -> Probed:
    """The median times that a runner printed for the models of an archive; DeviceError for anything else."""
    document = document_of(done, name)
    try:
        runtime = f"{document['runtime']} {document['runtime_version']}"
        return Probed(runtime, tuple(float(median) for median in document["medians_ns"]))
    except (ValueError, KeyError, TypeError) as error:
        what = "the device runner printed no series of times"
        raise DeviceError(what, where=name, hint=last_lines(done.stderr)) from error
