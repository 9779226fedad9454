"""Weigh the losses of groups once for all targets, and foresee what each target loses."""
