"""UDA's consistency, as loops."""

import math

from tests.oracles.vectors import Row, Rows, log_sum_exp


def consistency(logits: Rows, target_logits: Rows, temperature: float, confidence: float) -> float:
    """Σ over sure rows n of Σ_k q_nk (log q_nk − log p_nk), over N; q = softmax(t/τ), sure: max softmax(t) > β."""
    total = 0.0
    for n in range(len(logits)):
        if max(math.exp(x) for x in log_softmax(target_logits[n])) > confidence:
            log_q = log_softmax([x / temperature for x in target_logits[n]])
            log_p = log_softmax(logits[n])
            for k in range(len(log_p)):
                total += math.exp(log_q[k]) * (log_q[k] - log_p[k])
    return total / len(logits)


def log_softmax(row: Row) -> list[float]:
    return [x - log_sum_exp(row) for x in row]
