"""rate() and increase() worked out once more, from raw samples, by the rules of Prometheus 2 and of 3.

Both widen what the samples of a window show to the whole window. A counter is not widened to before
where it would have been zero. In Prometheus 3 that bound comes last; in 2 it comes before the decision
whether the first sample is so far from the window's start that only half a gap is added. The results
differ where a counter begins near zero in the middle of a window. Samples, as in queries: [[t, "v"], ...].
"""

import re


def widened(samples, start, end, rule):
    """What a counter grew by in (start, end]; None for less than two samples."""
    if len(samples) < 2:
        return None
    times = [t for t, _ in samples]
    values = [float(v) for _, v in samples]
    grown = values[-1] - values[0] + sum(a for a, b in zip(values, values[1:]) if b < a)
    sampled = times[-1] - times[0]
    gap = sampled / (len(samples) - 1)
    before, after = times[0] - start, end - times[-1]
    zero = sampled * values[0] / grown if grown > 0 and values[0] >= 0 else float("inf")
    if rule == 2:
        before = min(before, zero)
        before = before if before < 1.1 * gap else gap / 2
    else:
        before = before if before < 1.1 * gap else gap / 2
        before = min(before, zero)
    after = after if after < 1.1 * gap else gap / 2
    return grown * (sampled + before + after) / sampled


RANGE = re.compile(r"([a-zA-Z_:]+(?:\{[^}]*\})?)\[([0-9smh]+)\](?: offset ([0-9smh]+))?")
SUBQUERY = re.compile(r"\[([0-9smh]+):([0-9smh]+)\]")
UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(text):
    return sum(int(n) * UNITS[u] for n, u in re.findall(r"(\d+)([smh])", text))


def windows(expr, at):
    """(selector, start, end) of all ranges that an expression looks at when it is evaluated at `at`."""
    times = [at]
    for width, step in SUBQUERY.findall(expr):
        width, step = seconds(width), seconds(step)
        first = int((at - width) // step + 1) * step
        times = list(range(first, int(at) + 1, step))
    for selector, width, offset in RANGE.findall(expr):
        for t in times:
            end = t - (seconds(offset) if offset else 0)
            yield selector, end - seconds(width), end


def rules_differ(server, expr, at):
    """Whether 2 and 3 widen any counter differently that this expression looks at."""
    if not re.search(r"\b(rate|increase)\(", expr):
        return False
    for selector, start, end in windows(expr, at):
        width = end - start
        got = server.query(f"{selector}[{int(width * 1000)}ms]", end)
        for e in got["result"]:
            two, three = (widened(e["values"], start, end, rule) for rule in (2, 3))
            if two is not None and abs(two - three) > 1e-9 * max(abs(two), abs(three)):
                return True
    return False
