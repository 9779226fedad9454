"""Define targets: what a benchmark runs on, found by name, and the three operations on one.

A target is a small YAML file, `kind: …` and that kind's settings; each kind's driver is a class in the entry-point
group `secateur.targets`. Targets that measure times return a Measurement of one fresh process (`measure`); the others
return numbers that repeat exactly, or nearly, and are not times (`count`). Whatever a process does on its target
(crash, hang, print nonsense), the outcome is a result or a DeviceError that names the artifact.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import platformdirs
from pydantic import ValidationError

from pipeline.contracts.discovery import target_drivers
from pipeline.errors import DeviceError, RecipeError
from pipeline.recipe.errors import nearest, validate
from pipeline.recipe.yaml_source import YamlSource, read_yaml
from pipeline.records.artifacts import Kind
from pipeline.records.metrics import Metric
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
    """Set how one process samples: at least `min_iterations` inferences, and for `seconds`.

    `shapes` are for inputs of free size: `NAME=1,224,224,3`, or `1,224,224,3` whatever the input is called.
    """

    seconds: float = 0.1
    threads: int = 1
    seed: int = 0
    min_iterations: int = 20
    warmup: int = 5
    shapes: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Return the runner's options."""
        return [
            *("--seconds", repr(self.seconds), "--threads", str(self.threads), "--seed", str(self.seed)),
            *("--min-iterations", str(self.min_iterations), "--warmup", str(self.warmup)),
            *(word for shape in self.shapes for word in ("--shape", shape)),
        ]


PROBING = Sampling(seconds=0.005, min_iterations=30)  # of each of some hundred small models in one process


class TargetSettings(Value):
    """Hold the settings that every kind of target has besides its own."""

    kind: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Hold a target with its settings; `file` is where they were read from."""

    name: str
    kind: str
    settings: Any
    file: Path

    @property
    def driver(self) -> TimingDriver | CountingDriver:
        """Return the driver of its kind."""
        return target_drivers()[self.kind]()  # type: ignore[no-any-return]

    def refuses(self, how: Quantization) -> str | None:
        """Return why it can't take files quantized this way, or None."""
        driver = self.driver
        return driver.refuses(how) if isinstance(driver, ChoosingDriver) else None

    @property
    def counts(self) -> bool:
        """Return whether its numbers are counts or estimates, and not times."""
        return isinstance(self.driver, CountingDriver)

    @property
    def takes_shapes(self) -> bool:
        """Return whether free sizes of inputs can be chosen on it."""
        return not self.counts or isinstance(self.driver, ShapingDriver)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Return the metrics that a benchmark on it can have."""
        return self.driver.metrics

    @property
    def shadow(self) -> str | None:
        """Return a warning if it shadows a built-in target; else None."""
        if self.file.parent == BUILTIN or not (BUILTIN / self.file.name).is_file():
            return None
        return f"target {self.name} is {self.file}, not the built-in one: rename the file if that is not meant"

    @property
    def set_up_command(self) -> str:
        """Return the command that sets it up, with its folder if it would not be found from the current one."""
        first = next((path for folder in _places(Path()) if (path := folder / self.file.name).is_file()), None)
        is_found_here = first is not None and first.resolve() == self.file.resolve()
        return secateur("target", "setup", self.name, *(() if is_found_here else ("--folder", self.file.parent)))

    @property
    def formats(self) -> tuple[Kind, ...]:
        """Return the kinds of artifacts that it takes."""
        return self.driver.formats


class Driver(Protocol):
    """Drive a kind of target; each is a TimingDriver or a CountingDriver."""

    settings: ClassVar[type[TargetSettings]]
    metrics: ClassVar[tuple[Metric, ...]]
    formats: ClassVar[tuple[Kind, ...]]

    def fingerprint(self, target: Target) -> dict[str, str]:
        """Return what its numbers depend on as a device. Cheap, offline; DeviceError if set-up is needed first."""

    def set_up(self, target: Target, say: Say) -> None:
        """Set up, and record what was found; `say` receives progress messages."""


CostUnit = Literal["instructions", "nanoseconds"]


@dataclass(frozen=True, slots=True)
class Probed:
    """Hold what one inference of each model of an archive cost in one process."""

    runtime: str
    costs: tuple[float, ...]


@runtime_checkable
class ProbingDriver(Driver, Protocol):
    """Drive targets that can run an archive of small models in one process."""

    cost_unit: ClassVar[CostUnit]

    def probe(self, target: Target, archive: Path, name: str, options: Sequence[str] = ()) -> Probed:
        """Run the models of a zip file, in order; `options` are more of the runner's."""

    def document(self, target: Target, model: Path, options: Sequence[str], name: str) -> dict[str, Any]:
        """Return what the runner prints of a model there, with these options."""


