"""Random well-typed PromQL, and the small data it asks about.

WHY    What people write is in expressions.yml; what nobody thought of is made here. Both are answered by
       Narthex and by Prometheus over the same samples (test_differential.py).

SHAPE  An expression is a tree of `Node`s; `Gen` makes one from a seed, `minimise` takes it apart again.

RULES  D1  A node knows how far two right implementations may be apart (`noise`):
             0  not at all: stored values and what IEEE arithmetic makes of them, one operation at a time;
             1  by some last digits: sums in another order, logarithms, averages;
             2  by anything relative to itself, as differences of the former are.
           What jumps (comparisons, floor, topk, changes, ...) gets arguments of noise 0 only.
       D2  No sample and no boundary of a window ever share a time: samples are never at .000 or .300 of a
           second, queries always at .300, steps are whole seconds, so windows inside of subqueries are at .000.
           A subquery's own range inside another ends in 500 ms. Then it does not matter whether windows are
           closed on the left (Prometheus 2) or open (Prometheus 3).
       D3  A seed and a number name one expression forever: nothing here depends on time or on hash order.
"""

import random
import re

# A multiple of two hours, less 40 minutes: the data lies in two blocks.
START = 1_700_006_400 - 2400
SECONDS = 4800
STEP = 15

FORBIDDEN_MS = (0, 300, 500)


def off_grid(ms):
    """D2: the nearest later millisecond a sample may have."""
    while ms % 1000 in FORBIDDEN_MS:
        ms += 1
    return ms


def text_of(v):
    if v != v:
        return "NaN"
    if v in (float("inf"), float("-inf")):
        return "+Inf" if v > 0 else "-Inf"
    return repr(v)


JOBS = ("api", "db")
INSTANCES = ("h-1:80", "h-2:80", "h-3:80")
ODD = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 5e-324, 1.5e300, -1.0, 0.1, 1 / 3, 2.0**53, 1e21, 1e-7, -2.5, 2.5, 63.0]
BOUNDS = ("0.1", "0.5", "1.0", "2.5", "+Inf")


