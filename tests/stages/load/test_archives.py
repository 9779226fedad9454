"""Test malicious files: each is refused before any of it is read, and leaves nothing behind."""

import stat
import zipfile

import h5py
import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


@pytest.fixture
def archive(keras2, residual, tmp_path):
    path = tmp_path / "m.keras"
    residual(keras2).save(path)
    return path


@pytest.fixture
def hdf5(keras2, residual, tmp_path):
    path = tmp_path / "m.h5"
    residual(keras2).save(path)
    return path


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "assets/../../escaped", "C:escaped", "a\\..\\escaped"])
def test_members_that_leave_the_folder(archive, name):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(ModelError, match="outside of its folder") as caught:
        load_model(archive)
    assert "not safe to read" in caught.value.what
    assert not list(archive.parent.parent.glob("escaped"))


def test_a_member_that_is_a_link(archive):
    link = zipfile.ZipInfo("assets/passwords")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ModelError, match="is a link"):
        load_model(archive)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(archive):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("config.json", "{}")
    with pytest.raises(ModelError, match=r"two members 'config\.json'"):
        load_model(archive)


def test_an_archive_that_unpacks_to_too_much(archive):
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file, file.open("assets/zeros", "w") as member:
        for _ in range(300):
            member.write(bytes(2**20))
    assert archive.stat().st_size < 2**20
    with pytest.raises(ModelError, match="would unpack to 314,"):
        load_model(archive)


def test_a_member_longer_than_it_says_fails_by_its_checksum(archive):
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("assets/zeros", bytes(2**20))
    data = bytearray(archive.read_bytes())
    place = data.rfind(b"PK\x01\x02")  # the last member's entry in the directory: its size is 24 bytes on
    data[place + 24 : place + 28] = (1000).to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        load_model(archive)


def test_a_configuration_without_end(archive, monkeypatch):
    monkeypatch.setattr("stages.load.archives.TEXT_BYTES", 1000)
    with pytest.raises(ModelError, match="its configuration has"):
        load_model(archive)


@pytest.mark.parametrize("link", [h5py.SoftLink("/model_weights"), h5py.ExternalLink("other.h5", "/secret")])
def test_hdf5_links(hdf5, link):
    with h5py.File(hdf5.parent / "other.h5", "w") as other:
        other["secret"] = np.arange(3)
    with h5py.File(hdf5, "a") as file:
        file["model_weights/linked"] = link
    with pytest.raises(ModelError, match="model_weights/linked in it is a link"):
        load_model(hdf5)


def test_hdf5_datasets_whose_values_are_elsewhere(hdf5):
    (hdf5.parent / "raw").write_bytes(bytes(400))
    with h5py.File(hdf5, "a") as file:
        file.create_dataset("outside", (100,), "f4", external=[(str(hdf5.parent / "raw"), 0, 400)])
    with pytest.raises(ModelError, match="/outside in it takes its values from another file"):
        load_model(hdf5)
    with h5py.File(hdf5, "a") as file:
        del file["outside"]
        layout = h5py.VirtualLayout((100,), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "x", (100,))
        file.create_virtual_dataset("virtual", layout)
    with pytest.raises(ModelError, match="/virtual in it takes its values from another file"):
        load_model(hdf5)


def test_hdf5_that_unpacks_to_too_much(hdf5):
    with h5py.File(hdf5, "a") as file:
        file.create_dataset("zeros", (2**40,), "f4", chunks=(2**20,), compression="gzip")
    with pytest.raises(ModelError, match=r"would unpack to 4,398,\d+"):
        load_model(hdf5)


def test_links_in_the_weights_inside_an_archive(archive, tmp_path):
    with zipfile.ZipFile(archive) as file:
        entries = {name: file.read(name) for name in file.namelist() if not name.endswith("/")}
    weights = tmp_path / "model.weights.h5"
    weights.write_bytes(entries["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        file["linked"] = h5py.ExternalLink("/etc/passwd", "/")
    entries["model.weights.h5"] = weights.read_bytes()
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)
    with pytest.raises(ModelError, match="linked in it is a link"):
        load_model(archive)
