from pipeline.contracts.events import ActionEvents, Advanced, Warned
from stages.commands.comparing.absolute import bench
from stages.devices.target import Sampling, find_target


def test_files_take_turns_and_each_has_its_own_figures(make_onnx, operand):
    models, heard = operand(make_onnx(4), make_onnx(200)).models, []
    sampling = Sampling(seconds=0.005, min_iterations=3)
    found = bench(models, find_target("cpu"), sampling, 2, ActionEvents("bench", heard.append))
    assert {runtime.split()[0] for runtime, _ in found} == {"onnxruntime"}
    few, many = (figures for _, figures in found)
    assert many["latency_p50_ms"] > 3 * few["latency_p50_ms"] > 0
    assert few["latency_p50_low_ms"] <= few["latency_p50_ms"] <= few["latency_p50_high_ms"]
    assert [figures["size_bytes"] for figures in (few, many)] == [model.size_bytes for model in models]
    assert [event.what for event in heard if not isinstance(event, Warned)] == ["round 1/2", "round 2/2"]
    assert all(isinstance(event, Advanced | Warned) for event in heard)
