"""Make the Vela export for an Ethos-U NPU from the TFLite file of the same model."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.contracts.stage import StageResult
from pipeline.records.artifacts import Artifact
from pipeline.records.facts import QuantizedFacts
from stages.formats.conversion import Context, export_in
from stages.formats.metadata import metadata_of
from stages.formats.tflite import TFLite
from stages.formats.tflite.facts import TFLiteFacts
from stages.formats.vela import compiler as vela
from stages.formats.vela.facts import VelaFacts
from stages.formats.vela.settings import VelaSettings


def compiled_of(context: Context, quantized: QuantizedFacts) -> StageResult:
    """Return Vela's file with its estimates; warns if nothing of the model runs on the NPU."""
    from stages.formats.tflite.convert import with_metadata
    from stages.formats.tflite.tensors import count_operators

    record = export_in(context, TFLite.name)
    made_of, metrics = record.outputs[0], dict(record.metrics)
    facts, data = made_of.facts, context.read_made(made_of, made_of.names[0]).read_bytes()
    assert isinstance(facts, TFLiteFacts)
    device = context.config.of(VelaSettings).vela
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(data)
        compiled = vela.compile_for(device, path, f"{context.axis} model")
    if not compiled.npu_operators:
        context.events.warned(f"nothing of this model runs on the NPU of {device.accelerator}")
    for text in compiled.said:
        context.events.warned(text)
    made = with_metadata(
        compiled.data, metadata_of(context.config, quantized.model_digest, quantized.scheme, vela.PACKAGE)
    )
    # Without an operator on the NPU the estimates are of nothing, and 0 cycles would win every comparison.
    known = {"cycles": compiled.cycles, "sram_bytes": compiled.sram_bytes} if compiled.npu_operators else {}
    estimates = {f"estimated_{name}": value for name, value in known.items()}
    file = context.write("model_vela.tflite", made, "application/vnd.tflite")
    vela_facts = VelaFacts(
        scheme=facts.scheme,
        inputs=facts.inputs,
        outputs=facts.outputs,
        operators=count_operators(made),
        accelerator=device.accelerator,
        system_config=device.system_config,
        memory_mode=device.memory_mode,
        npu_operators=compiled.npu_operators,
        cpu_operators=compiled.cpu_operators,
        on_cpu=compiled.said,
        estimated_cycles=estimates.get("estimated_cycles"),
        estimated_sram_bytes=estimates.get("estimated_sram_bytes"),
    )
    placed = {"estimated_npu_share": compiled.npu_share, "estimated_cpu_operators": float(len(compiled.on_cpu))}
    metrics |= {**estimates, **placed, "size_bytes": float(len(made))}
    return StageResult((Artifact(files=(file,), facts=vela_facts),), metrics)
