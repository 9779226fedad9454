"""Hold the drivers, one for each kind of device."""
