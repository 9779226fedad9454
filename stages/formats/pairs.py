"""Which pairs of format and scheme there are, and why the others are not."""

from __future__ import annotations

from pipeline.records.artifacts import Format
from pipeline.records.schemes import Quantization, Scheme
from stages.formats.tflite.micro_limits import refused_in_micro

NPU_SCHEMES: tuple[Scheme, ...] = ("int8",)


def refusal(target_format: Format, how: Quantization) -> str | None:
    """Why a format can't have a scheme with these settings, or None."""
    match target_format:
        case "onnx":
            return _onnx_refusal(how)
        case "c" if reason := refused_in_micro(how):
            return f"TensorFlow Lite for Microcontrollers can't compute {how.scheme}: {reason}; take int8 or float32"
        case "vela" if how.scheme not in NPU_SCHEMES:
            return "an Ethos-U computes in integers: take int8"
    return _tflite_refusal(how)


def _tflite_refusal(how: Quantization) -> str | None:
    if how.calibration not in (None, "min_max"):
        return f"TFLite's converter takes ranges from least and greatest values only, not by {how.calibration}"
    if how.activations == "unsigned":
        return "activations of TFLite's int8 are signed"
    return None


def _onnx_refusal(how: Quantization) -> str | None:
    if how.qat is not None:
        return "ONNX has no operator for the rounding by channel that tfmot trains with (qat)"
    if how.scheme == "int16x8":
        return "ONNX Runtime has no kernels for 16-bit activations on a CPU"
    if how.scheme == "dynamic" and how.granularity == "per_channel":
        return "ONNX Runtime's dynamic convolution has one scale a kernel (granularity: per_tensor)"
    return None
