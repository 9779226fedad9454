from stages.formats.onnx.kernels import Kernel, nodes_of


def node(kind, name, inputs, output):
    import onnx

    return onnx.helper.make_node(kind, inputs, [output], name=name)


def test_a_kernel_holds_the_nodes_that_were_fused_into_it():
    nodes = [
        node("Conv", "Conv_0", ["x", "w"], "a"),
        node("Relu", "Relu_0", ["a"], "b"),
        node("DequantizeLinear", "DequantizeLinear_0", ["k"], "kd"),
        node("Conv", "Conv_1", ["b", "kd"], "c"),
        node("Add", "Add_0", ["c", "b"], "d"),
    ]
    kernels = [
        Kernel("Conv", "b_nchwc", 1.0),  # named after the last node's output tensor
        Kernel("QLinearConv", "Conv_1_token_12", 1.0),  # the addition was fused into the convolution before it
        Kernel("ReorderOutput", "ReorderOutput", 1.0),
    ]
    assert nodes_of(kernels, nodes) == {"b_nchwc": [0, 1], "Conv_1_token_12": [3, 4], "ReorderOutput": []}
