"""Teach a model a concept in one call: `kt_exp.teach`."""

from kt_exp.teaching.closed_form import teach
from kt_exp.teaching.taught import Taught

__all__ = ["Taught", "teach"]
