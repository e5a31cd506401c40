"""Concepts to teach, and the captions made from them."""

from kt_exp.concepts.concept_sets import Concept, ConceptsSettings, load_concepts, name_key

__all__ = ["Concept", "ConceptsSettings", "load_concepts", "name_key"]
