"""Compile the C source, and read it back."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DeviceError
from stages.formats.c.source import bytes_in_source, c_source


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_compiler_makes_the_same_bytes_of_it_and_aligns_them(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 1001, dtype=np.uint8).tobytes()
    source = c_source(
        data, "net", {"CONV_2D": 3, "PADV2": 1, "CUMSUM": 1}, 4096, "a test", notes=("It keeps a state.",)
    )
    (tmp_path / "net_data.c").write_bytes(source.array)
    (tmp_path / "net_data.h").write_bytes(source.header)
    program = """
    #include <stdint.h>
    #include <stdio.h>
    #include "net_data.h"
    int main(void) {
      fwrite(net_data, 1, NET_DATA_BYTES, stdout);
      return ((uintptr_t)net_data % 16 == 0 && NET_ARENA_BYTES == 4096 && NET_OPERATORS == 3) ? 0 : 1;
    }
    """
    (tmp_path / "main.c").write_text(program)
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "net_data.c", "main.c", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout == data
    text = source.header.decode()
    assert "/* It keeps a state. */" in text
    assert all(f"(resolver).Add{method}();" in text for method in ("Conv2D", "PadV2", "CumSum"))


def test_names_that_c_does_not_take_or_tell_apart_have_their_index_alone() -> None:
    from stages.formats.c.source import Port

    twice = [Port("a/b", (1, 2), "float32"), Port("a.b", (1, 2), "int16", 0.5, -3), Port('say "x"', (1,), "uint8", 2.0)]
    text = c_source(b"", "net", {}, None, "a test", ([], twice)).header.decode()
    assert "INDEX_A_B" not in text
    assert "#define NET_OUTPUT_INDEX_SAY_X 2\n" in text
    assert '#define NET_OUTPUT_2_NAME "say \\"x\\""\n#define NET_OUTPUT_2_SHAPE {1}\n' in text
    assert "#define NET_OUTPUT_1_SCALE 0.5f\n#define NET_OUTPUT_1_ZERO_POINT (-3)\n" in text
    assert "#define NET_OUTPUT_2_TFLITE_TYPE kTfLiteUInt8\n#define NET_OUTPUT_2_SCALE 2.0f\n" in text
    assert "#define NET_OUTPUT_0_TYPE float\n" in text


def test_without_an_array_there_is_no_file() -> None:
    with pytest.raises(DeviceError, match="holds no array"):
        bytes_in_source(b"int main(void) { return 0; }")
