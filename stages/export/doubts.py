"""What users of an exported file have to know that nothing else tells them."""

from __future__ import annotations

from pipeline.records.artifacts import ONNXFacts, TFLiteFacts
from pipeline.records.weight_types import LEAST_SHARE, NARROW, narrow_share


def doubts_about(facts: TFLiteFacts | ONNXFacts) -> tuple[str, ...]:
    """A sentence for each; none for a file that is what its name says, and is called as any other."""
    doubts, share = [], narrow_share(facts)
    if share is not None and share < LEAST_SHARE:
        said = f"only {share:.0%} of the weights are in {NARROW[facts.scheme][0]}"
        doubts.append(f"{said}: the quantizer has left the others as they were")
    if isinstance(facts, TFLiteFacts) and facts.keeps_state:
        from stages.formats.tflite.recurrent import RESET

        doubts.append(
            f"the file keeps its LSTMs' state from one call to the next; clear it before each sample ({RESET}), "
            "or export: {recurrent: unrolled}"
        )
    return tuple(doubts)
