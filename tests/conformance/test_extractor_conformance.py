"""The suite of extractors on every adapter."""

from collegium.adapters.extract.extractor import FileExtractor
from collegium.testing.conformance.extractor import ExtractorConformance


class TestFileExtractor(ExtractorConformance):
    def make(self):
        return FileExtractor()
