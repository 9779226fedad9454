import os

from hypothesis import settings

# What every recipe has by default, said before TensorFlow starts: a process can't change it afterwards.
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "2"

# The same examples on every machine: what landed once does not fail elsewhere by chance.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")
