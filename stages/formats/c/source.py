"""Write a TFLite file as C source for TensorFlow Lite for Microcontrollers: an aligned array, and a header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from pipeline.errors import DeviceError

A_LINE = 16  # bytes
ALIGNMENT = 16  # bytes: TFLM's requirement for a model's address
ARRAY = re.compile(rb"\{([^{}]*)\};")
NUMBER = re.compile(rb"0x([0-9a-f]{2})")
# Looked up, not formatted byte by byte: a model has millions.
HEX = [f"0x{value:02x}," for value in range(256)]
# Methods of TFLM's MicroMutableOpResolver that are not the operator's name in camel case.
METHODS = {"BATCH_MATMUL": "BatchMatMul", "CUMSUM": "CumSum", "PADV2": "PadV2"}


# TFLite stores a bool in one byte, and C++ does not promise the size of its own.
C_TYPES = {"float32": "float", "bool": "uint8_t"}  # the others have their names in stdint.h
NO_LETTER = re.compile(r"[^A-Z0-9]+")


@dataclass(frozen=True, slots=True)
class Port:
    """Describe an input or output of a file: values are `(stored - zero_point) * scale`, with 0 and 1 for floats."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True, slots=True)
class SourceText:
    """Hold the text of both files."""

    array: bytes
    header: bytes


def c_source(
    data: bytes,
    symbol: str,
    operators: Mapping[str, int],
    arena_bytes: int | None,
    about: str,
    ports: tuple[Sequence[Port], Sequence[Port]] = ((), ()),
    notes: Sequence[str] = (),
) -> SourceText:
    """Write `data` as the array `SYMBOL_data`; `operators` by count, `about` a line that says what it is.

    The header has its size, the arena if it is known, a macro that registers the operators, what is known of the
    `ports` (inputs and outputs, each in the order of the file), and the `notes`.
    """
    header = _header(len(data), symbol, operators, arena_bytes, about, ports, notes)
    return SourceText(_text(_array(data, symbol, about)), _text(header))


def _array(data: bytes, symbol: str, about: str) -> list[str]:
    """Return the lines of the source: the array."""
    capital = symbol.upper()
    lines = (" ".join(HEX[byte] for byte in data[start : start + A_LINE]) for start in range(0, len(data), A_LINE))
    return [
        f"/* {about} */",
        f'#include "{symbol}_data.h"',
        "",
        "#if defined(__GNUC__) || defined(__clang__)",
        f"__attribute__((aligned({ALIGNMENT})))",
        # IAR's compiler for ARM has a pragma in place of the attribute.
        "#elif defined(__ICCARM__)",
        f"#pragma data_alignment = {ALIGNMENT}",
        "#endif",
        f"const unsigned char {symbol}_data[{capital}_DATA_BYTES] = {{",
        *(f"  {line}" for line in lines),
        "};",
    ]


def _header(
    size: int,
    symbol: str,
    operators: Mapping[str, int],
    arena_bytes: int | None,
    about: str,
    ports: tuple[Sequence[Port], Sequence[Port]],
    notes: Sequence[str],
) -> list[str]:
    """Return the lines of the header: all that a program needs to know about the array."""
    capital = symbol.upper()
    arena = [
        "/* What the interpreter needs besides the model, as TFLM allocates it on a 64-bit host; */",
        "/* 32-bit devices need no more. */",
        f"#define {capital}_ARENA_BYTES {arena_bytes}",
        "",
    ]
    return [
        f"/* {about} */",
        f"#ifndef {capital}_DATA_H",
        f"#define {capital}_DATA_H",
        "",
        "#include <stdint.h>",
        "",
        *(f"/* {note} */" for note in notes),
        f"#define {capital}_DATA_BYTES {size}",
        *(arena if arena_bytes is not None else []),
        "/* Operators, with how often each occurs: */",
        *(f"/*   {name} {count} */" for name, count in operators.items()),
        "/* registered with a tflite::MicroMutableOpResolver of so many: */",
        f"#define {capital}_OPERATORS {len(operators)}",
        f"#define {capital}_ADD_OPERATORS(resolver) \\",
        *(f"  (resolver).Add{_method(name)}(); \\" for name in operators),
        "  (void)0",
        "",
        *_port_lines(f"{capital}_INPUT", "input", ports[0]),
        *_port_lines(f"{capital}_OUTPUT", "output", ports[1]),
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        f"extern const unsigned char {symbol}_data[{capital}_DATA_BYTES];",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif",
    ]


def _port_lines(prefix: str, method: str, ports: Sequence[Port]) -> Iterator[str]:
    """Yield the macros of all inputs, or of all outputs, by their place in the file: names imply no order."""
    if not ports:
        return
    yield f"/* What interpreter.{method}(INDEX) is; a real number is (stored - ZERO_POINT) * SCALE. */"
    yield f"#define {prefix}S {len(ports)}"
    names = [NO_LETTER.sub("_", port.name.upper()).strip("_") for port in ports]
    for index, (port, name) in enumerate(zip(ports, names, strict=True)):
        own, text = f"{prefix}_{index}", port.name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        # Two names that differ only in signs would define one macro twice.
        if name and names.count(name) == 1:
            yield f"#define {prefix}_INDEX_{name} {index}"
        yield f'#define {own}_NAME "{text}"'
        yield f"#define {own}_SHAPE {{{', '.join(map(str, port.shape)) or '1'}}}"
        yield f"#define {own}_RANK {len(port.shape)}"
        yield f"#define {own}_ELEMENTS {prod(port.shape)}"
        yield f"#define {own}_TYPE {C_TYPES.get(port.dtype, f'{port.dtype}_t')}"
        yield f"#define {own}_TFLITE_TYPE kTfLite{port.dtype.capitalize().replace('Uint', 'UInt')}"
        yield f"#define {own}_SCALE {_float(port.scale)}"
        yield f"#define {own}_ZERO_POINT ({port.zero_point})"
    yield ""


def _float(value: float) -> str:
    """Format a float constant of C; nine digits distinguish all values of a float."""
    digits = f"{value:.9g}"
    return f"{digits}f" if "." in digits or "e" in digits else f"{digits}.0f"


def bytes_in_source(source: bytes) -> bytes:
    """Return the bytes of the array that `c_source` wrote; DeviceError if there is none."""
    match = ARRAY.search(source)
    if match is None:
        raise DeviceError("the C source holds no array")
    return bytes.fromhex(b"".join(NUMBER.findall(match[1])).decode())


def _method(operator: str) -> str:
    words = operator.split("_")
    return METHODS.get(operator) or "".join(w if w[0].isdigit() else w.capitalize() for w in words)


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
