"""Closed-form transfer: one edit of the image tower's last linear map teaches names their meaning.

With T `(M, D)` the embeddings of the names' prompts, S `(M, D)` those of what the names shall mean
(their descriptions) and w the strength, an un-normalised image embedding e becomes

    e' = e + V (w · S − T) e,    V = K⁻¹ Tᵀ (T K⁻¹ Tᵀ)⁻¹,    K = Σ t_k t_kᵀ / C + ε · tr(·) / D · I

over the embeddings t_k of the C known classes. T V = I, so the names' scores T e' are exactly
w · S e. Of all V with T V = I, this one changes the known classes' scores least in the mean square
(a generalised least squares problem; derivation and limits in docs/closed_form.md). It is a change
of rank M of the last linear map, so an ordinary checkpoint holds it (`models.last_map`).

Everything here is float64 on the CPU: two products and one `(D, D)` solve.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kt_exp.errors import UserError

_LARGEST_CONDITION = 1e10


@dataclass(frozen=True)
class ProjectionEdit:
    """The edit e' = e + V C e of un-normalised image embeddings, of rank M.

    Attributes:
        directions: V, `(D, M)`, float64: along which each name moves the embedding.
        readings: C, `(M, D)`, float64: by how much, read from the embedding.
    """

    directions: Tensor
    readings: Tensor

    def apply(self, embeddings: Tensor) -> Tensor:
        """Return the edited embeddings `(N, D)`, float64, of un-normalised ones `(N, D)`.

        Rows that are scaled stay scaled: of unit-norm embeddings the directions come out right.
        """
        exact = embeddings.double()
        return exact + (exact @ self.readings.T) @ self.directions.T


def known_metric(known: Tensor, ridge: float, others: Tensor | None = None,
                 others_weight: float = 0.0) -> Tensor:
    """Return K, `(D, D)`, float64: the second moment of texts whose scores shall stay, and a ridge.

    Args:
        known: embeddings `(C, D)` of the known classes, unit norm; C = 0, without `others`, gives
            the identity, so that each name moves along its own embedding.
        ridge: ε, above 0, in units of the moment's mean eigenvalue.
        others: embeddings `(B, D)` of texts that stand for all that is not listed, B ≥ 1.
        others_weight: their share in the moment, in [0, 1].
    """
    moment = _moment(known)
    if others is not None:
        moment = (1 - others_weight) * moment + others_weight * _moment(others)
    identity = torch.eye(len(moment), dtype=torch.float64)
    if not moment.any():
        return identity
    return moment + ridge * moment.trace() / len(moment) * identity


def edit_directions(names: Tensor, metric: Tensor, protected: Tensor | None = None) -> Tensor:
    """Return V, `(D, M)`: names · V = I, protected · V = 0, and Vᵀ · metric · V is the least.

    Args:
        names: embeddings `(M, D)` of the names' prompts.
        metric: K of `known_metric`.
        protected: embeddings `(P, D)` of texts whose scores stay exactly as they are, such as names
            taught before.

    Raises:
        UserError: there are more rows than dimensions, or the text encoder cannot tell them apart.
    """
    rows = names.double()
    if protected is not None:
        rows = torch.cat([rows, protected.double()])
    solved = torch.cholesky_solve(rows.T, torch.linalg.cholesky(metric))
    gram = rows @ solved
    _refuse_dependent(rows, gram)
    return torch.linalg.solve(gram, solved, left=False)[:, :len(names)]


def projection_edit(names: Tensor, targets: Tensor, metric: Tensor,
                    strength: Tensor | float = 1.0,
                    protected: Tensor | None = None) -> ProjectionEdit:
    """Return the edit that gives each name `strength` times its target's score.

    All names are solved for at once, so their order does not matter and each name answers to its
    own target alone.

    Args:
        names: embeddings `(M, D)` of the names' prompts, unit norm.
        targets: embeddings `(M, D)` of what they shall mean, unit norm.
        metric: K of `known_metric`.
        strength: w, of all concepts or of each one `(M,)`.
        protected: as for `edit_directions`.

    Raises:
        UserError: as for `edit_directions`.
    """
    directions = edit_directions(names, metric, protected)
    return ProjectionEdit(directions, edit_readings(names, targets, strength))


def extended(earlier: ProjectionEdit, earlier_names: Tensor, names: Tensor, targets: Tensor,
             metric: Tensor, strength: Tensor | float = 1.0) -> ProjectionEdit:
    """Return an edit of the same model that teaches further names on top of an earlier edit.

    The earlier names keep the scores that they were given, exactly, and the new ones get the scores
    of their targets in the unedited model, as if all had been taught together; only the known
    classes' scores change a little more.

    Args:
        earlier_names: embeddings `(P, D)` of the names that `earlier` teaches.
        names, targets, metric, strength: of the new ones, as for `projection_edit`.

    Raises:
        UserError: as for `edit_directions`.
    """
    directions = edit_directions(names, metric, earlier_names)
    seen = names.double() @ earlier.directions @ earlier.readings  # what the edit adds to names
    return ProjectionEdit(torch.cat([earlier.directions, directions], dim=1),
                          torch.cat([earlier.readings,
                                     edit_readings(names, targets, strength) - seen]))


def edit_readings(names: Tensor, targets: Tensor, strength: Tensor | float) -> Tensor:
    """Return C = w · targets − names, `(M, D)`, float64."""
    each = torch.as_tensor(strength, dtype=torch.float64).reshape(-1, 1)
    return each * targets.double() - names.double()


def mean_direction(embeddings: Tensor) -> Tensor:
    """Return the mean of unit-norm embeddings `(P, D)`, made unit norm again, `(D,)`, float64.

    A name's prompts, or the parts of a description, become one embedding by it, as classes do in
    prompt ensembling (Radford et al. 2021, 3.1.4).
    """
    return normalize(embeddings.double().mean(dim=0), dim=-1)


def _moment(texts: Tensor) -> Tensor:
    exact = texts.double()
    return exact.T @ exact / max(1, len(exact))


def _refuse_dependent(rows: Tensor, gram: Tensor) -> None:
    if len(rows) > rows.shape[1]:
        raise UserError("concepts", f"{len(rows)} names are more than the {rows.shape[1]} "
                        "dimensions of the embedding can tell apart",
                        "teach fewer into one model (finetune.scope=each)")
    scale = gram.diagonal().sqrt()
    if torch.linalg.cond(gram / scale[:, None] / scale) > _LARGEST_CONDITION:
        raise UserError("concepts", "the text encoder cannot tell the names apart",
                        "rename one of those that it reads alike, or use finetune.scope=each")
