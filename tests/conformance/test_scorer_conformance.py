"""The suite of scorers on every adapter."""

from collegium.adapters.embedders.static import StaticEmbedder
from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.testing.conformance.scorer import ScorerConformance


class TestLexicalScorer(ScorerConformance):
    def make(self):
        return LexicalScorer()


class TestLexicalScorerWithEmbedder(ScorerConformance):
    def make(self):
        return LexicalScorer(embedder=StaticEmbedder())
