import pytest

from stages.formats.vela.accelerator import EthosU


def test_the_defaults_are_those_of_an_ethos_u55_and_of_no_other():
    assert EthosU(accelerator="ethos-u55-256").system_config == "Ethos_U55_High_End_Embedded"
    for named in ({}, {"system_config": "Ethos_U65_High_End"}, {"memory_mode": "Dedicated_Sram"}):
        with pytest.raises(ValueError, match="ethos-u65-256 needs system_config and memory_mode"):
            EthosU(accelerator="ethos-u65-256", **named)
    named = {"system_config": "Ethos_U65_High_End", "memory_mode": "Dedicated_Sram"}
    assert EthosU(accelerator="ethos-u65-256", **named).memory_mode == "Dedicated_Sram"


def test_an_accelerator_that_vela_does_not_know_is_refused():
    with pytest.raises(ValueError, match="ethos-u55-128"):
        EthosU(accelerator="ethos-u55-64k")
