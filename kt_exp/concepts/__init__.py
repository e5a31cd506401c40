"""Concepts to learn, and their captions."""

from kt_exp.concepts.concept_sets import (
    Concept,
    ConceptsSettings,
    folder_name,
    load_concepts,
    name_key,
    warn_of_names,
)

__all__ = ["Concept", "ConceptsSettings", "folder_name", "load_concepts", "name_key",
           "warn_of_names"]
