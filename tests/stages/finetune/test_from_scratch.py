import pytest

from stages.finetune.config import Distill, FinetuneConfig, QuantizationAware
from stages.finetune.from_scratch import from_scratch


@pytest.mark.parametrize(
    ("trainings", "source_epochs", "epochs"),
    [
        ([{"epochs": 3}], 0, 3),
        ([{"epochs": 3}, {"epochs": 2}, {"epochs": 2}], 0, 7),
        ([{"epochs": 3}], 40, 43),
        ([{"epochs": 4, "batch": 32}, {"epochs": 3, "batch": 64}], 0, 11),  # half the batch: twice the steps
        ([{"epochs": 1, "batch": 64}, {"epochs": 1, "batch": 48}], 0, 2),  # 1.75 epochs, never fewer steps
    ],
)
def test_it_takes_as_many_steps_as_all_together(trainings, source_epochs, epochs):
    assert from_scratch([FinetuneConfig(**one) for one in trainings], source_epochs).epochs == epochs


def test_all_else_is_as_in_the_last_training():
    first = FinetuneConfig(optimizer="sgd", learning_rate=0.1)
    last = FinetuneConfig(learning_rate=0.02, schedule="cosine", warmup=1, mixup=0.2, distill=Distill(temperature=2))
    scratch = from_scratch([first, last], 0)
    assert scratch == last.model_copy(update={"epochs": 6, "early_stopping": None})


def test_what_suits_trained_weights_only_is_left_out():
    settings = FinetuneConfig(freeze=("conv*",), freeze_batch_norm=True, early_stopping=1)
    scratch = from_scratch([settings], 0)
    assert (scratch.freeze, scratch.freeze_batch_norm, scratch.early_stopping) == ((), False, None)


def test_settings_of_a_quantization_aware_training_are_taken_only_where_there_are_no_others():
    plain = FinetuneConfig(learning_rate=0.02)
    aware = FinetuneConfig(learning_rate=1e-5, quantization_aware=QuantizationAware())
    assert from_scratch([plain, aware], 0).learning_rate == 0.02
    alone = from_scratch([aware], 0)
    assert (alone.learning_rate, alone.quantization_aware) == (1e-5, None)