def write_data(path, seed=7):
    """Writes the OpenMetrics file. Nothing in it but what the seed says."""
    rnd = random.Random(seed)
    families = {}

    def add(family, kind, name, labels, at_ms, value):
        text = ",".join(f'{k}="{v}"' for k, v in sorted(labels.items()))
        families.setdefault((family, kind), {}).setdefault(f"{name}{{{text}}}", []).append((at_ms, value))

    def times(phase, holes=True):
        """Sample times of one series: jitter, now and then a missing scrape, at most one long hole."""
        hole = rnd.randrange(SECONDS) if holes and rnd.random() < 0.4 else None
        long = rnd.choice((120, 400, 900))
        first = rnd.randrange(SECONDS // 2) if holes and rnd.random() < 0.25 else 0
        last = rnd.randrange(SECONDS // 2, SECONDS) if holes and rnd.random() < 0.25 else SECONDS
        for n in range(SECONDS // STEP):
            at = n * STEP
            if at < first or at > last or (hole is not None and hole <= at < hole + long) or (holes and rnd.random() < 0.01):
                continue
            yield off_grid((START + at) * 1000 + phase + rnd.choice((0, 0, 0, 1, 3, -2, 40)))

    phase = {(j, i): rnd.randrange(100, 15000) for j in JOBS for i in INSTANCES}
    for (job, instance), ph in phase.items():
        base = {"job": job, "instance": instance}
        for at in times(ph):
            add("up", "gauge", "up", base, at, float(rnd.random() < 0.9))
        for at in times(ph):
            add("build", "unknown", "build_info", {**base, "version": "1." + instance[2], "b": "x" if job == "api" else "y"}, at, 1.0)
        for name in ("c0", "c1"):
            for a in ("p", "q", ""):
                labels = {**base, "a": a} if a else base
                value = float(rnd.choice((0, 3, 1000)))
                per = rnd.choice((0, 1, 5, 300))
                for at in times(ph):
                    value = float(rnd.randrange(20)) if rnd.random() < 0.02 else value + rnd.randrange(per + 1)
                    add(name, "counter", name + "_total", labels, at, value)
        for name, quantum in (("g0", 0.25), ("g1", 0.1)):
            for a in ("p", "q"):
                for at in times(ph):
                    add(name, "gauge", name, {**base, "a": a}, at, rnd.randrange(-400, 400) * quantum)
        for at in times(ph):
            add("g2", "gauge", "g2", base, at, float(rnd.randrange(1, 100)))
        for b in ("x", "y"):
            for at in times(ph):
                add("s0", "gauge", "s0", {**base, "b": b}, at, float(rnd.randrange(4)))
        for n, at in enumerate(times(ph)):
            add("odd", "gauge", "odd", base, at, ODD[(n + len(instance) + ord(instance[2])) % len(ODD)])
        for n, at in enumerate(times(ph)):
            if n % 40 < 3:
                add("rare", "gauge", "rare", base, at, float(n))
        counts = [0] * len(BOUNDS)
        total = 0.0
        for at in times(ph, holes=job == "db"):
            if rnd.random() < 0.01:
                counts, total = [0] * len(BOUNDS), 0.0
            for _ in range(rnd.randrange(6)):
                v = rnd.expovariate(1.3)
                total += round(v, 3)
                for k, bound in enumerate(BOUNDS):
                    counts[k] += v <= float(bound)
            for k, bound in enumerate(BOUNDS):
                add("h", "histogram", "h_bucket", {**base, "le": bound}, at, float(counts[k]))
            add("h", "histogram", "h_count", base, at, float(counts[-1]))
            add("h", "histogram", "h_sum", base, at, round(total, 3))
    # Buckets as no library makes them: none is last, counts fall, bounds that are no numbers or below zero.
    for instance, bounds in (("none", ()), ("no-inf", ("1.0", "2.0")), ("falls", ("-1.0", "0.0", "1.0", "+Inf")), ("bad", ("1.0", "x", "+Inf")),
                             ("one", ("+Inf",)), ("twice", ("1.0", "1.00", "+Inf"))):
        for at in times(1234, holes=False):
            for bound in bounds:
                add("w", "unknown", "w_bucket", {"instance": instance, "le": bound}, at, float(rnd.randrange(10)))
            if not bounds:
                add("w", "unknown", "w_bucket", {"instance": instance}, at, 1.0)

    with open(path, "w", encoding="utf-8") as f:
        for (family, kind), series in families.items():
            f.write(f"# TYPE {family} {kind}\n")
            for key, points in series.items():
                last = 0
                for at, value in points:
                    if at > last:
                        f.write(f"{key} {text_of(value)} {at // 1000}.{at % 1000:03d}\n")
                        last = at
        f.write("# EOF\n")


# --- the tree -------------------------------------------------------------------------------------


class Node:
    """`parts` are texts and Nodes; joined they are the expression. `info` is what the known differences ask
    for: the name of a function, the times of a subquery."""

    __slots__ = ("type", "parts", "noise", "kind", "info")

    def __init__(self, type, parts, noise=0, kind="", **info):
        self.type, self.parts, self.noise, self.kind, self.info = type, parts, noise, kind, info

    def __str__(self):
        return "".join(str(p) for p in self.parts)

    @property
    def children(self):
        return [p for p in self.parts if isinstance(p, Node)]

    def walk(self, around=()):
        """Every node with the subqueries around it, outermost first."""
        yield self, around
        inner = around + (self,) if self.kind == "subquery" else around
        for c in self.children:
            yield from c.walk(inner)


def seconds(text):
    """A duration's seconds; only what this file writes."""
    total, number = 0.0, ""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    i = 0
    while i < len(text):
        if text[i].isdigit():
            number += text[i]
            i += 1
            continue
        unit = "ms" if text.startswith("ms", i) else text[i]
        total += int(number) * units[unit]
        number = ""
        i += len(unit)
    return total


METRICS = {
    "up": ("job", "instance"),
    "build_info": ("job", "instance", "version", "b"),
    "c0_total": ("job", "instance", "a"),
    "c1_total": ("job", "instance", "a"),
    "g0": ("job", "instance", "a"),
    "g1": ("job", "instance", "a"),
    "g2": ("job", "instance"),
    "s0": ("job", "instance", "b"),
    "odd": ("job", "instance"),
    "rare": ("job", "instance"),
    "h_bucket": ("job", "instance", "le"),
    "h_count": ("job", "instance"),
    "h_sum": ("job", "instance"),
    "w_bucket": ("instance", "le"),
}
# Without what is infinite or no number: for arithmetic that shall mean something.
TAME = [m for m in METRICS if m != "odd"]
VALUES = {
    "job": ("api", "db", "nobody"),
    "instance": INSTANCES + ("no-inf",),
    "a": ("p", "q", "z"),
    "b": ("x", "y"),
    "le": ("0.5", "1.0", "+Inf"),
    "version": ("1.1", "1.2", "1.9"),
    "missing": ("",),
}
REGEXES = {
    "job": ("api|db", "a.*", ".+", ".*", "", "(?:api|x)", "d[a-c]", "ap(i)?", "API", "(?i:API)", "nobody|api", "^api$", "a|b|c"),
    "instance": ("h-[12]:80", "h-1:80|h-3:80", ".*:80", "h-.*", ".+3.+", "h-(1|2|3):80", "", "h-\\\\d:80", "[^0-9]+.*", "h-1:80|"),
    "a": ("p|q", "p|", ".*", ".+", "", "(p|q|)", "[pq]?", "p.*|z"),
    "b": ("x|y", ".+", "", "x?"),
    "le": (".*", "0\\\\..*", "\\\\+Inf|1\\\\.0", "[0-9.]+"),
    "version": ("1\\\\..", "1.[12]", ""),
    "missing": (".*", "", "x|"),
}

EXACT_MAP = ("abs",)
JUMPING_MAP = ("ceil", "floor", "sgn", "round", "day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year")
SMOOTH_MAP = ("exp", "ln", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
              "deg", "rad", "sqrt")
# Over windows: what is exact over exact samples and indifferent to last digits; what jumps; what adds up; what subtracts.
EXACT_WINDOW = ("min_over_time", "max_over_time", "count_over_time", "last_over_time", "present_over_time", "absent_over_time")
JUMPING_WINDOW = ("changes", "resets", "rate", "increase", "irate")
ADDING_WINDOW = ("sum_over_time", "avg_over_time", "stddev_over_time", "stdvar_over_time", "delta", "idelta", "deriv")
NEW_EXACT_WINDOW = ("first_over_time", "ts_of_first_over_time", "ts_of_last_over_time", "ts_of_max_over_time", "ts_of_min_over_time")
AGGREGATES = {"sum": 2, "avg": 2, "count": 0, "min": None, "max": None, "group": 0, "stddev": 2, "stdvar": 2}
COMPARE = ("==", "!=", ">", "<", ">=", "<=")


class Gen:
    """One random expression. `modern`: the functions that Prometheus 2 has not yet are allowed."""

    def __init__(self, seed, modern=False, start=START, seconds=SECONDS):
        self.r = random.Random(seed)
        self.modern = modern
        self.lo, self.hi = start + 300, start + seconds
        self.left = 0

    def chance(self, p):
        return self.r.random() < p

    def of(self, seq):
        return seq[self.r.randrange(len(seq))]

    def some(self, seq, least=0, most=3):
        n = self.r.randrange(least, min(most, len(seq)) + 1)
        return self.r.sample(list(seq), n)

    def instant(self):
        return self.r.randrange(self.lo, self.hi) + 0.3

    def range(self):
        start = self.r.randrange(self.lo, self.hi - 60)
        step = self.of((1, 7, 15, 30, 60, 61, 240))
        end = min(start + step * self.r.randrange(1, 40), self.hi)
        return start + 0.3, end + 0.3, step

    def expression(self):
        self.left = self.of((2, 4, 6, 9, 14))
        self.depth = 0
        n = self.of((self.flat, self.vector, self.vector, self.vector, self.vector, self.vector, self.vector, self.scalar))(noise=2)
        if n.noise == 0 and n.type == "vector" and self.chance(0.08):
            n = Node("vector", [self.of(("sort", "sort_desc")), "(", n, ")"], 0, "sort")
        elif n.noise == 0 and n.type == "vector" and self.chance(0.06):
            n = self.topk(n)
        elif self.chance(0.01):
            n = self.matrix(noise=0)
        elif self.chance(0.01):
            n = Node("string", ['"s\\t<&>\u00e9"'])
        return n

    # Selectors

    def matcher(self, label):
        op = self.of(("=", "=", "!=", "=~", "=~", "!~"))
        value = self.of(VALUES[label] if op in ("=", "!=") else REGEXES[label])
        return f'{label}{op}"{value}"'

    def matchers(self, name):
        labels = [l for l in METRICS.get(name, VALUES) if l in VALUES]
        if self.chance(0.1):
            labels.append("missing")
        out = [self.matcher(l) for l in self.some(labels, 0, 2)]
        if out and self.chance(0.1):
            out.append(self.matcher(self.of(labels)))
        return out

    def modifiers(self):
        """offset and @, in any order."""
        offset = self.of(("1m", "5m", "7s", "-1m", "33s", "1h")) if self.chance(0.12) else None
        at = None
        if self.chance(0.08):
            at = self.of(("start()", "end()", "%.3f" % self.instant(), "%.3f" % self.instant()))
        texts = [f" offset {offset}"] if offset else []
        if at:
            texts.append(f" @ {at}")
        self.r.shuffle(texts)
        shift = 0.0
        if offset:
            shift = -seconds(offset[1:]) if offset.startswith("-") else seconds(offset)
        return "".join(texts), {"offset": shift, "at": at}

    def selector(self, names=None):
        name = self.of(names or (TAME if self.chance(0.9) else list(METRICS)))
        m = self.matchers(name)
        if self.chance(0.04) and names is None:
            how = self.of(('=~"c._total"', '=~"g0|g1"', '=~"g.+"', '=~"up|s0"'))
            return Node("selector", ["{" + ",".join([f"__name__{how}"] + m) + "}"], kind="selector")
        if m and self.chance(0.05):
            return Node("selector", ["{" + ",".join(m + [f'__name__="{name}"']) + "}"], kind="selector")
        return Node("selector", [name + ("{" + ",".join(m) + "}" if m else "")], kind="selector")

    def instant_selector(self, names=None):
        text, _ = self.modifiers()
        return Node("vector", [self.selector(names), text], kind="instant")

    def subquery(self, noise):
        inner = self.vector(noise)
        step = self.of(("15s", "30s", "1m", "47s", "2m"))
        size = self.of(("1m", "3m", "5m", "10m", "17m"))
        self.depth -= 1
        nested = self.depth > 0
        text, shift = self.modifiers()
        shown = size + ("500ms" if nested else "")
        body = inner if inner.kind in ("instant", "call", "aggregate") else Node("vector", ["(", inner, ")"], inner.noise, "paren")
        if self.chance(0.05):
            step_text, step = "", "1m"
        else:
            step_text = step
        return Node("matrix", [body, f"[{shown}:{step_text}]{text}"], inner.noise, "subquery", range=seconds(shown), step=seconds(step), **shift)

    def matrix(self, noise, names=None):
        if names is None and self.left > 2 and self.depth < 2 and self.chance(0.2):
            self.depth += 1
            return self.subquery(noise)
        text, _ = self.modifiers()
        return Node("matrix", [self.selector(names), f"[{self.of(('16s', '40s', '1m', '2m', '5m', '5m', '10m', '30m', '1h'))}]", text], 0, "range")

    # Scalars

    def number(self):
        return self.of(("0", "1", "2", "3", "0.5", "-1", "10", "100", "1e3", "0.1", "-0.25", "60", "4", "0x10", "Inf", "-Inf", "NaN", "1e-3"))

    def tame_number(self):
        return self.of(("1", "2", "3", "0.5", "10", "100", "0.25", "60", "4"))

    def scalar(self, noise=0):
        if self.left <= 1 or self.chance(0.6):
            return Node("scalar", [self.number()], 0, "number")
        self.left -= 1
        pick = self.r.randrange(6)
        if pick == 0:
            return Node("scalar", ["time()"], 0, "call")
        if pick == 1 and noise >= 1:
            return Node("scalar", ["pi()"], 0, "call")
        if pick == 2:
            v = self.vector(noise)
            return Node("scalar", ["scalar(", v, ")"], v.noise, "call", name="scalar")
        if pick == 3:
            n = self.scalar(noise)
            return Node("scalar", [self.of(("-", "+")), self.paren(n)], n.noise, "unary")
        if pick == 4:
            a, b = self.scalar(0), self.scalar(0)
            return Node("scalar", [self.paren(a), f" {self.of(COMPARE)} bool ", self.paren(b)], 0, "binary")
        return self.arithmetic("scalar", self.scalar(noise), self.scalar(noise), noise)

    def paren(self, n):
        if n.kind in ("binary", "unary") or (n.kind == "number" and str(n)[0] in "-"):
            return Node(n.type, ["(", n, ")"], n.noise, "paren")
        return n

    def arithmetic(self, type, a, b, noise, between=" "):
        op, out = self.operator(a, b, noise)
        return Node(type, [self.paren(a), f" {op}{between}", self.paren(b)], out, "binary", op=op)

    def operator(self, a, b, noise):
        """An arithmetic operator for operands of these noises, and the noise of the result (at most `noise`)."""
        both = max(a.noise, b.noise)
        found = []
        for op in ("+", "-", "*", "/", "%", "^", "atan2"):
            if both == 0:
                out = 1 if op in ("^", "atan2") else 0
            elif op in "+-":
                out = 2
            elif op == "*":
                out = both
            elif op == "/" and b.noise < 2:
                out = both
            else:
                continue
            if out <= noise:
                found.append((op, out))
        return self.of(found)

    # Vectors

    def vector(self, noise):
        """An instant vector of at most this noise."""
        self.left -= 1
        if self.left <= 0:
            return self.instant_selector()
        makers = [(self.instant_selector0, 2), (self.call_map, 3), (self.call_window, 7), (self.aggregate, 7), (self.binary_scalar, 4),
                  (self.binary_same, 3), (self.binary_grouped, 3), (self.binary_info, 2), (self.binary_any, 2), (self.set_op, 3),
                  (self.unary, 1), (self.call_labels, 2), (self.call_misc, 2), (self.histogram, 2)]
        pick = self.r.randrange(sum(w for _, w in makers))
        for make, w in makers:
            if pick < w:
                break
            pick -= w
        return make(noise)

    def instant_selector0(self, noise):
        return self.instant_selector()

    def call_map(self, noise):
        pick = self.r.randrange(4)
        if pick == 0:
            name = self.of(EXACT_MAP)
            v = self.vector(noise)
            return Node("vector", [name, "(", v, ")"], v.noise, "call", name=name)
        if pick == 1 or noise == 0:
            name = self.of(JUMPING_MAP)
            v = self.vector(0)
            if name == "round" and self.chance(0.6):
                return Node("vector", ["round(", v, ", ", Node("scalar", [self.of(("5", "0.1", "0.5", "-2", "10", "0.3"))], 0, "number"), ")"], 0, "call", name=name)
            if name == "year" and self.chance(0.2):
                return Node("vector", [self.of(("year()", "hour()", "minute()", "day_of_week()", "days_in_month()"))], 0, "call", name=name)
            return Node("vector", [name, "(", v, ")"], 0, "call", name=name)
        if pick == 2:
            v = self.vector(noise)
            how = self.r.randrange(3)
            a, b = self.scalar(0), self.scalar(0)
            if how == 0:
                return Node("vector", ["clamp(", v, ", ", a, ", ", b, ")"], v.noise, "call", name="clamp")
            name = ("clamp_min", "clamp_max")[how - 1]
            return Node("vector", [name, "(", v, ", ", a, ")"], v.noise, "call", name=name)
        name = self.of(SMOOTH_MAP)
        v = self.vector(0)
        return Node("vector", [name, "(", v, ")"], 1, "call", name=name)

    def call_window(self, noise):
        pick = self.r.randrange(10)
        if pick < 4:
            names = EXACT_WINDOW + (NEW_EXACT_WINDOW if self.modern else ())
            name = self.of(names)
            # The time of an extreme jumps with last digits, as does whether there is one.
            m = self.matrix(0 if name.startswith("ts_of") else noise)
            return Node("vector", [name, "(", m, ")"], 0 if name[:5] in ("count", "prese", "absen") else m.noise, "call", name=name)
        if pick < 7 or noise < 2:
            usable = JUMPING_WINDOW if noise >= 1 else ("changes", "resets", "irate")
            name = self.of(usable)
            m = self.matrix(0, ("c0_total", "c1_total", "h_count", "h_bucket", "h_sum") if name in ("rate", "increase", "irate") and self.chance(0.7) else None)
            return Node("vector", [name, "(", m, ")"], 1 if name in ("rate", "increase") else 0, "call", name=name)
        pick = self.r.randrange(12)
        if pick == 0:
            m = self.matrix(1)
            return Node("vector", ["predict_linear(", m, ", ", self.scalar(0), ")"], 2, "call", name="predict_linear")
        if pick == 1:
            m = self.matrix(1)
            return Node("vector", ["quantile_over_time(", self.scalar(0), ", ", m, ")"], max(1, m.noise), "call", name="quantile_over_time")
        if pick == 2:
            m = self.matrix(1)
            sf, tf = (self.of(("0.1", "0.5", "0.9", "0.3", "0.999", "0", "1", "NaN") if self.chance(0.2) else ("0.1", "0.5", "0.9", "0.3")) for _ in "ab")
            return Node("vector", ["double_exponential_smoothing(", m, f", {sf}, {tf})"], 2, "call", name="double_exponential_smoothing")
        if pick == 3 and self.modern:
            m = self.matrix(1)
            return Node("vector", ["mad_over_time(", m, ")"], 2, "call", name="mad_over_time")
        name = self.of(ADDING_WINDOW)
        m = self.matrix(1)
        return Node("vector", [name, "(", m, ")"], 0 if name == "idelta" and m.noise == 0 else 2, "call", name=name)

    GROUPS = ("job", "instance", "a", "b", "le", "version", "missing", "__name__")

    def clause(self):
        if self.chance(0.25):
            return ""
        labels = self.some(self.GROUPS, 0, 3)
        if labels and self.chance(0.1):
            return f"{self.of(('by', 'without'))} ({', '.join(labels)},) "
        return f"{self.of(('by', 'by', 'without', 'BY'))} ({', '.join(labels)}) "

    def placed(self, name, clause, inside):
        """The clause before or after the argument."""
        if clause and self.chance(0.3):
            return [name, "(", *inside, ") ", clause.strip()]
        return [name, " " if clause else "", clause, "(", *inside, ")"]

    def aggregate(self, noise):
        pick = self.r.randrange(10)
        if pick == 0:
            v = self.vector(0)
            label = self.of(("v", "job", "a"))
            return Node("vector", self.placed("count_values", self.clause(), [f'"{label}", ', v]), 0, "aggregate", name="count_values")
        if pick == 1 and noise >= 1:
            v = self.vector(min(noise, 1))
            q = self.scalar(0)
            return Node("vector", self.placed("quantile", self.clause(), [q, ", ", v]), 1, "aggregate", name="quantile")
        if pick == 2:
            # Which of equal values topk takes is nobody's promise: what is done with them must not care.
            name = self.of(("min", "max", "count"))
            v = self.vector(0)
            clause = self.clause()
            inner = Node("vector", [self.of(("topk", "bottomk")), " " if clause else "", clause, "(", self.k(), ", ", v, ")"], 0, "aggregate", name="topk")
            return Node("vector", self.placed(name, clause, [inner]), 0, "aggregate", name=name)
        if pick == 3 and self.modern:
            v = self.vector(noise)
            if self.chance(0.5):
                k = self.of(("0.3", "-0.5", "1", "0", "2"))
                return Node("vector", self.placed("limit_ratio", self.clause(), [k, ", ", v]), v.noise, "aggregate", name="limit_ratio")
            clause = self.clause()
            inner = Node("vector", ["limitk", " " if clause else "", clause, "(", self.of(("0", "1", "2", "5")), ", ", v, ")"], v.noise, "aggregate", name="limitk")
            return Node("vector", self.placed("count", clause, [inner]), 0, "aggregate", name="count")
        name = self.of([n for n, out in AGGREGATES.items() if out is None or out <= noise])
        out = AGGREGATES[name]
        v = self.vector(min(noise, 1) if out else noise)
        return Node("vector", self.placed(name, self.clause(), [v]), v.noise if out is None else out, "aggregate", name=name)

    def k(self):
        return self.of(("1", "2", "3", "1.9", "0", "-1", "100"))

    def topk(self, v):
        clause = self.clause()
        return Node("vector", self.placed(self.of(("topk", "bottomk")), clause, [self.k(), ", ", v]), 0, "topk", name="topk")

    def unary(self, noise):
        v = self.vector(noise)
        return Node("vector", [self.of(("-", "-", "+")), self.paren(v)], v.noise, "unary")

    def binary_scalar(self, noise):
        if self.chance(0.4):
            v, s = self.vector(0), self.scalar(0)
            flag = " bool" if self.chance(0.4) else ""
            a, b = (v, s) if self.chance(0.7) else (s, v)
            return Node("vector", [self.paren(a), f" {self.of(COMPARE)}{flag} ", self.paren(b)], 0, "binary")
        v, s = self.vector(noise), self.scalar(min(noise, 1))
        a, b = (v, s) if self.chance(0.7) or v.noise == 2 else (s, v)
        return self.arithmetic("vector", a, b, noise)

    def joined(self, a, b, noise, matching):
        """a OP b with a matching clause, OP being a comparison now and then."""
        if a.noise == b.noise == 0 and self.chance(0.35):
            flag = "bool " if self.chance(0.4) else ""
            return Node("vector", [self.paren(a), f" {self.of(COMPARE)} {flag}{matching}", self.paren(b)], 0, "binary")
        return self.arithmetic("vector", a, b, noise, " " + matching)

    def binary_same(self, noise):
        """Two expressions with the same labels: one metric each, perhaps mapped."""
        def side():
            self.left -= 1
            s = self.instant_selector(("g0", "g1") if two else ("g2", "up", "h_count", "h_sum"))
            if self.chance(0.3):
                return Node("vector", ["abs(", s, ")"], 0, "call", name="abs")
            return s

        two = self.chance(0.6)
        how = self.of(("", "", "on (job, instance, a) ", "ignoring (b) ", "on (instance, job) " if not two else "ignoring (missing) "))
        return self.joined(side(), side(), noise, how)

    def binary_grouped(self, noise):
        labels = self.some(("job", "instance", "a"), 0, 2)

        def side():
            name = self.of([n for n, out in AGGREGATES.items() if out is None or out <= min(noise, 1)])
            v = self.vector(min(noise, 1))
            return Node("vector", [name, f" by ({', '.join(labels)}) (", v, ")"], v.noise if AGGREGATES[name] is None else AGGREGATES[name], "aggregate", name=name)

        matching = self.of(("", f"on ({', '.join(labels)}) ", "ignoring () ", "ignoring (b) "))
        return self.joined(side(), side(), noise, matching)

    def binary_info(self, noise):
        many = self.instant_selector(("c0_total", "g0", "g1", "s0", "h_bucket", "up"))
        one = self.instant_selector(("build_info",)) if self.chance(0.6) else self.instant_selector(("g2", "up"))
        extra = ", ".join(self.some(("version", "b", "missing", "job"), 0, 2))
        on = self.of(("on (job, instance)", "on (job, instance)", "ignoring (a, b, le, version)", "on (instance, job, missing)"))
        self.left -= 2
        if self.chance(0.6):
            return self.joined(many, one, noise, f"{on} group_left ({extra}) ")
        return self.joined(one, many, noise, f"{on} group_right ({extra}) ")

    def binary_any(self, noise):
        """Whatever comes: most of these fail, and both have to."""
        a, b = self.vector(min(noise, 1)), self.vector(min(noise, 1))
        clause = f"{self.of(('on', 'ignoring'))} ({', '.join(self.some(self.GROUPS[:6], 0, 3))}) "
        if self.chance(0.4):
            clause += f"{self.of(('group_left', 'group_right'))}{self.of((' ()', '', ' (version)', ' (a, b)'))} "
        return self.joined(a, b, noise, clause if self.chance(0.7) else "")

    def set_op(self, noise):
        a, b = self.vector(noise), self.vector(2)
        op = self.of(("and", "or", "unless", "AND"))
        if op == "or" and b.noise > noise:
            b = self.instant_selector()
        matching = ""
        if self.chance(0.5):
            matching = f"{self.of(('on', 'ignoring'))} ({', '.join(self.some(self.GROUPS[:6], 0, 3))}) "
        return Node("vector", [self.paren(a), f" {op} {matching}", self.paren(b)], max(a.noise, b.noise) if op == "or" else a.noise, "binary", op=op.lower())

    def call_labels(self, noise):
        v = self.vector(noise)
        if self.chance(0.6):
            dst = self.of(("x", "job", "a", "__name__", "instance"))
            src = self.of(("job", "instance", "a", "missing", "__name__"))
            repl = self.of(("$1", "$1-$1", "", "fixed", "${1}x", "$2", "$0", "$$", "a$1b"))
            regex = self.of((".*", "(.*)", "(.+)", "(.*)-(.*)", "h-(\\\\d).*", "(a)pi|(d)b", "", "zzz", "(?P<n>a.).*"))
            return Node("vector", ["label_replace(", v, f', "{dst}", "{repl}", "{src}", "{regex}")'], v.noise, "call", name="label_replace")
        dst = self.of(("x", "job", "a", "__name__"))
        sources = "".join(f', "{s}"' for s in self.some(("job", "instance", "a", "missing", "__name__"), 0, 3))
        return Node("vector", ["label_join(", v, f', "{dst}", "{self.of(("-", "", "::"))}"{sources})'], v.noise, "call", name="label_join")

    def call_misc(self, noise):
        pick = self.r.randrange(4)
        if pick == 0:
            s = self.scalar(noise)
            return Node("vector", ["vector(", s, ")"], s.noise, "call", name="vector")
        if pick == 1:
            v = self.vector(2)
            return Node("vector", ["absent(", v, ")"], 0, "call", name="absent")
        if pick == 2:
            v = self.instant_selector() if self.chance(0.6) else self.vector(2)
            return Node("vector", ["timestamp(", v, ")"], 0, "call", name="timestamp")
        v = self.instant_selector(("c0_total", "s0", "rare", "odd"))
        return Node("vector", ["(", v, ")"], 0, "paren")

    def histogram(self, noise):
        if noise < 2:
            return self.instant_selector()
        # Quantiles that no count of these few is: a rank on the edge of an empty bucket would jump.
        q = self.of(("0.937", "0.4871", "0.0313", "0.99713", "-1", "2", "NaN"))
        if self.chance(0.3):
            inner = self.instant_selector(("h_bucket", "w_bucket"))
        else:
            inner = Node("vector", [self.of(("rate", "increase", "irate")), "(", self.matrix(0, ("h_bucket", "h_bucket", "w_bucket")), ")"], 1, "call", name="rate")
            self.left -= 1
        if self.chance(0.6):
            inner = Node("vector", [f"sum by (le{self.of(('', ', job', ', instance', ', job, instance'))}) (", inner, ")"], 1, "aggregate", name="sum")
        return Node("vector", [f"histogram_quantile({q}, ", inner, ")"], 2, "call", name="histogram_quantile")

    def flat(self, noise=2):
        """A chain without parentheses: the order of operators decides. Exact operators alone."""
        def atom():
            return self.of(("g0", "g1", "2", "3", "0.5", "-g0", "g1", 'g0{a="p"}', "+ g1", "-2"))

        parts = [atom()]
        for _ in range(self.r.randrange(2, 6)):
            op = self.of(("+", "-", "*", "/", "%", "+", "-", "*", "> bool", "== bool", "<", "and", "or", "unless", "^"))
            if op == "^" and parts[-1].startswith(" ^"):
                op = "*"  # squares are exact, fourth powers are not
            parts.append(f" {op} " + ("2" if op == "^" else atom()))
        return Node("vector", parts, 0, "binary")


def case(seed, number, modern=False):
    """D3: the expression with this number, and the times to ask it for."""
    g = Gen(f"{seed}/{number}", modern)
    node = g.expression()
    return node, g.instant(), g.range()


def random_matchers(seed, number):
    g = Gen(f"matchers/{seed}/{number}")
    out = [g.matcher(l) for l in g.some([k for k in VALUES if k != "missing"], 1, 3)]
    if g.chance(0.4):
        out.append(g.of(('__name__=~"g.|c.*"', '__name__="g0"', '__name__!="g0"', '__name__=~"up|.*_total"', '__name__!~"h_.*"')))
    if g.chance(0.1):
        out.append('missing=""')
    return "{" + ",".join(out) + "}"


# --- making a failing one small --------------------------------------------------------------------


def smaller(node):
    """Variants with one part less, same type. The outermost subtrees come first."""
    def rebuild(n, i, new):
        return Node(n.type, n.parts[:i] + [new] + n.parts[i + 1:], n.noise, n.kind, **n.info)

    for d, _ in node.walk():
        if d is not node and d.type == node.type:
            yield d
    for i, c in enumerate(node.parts):
        if isinstance(c, Node):
            for v in smaller(c):
                yield rebuild(node, i, v)
            text = str(c)
            if c.type == "scalar" and text not in ("1", "2"):
                yield rebuild(node, i, Node("scalar", ["1"], 0, "number"))
            if c.kind == "selector" and "{" in text and not text.startswith("{"):
                yield rebuild(node, i, Node("selector", [text[:text.index("{")]], 0, "selector"))
        elif node.kind in ("instant", "range", "subquery") and (" offset" in c or " @" in c):
            cut = c[:c.index("]") + 1] if "]" in c else ""
            yield Node(node.type, node.parts[:i] + [cut] + node.parts[i + 1:], node.noise, node.kind, **{**node.info, "offset": 0.0, "at": None})
    # One clause less.
    for i, p in enumerate(node.parts):
        if isinstance(p, str) and node.kind == "aggregate" and p.lstrip()[:2].lower() in ("by", "wi"):
            yield Node(node.type, node.parts[:i] + [""] + node.parts[i + 1:], node.noise, node.kind, **node.info)


def minimise(node, still_fails, tries=300):
    """The smallest variant that `still_fails` says yes to."""
    progress = True
    while progress and tries > 0:
        progress = False
        for v in smaller(node):
            tries -= 1
            if tries <= 0:
                break
            if len(str(v)) < len(str(node)) and still_fails(v):
                node, progress = v, True
                break
    return node


# --- expressions that are wrong ---------------------------------------------------------------------

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[0-9]+(?:ms|[smhdwy])(?:[0-9]+(?:ms|[smhdwy]))*|0x[0-9A-Fa-f]+|[0-9.]+(?:e[+-]?[0-9]+)?'
                   r"|[A-Za-z_:][A-Za-z0-9_]*|==|!=|=~|!~|>=|<=|.", re.S)
OTHER_TOKENS = ("(", ")", "[", "]", "{", "}", ",", "+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", "=~", "=", "!", ":", "@", " ", "by", "without", "on",
                "ignoring", "group_left", "group_right", "bool", "offset", "and", "or", "unless", "sum", "topk", "rate", "abs", "time", "up", "5m", "1", "0.5",
                '"x"', '"', "'y'", "`z`", "#", "start", "end", "inf", "nan", "1e", "5mm", "0x", "$", "\\", "~", "&", ";", "\u00e9", "label_replace", "quantile")


def broken(seed, number):
    """A random expression with some tokens changed, taken away, doubled or exchanged: mostly no expression any more."""
    g = Gen(f"broken/{seed}/{number}")
    g.left = g.of((2, 3, 5))
    g.depth = 0
    # The function that was renamed would move all positions behind it.
    tokens = TOKEN.findall(str(g.vector(2)).replace("double_exponential_smoothing", "predict_linear"))
    for _ in range(g.of((1, 1, 1, 2, 3))):
        i = g.r.randrange(len(tokens))
        how = g.r.randrange(5)
        if how == 0 and len(tokens) > 1:
            del tokens[i]
        elif how == 1:
            tokens.insert(i, g.of(OTHER_TOKENS))
        elif how == 2:
            tokens[i] = g.of(OTHER_TOKENS)
        elif how == 3:
            tokens.insert(i, tokens[g.r.randrange(len(tokens))])
        else:
            k = g.r.randrange(len(tokens))
            tokens[i], tokens[k] = tokens[k], tokens[i]
    return "".join(tokens)
