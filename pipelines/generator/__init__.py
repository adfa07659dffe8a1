"""A generator of realistic events with the true person behind each."""

from pipelines.generator.generation import generate
from pipelines.generator.population import GeneratorError
from pipelines.generator.source_formats import SOURCE_FORMATS
from pipelines.generator.summary import GeneratorSummary

__all__ = ["SOURCE_FORMATS", "GeneratorError", "GeneratorSummary", "generate"]
