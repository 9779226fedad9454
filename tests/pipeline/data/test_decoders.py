import pytest

from pipeline.data.decoders import decoder
from pipeline.errors import SecateurError
from stages.samples.decoding import decode_images


def test_decoders_are_found_by_what_they_decode():
    assert decoder("image") is decode_images
    with pytest.raises(SecateurError, match="nothing is installed that decodes sounds"):
        decoder("sound")
