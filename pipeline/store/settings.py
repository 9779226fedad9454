"""Read the user's settings: `settings.yaml` in the configuration folder, such as `~/.config/secateur`.

gc: {automatic: true, max_size: 20GB, keep_days: 30}
"""

from __future__ import annotations

from pathlib import Path

import platformdirs
from pydantic import ByteSize, Field

from pipeline.recipe.errors import validate
from pipeline.recipe.yaml_source import read_yaml
from pipeline.records.values import Value
from pipeline.store.choice import Limits

KEEP_DAYS = 30.0  # if no limit is given at all


class GcSettings(Value):
    """Set what `secateur store gc` keeps, and whether each run ends with it."""

    automatic: bool = False
    max_size: ByteSize | None = None
    keep_days: float | None = Field(None, ge=0)

    def limits(self, max_size: int | None = None, keep_days: float | None = None) -> Limits:
        """Return the limits of a collection: what is given here, else these settings, else 30 days."""
        if max_size is None and keep_days is None:
            max_size, keep_days = self.max_size, self.keep_days
        unlimited = max_size is None and keep_days is None
        return Limits(KEEP_DAYS if unlimited else keep_days, max_size)


class UserSettings(Value):
    """Hold all of the user's settings."""

    gc: GcSettings = GcSettings()


def settings_file() -> Path:
    """Return where the user's settings are, or would be."""
    return Path(platformdirs.user_config_path("secateur", appauthor=False)) / "settings.yaml"


def user_settings() -> UserSettings:
    """Return the user's settings, the defaults if there are none; RecipeError if they are wrong."""
    path = settings_file()
    if not path.is_file():
        return UserSettings()
    source = read_yaml(path)
    return validate(UserSettings, source.data, (), source)
