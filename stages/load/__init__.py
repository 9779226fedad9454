"""load: what the user has, as a functional `tf_keras` model in its normal form."""

from stages.load.formats import LoadedModel, load_model

__all__ = ["LoadedModel", "load_model"]
