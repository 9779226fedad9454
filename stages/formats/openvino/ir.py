"""Read the graph in the XML file of an OpenVINO model, and bring it into normal form, without OpenVINO.

OpenVINO numbers what it adds by a counter of the process (`Constant_17471`) and writes its own version into the file,
so that files of equal models differ. In normal form layers are named by their types in the order of the file, and
metadata have a section of their own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import count
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

SECTION = "secateur"
NO_OPERATORS = frozenset({"Const", "Parameter", "Result"})
TYPES: Mapping[str, str] = {  # what weights are stored in, as numpy calls it
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "i16": "int16",
    "i8": "int8",
    "u8": "uint8",
    "i4": "int4",
    "u4": "uint4",
}
MATRIX = 2
HINT = "copy both files of the model, or export it again"


def graph_of(model: Path) -> Element:
    """Return the root of a model's XML file; ModelError if it is damaged."""
    try:
        root = ET.parse(model).getroot()  # noqa: S314 - expat bounds what entities expand to
    except (ET.ParseError, ValueError) as error:  # the latter of an encoding that there is none of
        raise ModelError(f"the OpenVINO model is damaged: {error}", where=str(model), hint=HINT) from error
    if root.tag != "net" or root.find("layers") is None:
        raise ModelError("the OpenVINO model holds no graph: it is damaged", where=str(model), hint=HINT)
    return root


def data_file(model: Path) -> Path:
    """Return the file of a model's constants; ModelError if it is missing or too short, or if the graph is damaged."""
    path = model.with_suffix(".bin")
    if not path.is_file():
        raise ModelError(f"the model's data, {path.name}, is missing", where=str(model), hint=HINT)
    try:
        size = max((int(data.get("offset", 0)) + int(data.get("size", 0)) for data in _constants(model)), default=0)
    except ValueError as error:
        what = f"the OpenVINO model is damaged: a constant has no place ({error})"
        raise ModelError(what, where=str(model), hint=HINT) from error
    if path.stat().st_size < size:
        what = f"the model's data, {path.name}, has {path.stat().st_size} bytes, and the graph reads {size}"
        raise ModelError(what, where=str(model), hint=HINT)
    return path


def metadata_in(root: Element) -> dict[str, str]:
    """Return the metadata of a model."""
    section = root.find(f"rt_info/{SECTION}")
    return {} if section is None else {entry.tag: entry.get("value", "") for entry in section}


def operators_of(root: Element) -> list[Element]:
    """Return the layers that compute something, in the order of the file; those in bodies of loops are not listed."""
    return [layer for layer in root.findall("layers/layer") if layer.get("type") not in NO_OPERATORS]


def reads_in(root: Element) -> list[frozenset[int]]:
    """Return for each operator the places of those whose outputs it reads."""
    places = {layer.get("id"): index for index, layer in enumerate(operators_of(root))}
    reads: list[set[int]] = [set() for _ in places]
    for edge in root.findall("edges/edge"):
        source, reader = places.get(edge.get("from-layer")), places.get(edge.get("to-layer"))
        if source is not None and reader is not None:
            reads[reader].add(source)
    return [frozenset(each) for each in reads]


def operators_counted(root: Element) -> dict[str, int]:
    """Count each operator, those in bodies of loops included."""
    counts = Counter(str(layer.get("type")) for layer in root.iter("layer"))
    return {kind: counts[kind] for kind in sorted(counts) if kind not in NO_OPERATORS}


def weights_in(root: Element) -> dict[str, int]:
    """Count weights by the type that stores them: constants in which two axes or more are longer than one.

    Biases and scales have as many axes as what they are added to, and only one of them is longer than one.
    """
    counts = Counter[str]()
    for data in root.iterfind(".//layer[@type='Const']/data"):
        sizes = [int(size) for size in str(data.get("shape", "")).split(",") if size.strip()]
        kind = TYPES.get(str(data.get("element_type")))
        if kind is not None and sum(size > 1 for size in sizes) >= MATRIX:
            counts[kind] += prod(sizes)
    return {kind: counts[kind] for kind in sorted(counts)}


def in_normal_form(root: Element, metadata: Mapping[str, str]) -> bytes:
    """Return the file of a graph, which is changed in place: equal graphs give equal bytes. It holds `metadata`."""
    numbers: defaultdict[str, Iterator[int]] = defaultdict(count)
    for layer in root.iter("layer"):
        kind = str(layer.get("type"))
        # Outputs need no names of their own here: they are found by those of their ports.
        if kind != "Parameter":  # those are called as in Keras
            layer.set("name", f"{kind}_{next(numbers[kind])}")
    for port in root.iter("port"):
        names = port.get("names", "")
        if names and "\\" not in names:  # which stands before a comma in a name
            # A port's names are a set in OpenVINO, written in an order that differs between processes.
            port.set("names", ",".join(sorted(names.split(","))))
    # It holds the version of OpenVINO that wrote the file.
    for old in root.findall("rt_info"):
        root.remove(old)
    section = ET.SubElement(ET.SubElement(root, "rt_info"), SECTION)
    for name in sorted(metadata):
        ET.SubElement(section, name, value=metadata[name])
    ET.indent(root, "")  # a third of a small file would be tabs
    text: bytes = ET.tostring(root, encoding="us-ascii", xml_declaration=False)
    return b'<?xml version="1.0"?>\n' + text + b"\n"


def _constants(model: Path) -> Iterator[Element]:
    return graph_of(model).iterfind(".//layer[@type='Const']/data")
