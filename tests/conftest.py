import os

# What every recipe has by default, said before TensorFlow starts: a process can't change it afterwards.
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "2"
