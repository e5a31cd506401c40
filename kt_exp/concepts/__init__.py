"""Concepts to learn, and their captions."""

from kt_exp.concepts.concept_sets import (
    Concept,
    ConceptsSettings,
    folder_name,
    load_concepts,
    name_key,
)

__all__ = ["Concept", "ConceptsSettings", "folder_name", "load_concepts", "name_key"]