class TimingDriver(Driver, Protocol):
    """Drive targets with a meaningful clock."""

    def measure(self, target: Target, model: Path, sampling: Sampling, name: str, timeout_s: float) -> Measurement:
        """Measure one model in one fresh process."""


@runtime_checkable
class CountingDriver(Driver, Protocol):
    """Drive targets that count or estimate."""

    def count(self, target: Target, model: Path, name: str) -> Counts:
        """Count or estimate one model."""


@runtime_checkable
class ChoosingDriver(Driver, Protocol):
    """Drive targets that don't compute every scheme correctly."""

    def refuses(self, how: Quantization) -> str | None:
        """Return why files quantized this way are unsuitable, or None; asked before anything runs."""


@runtime_checkable
class ShapingDriver(CountingDriver, Protocol):
    """Drive targets that count, and can choose the free sizes of a model's inputs."""

    def count_shaped(self, target: Target, model: Path, name: str, shapes: Sequence[str]) -> Counts:
        """Count with inputs of these shapes, written as in Sampling."""


def find_target(name: str, folder: Path | None = None) -> Target:
    """Find the target `name`: in the recipe's folder, in the user's configuration, or built in. Else RecipeError.

    A file without a `kind`, such as a recipe of that name, is skipped; if there is no other, that is the error.
    """
    files = [path for directory in _places(folder) if (path := directory / f"{name}.yaml").is_file()]
    if files:
        return read_target(next((path for path in files if _describes_a_target(path)), files[0]))
    raise RecipeError(f"there is no target {name!r}", hint=nearest(name, target_names(folder)))


def read_target(path: Path) -> Target:
    """Read the target that a file describes; RecipeError with line and column if it does not."""
    state = path.stat() if path.is_file() else None
    return _read_target(path, (state.st_mtime_ns, state.st_size) if state else None)


@lru_cache(maxsize=64)
def _read_target(path: Path, _state: tuple[int, int] | None) -> Target:
    """Read a target's file again only where its time or size changed: a plan asks for each target a dozen times."""
    source = read_yaml(path)
    kind = source.data.get("kind")
    if kind not in target_drivers():
        what = f"{kind!r} is not a kind of target" if kind else "a target needs a kind"
        raise RecipeError(what, where=source.where(("kind",)), hint=nearest(str(kind), sorted(target_drivers())))
    driver: Driver = target_drivers()[kind]()
    return Target(path.stem, kind, _settings(driver, source), path)


def _settings(driver: Driver, source: YamlSource) -> TargetSettings:
    return validate(driver.settings, source.data, (), source)


def target_names(folder: Path | None = None) -> list[str]:
    """Return the names of all targets that can be found from `folder`."""
    names = {
        path.stem for directory in _places(folder) for path in directory.glob("*.yaml") if _describes_a_target(path)
    }
    return sorted(names)


def _describes_a_target(path: Path) -> bool:
    """Tell targets from recipes in the same folder: a target's file has a top-level `kind`, a recipe has none."""
    try:
        text = path.read_text(encoding="utf-8")
        if any(line.startswith("kind:") for line in text.splitlines()):
            return True
        return "kind" in text and "kind" in read_yaml(path).data  # different notation: `{kind: cpu}`
    except (OSError, UnicodeDecodeError, RecipeError):
        return False


def _places(folder: Path | None) -> list[Path]:
    own = [] if folder is None else [folder / "targets", folder]
    return [*own, Path(platformdirs.user_config_path("secateur")) / "targets", BUILTIN]


def named(target: str | Target) -> Target:
    """Resolve a target given by name, or return it."""
    return find_target(target) if isinstance(target, str) else target


def measure(
    target: str | Target, model: Path, sampling: Sampling, name: str, timeout_s: float = TIMEOUT_S
) -> Measurement:
    """Run `model` in a fresh process on `target`; `name` is used in errors. Raises DeviceError."""
    resolved = named(target)
    driver = resolved.driver
    if isinstance(driver, CountingDriver):
        raise DeviceError(f"{resolved.name} measures no time", where=name, hint="its numbers are compared as counts")
    return driver.measure(resolved, model, sampling, name, timeout_s)


def count(target: str | Target, model: Path, name: str, shapes: Sequence[str] = ()) -> Counts:
    """Return `target`'s counts of `model`; equal models give equal counts, within their `spread`. Raises DeviceError.

    `shapes` are for inputs of free size, as in Sampling.
    """
    resolved = named(target)
    driver = resolved.driver
    if not isinstance(driver, CountingDriver):
        raise DeviceError(f"{resolved.name} measures times and counts nothing", where=name)
    if not shapes:
        return driver.count(resolved, model, name)
    if not isinstance(driver, ShapingDriver):
        what = f"{resolved.name} takes files whose inputs have fixed sizes"
        raise DeviceError(what, where=name, hint="export the model with fixed sizes")
    return driver.count_shaped(resolved, model, name, shapes)


def probe(target: str | Target, archive: Path, name: str, *, as_is: bool = False) -> Probed:
    """Return the costs of a zip file's models on `target`, in one fresh process. Raises DeviceError.

    `as_is` is for what `optimized_there` returned: ONNX Runtime leaves these graphs unchanged.
    """
    resolved = named(target)
    return probing_driver(resolved).probe(resolved, archive, name, ["--as-is"] if as_is else [])


def optimized_there(target: str | Target, model: Path, name: str) -> bytes:
    """Return the graph, as ONNX, that ONNX Runtime makes of a file on `target` before a run. Raises DeviceError."""
    resolved = named(target)
    return b64decode(probing_driver(resolved).document(resolved, model, ["--optimized"], name)["optimized"])


def probing_driver(target: Target) -> ProbingDriver:
    """Return the driver of a target that can run probes; DeviceError for any other."""
    driver = target.driver
    if not isinstance(driver, ProbingDriver):
        raise DeviceError(f"{target.name} can't go through small probes", hint="name a cpu, ssh or qemu target")
    return driver


def device_fingerprint(target: str | Target) -> dict[str, str]:
    """Return what numbers of `target` depend on as a device; it enters each measurement's key. Cheap and offline."""
    resolved = named(target)
    return resolved.driver.fingerprint(resolved)


def run_command(command: Sequence[str], name: str, timeout_s: float) -> Measurement:
    """Return the measurement that a runner's command line prints; DeviceError for anything else."""
    return measurement_of(run_process(command, name, timeout_s), name)


def measurement_of(done: Ended, name: str) -> Measurement:
    """Return the measurement that a runner printed before it ended; DeviceError for anything else."""
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
    """Return what a runner printed before it ended; DeviceError for anything else."""
    require_success(done, name, "the device runner", "can't run what it was given")
    try:
        return json.loads(done.stdout)  # type: ignore[no-any-return]
    except ValueError as error:
        what = "the device runner printed no valid document"
        raise DeviceError(what, where=name, hint=last_lines(done.stderr)) from error


def series_times(done: Ended, name: str) -> Probed:
    """Return the median times that a runner printed for the models of an archive; DeviceError for anything else."""
    document = document_of(done, name)
    try:
        runtime = f"{document['runtime']} {document['runtime_version']}"
        return Probed(runtime, tuple(float(median) for median in document["medians_ns"]))
    except (ValueError, KeyError, TypeError) as error:
        what = "the device runner printed no series of times"
        raise DeviceError(what, where=name, hint=last_lines(done.stderr)) from error
